//! What the scrape makes of the web as it is: charsets, encodings, busy sites, cookies, pages that
//! are hard to read. The site is a socket that answers what a test says, byte by byte.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aiopool_scrape::{fetch, fetch_detail, fetch_list};

/// A request: how often its path was asked for, this time included, and its head.
struct Request {
    count: u32,
    head: String,
}

/// Serves `answer(path, request)` for as long as the process lives; gives the address.
fn site(answer: impl Fn(&str, Request) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (answer, counts) = (Arc::new(answer), Arc::new(Mutex::new(HashMap::new())));
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (answer, counts) = (answer.clone(), counts.clone());
            thread::spawn(move || {
                let mut reader = BufReader::new(connection.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let count = {
                    let mut counts = counts.lock().unwrap();
                    let count = counts.entry(path.clone()).or_insert(0);
                    *count += 1;
                    *count
                };
                let _ = (&connection).write_all(&answer(&path, Request { count, head }));
            });
        }
    });
    address
}

/// An answer with these header lines, each ended by `\r\n`.
fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn book(title: &str) -> String {
    format!(
        "<div class='product_main'><h1>{title}</h1><p class='price_color'>£51.77</p></div>\
         <div id='product_description'></div><p>Größe</p>"
    )
}

const PAGE: &str = "Content-Type: text/html\r\n";

#[tokio::test]
async fn a_latin_1_page_keeps_its_characters() {
    let latin1 = |text: &str| text.chars().map(|c| c as u32 as u8).collect::<Vec<u8>>();
    let base = site(move |_, _| {
        answer("200 OK", "Content-Type: text/html; charset=iso-8859-1\r\n", &latin1(&book("Café")))
    });
    let book = fetch_detail(base).await.unwrap();
    assert_eq!((&*book.title, &*book.price, &*book.description), ("Café", "£51.77", "Größe"));
}

#[tokio::test]
async fn a_page_that_is_not_what_it_says_fails_and_is_not_mangled() {
    let base = site(|_, _| {
        let headers = "Content-Type: text/html; charset=utf-8\r\n";
        answer("200 OK", headers, b"<div class='product_main'><h1>Caf\xE9</h1>")
    });
    let error = fetch_detail(base).await.unwrap_err().to_string();
    assert!(error.contains("not the UTF-8 that its header says"), "{error}");
}

// `<div class="product_main"><h1>Café</h1><p class="price_color">£51.77</p></div>` after another.
#[rustfmt::skip]
const GZIP: &[u8] = b"\x1F\x8B\x08\x00\x00\x00\x00\x00\x00\x03\xB3\xC9\x30\xB4\xAB\xB0\xD1\xCF\x30\xB4\xB3\x49\xC9\x2C\x53\x48\xCE\x49\x2C\x2E\xB6\x55\x2A\x28\xCA\x4F\x29\x4D\x2E\x89\xCF\x4D\xCC\xCC\x53\xB2\xB3\xC9\x30\xB4\x73\x4E\x4C\x3B\xBC\x12\xA2\xAE\x00\xA1\x2A\x33\x39\x35\x3E\x39\x3F\x27\xBF\x48\xC9\xEE\xD0\x62\x53\x43\x3D\x73\x73\x1B\xFD\x02\x3B\x1B\xFD\x94\xCC\x32\x3B\x00\x05\x13\x4F\xE0\x5A\x00\x00\x00";
#[rustfmt::skip]
const DEFLATE: &[u8] = b"\x78\x9C\xB3\xC9\x30\xB4\xAB\xB0\xD1\xCF\x30\xB4\xB3\x49\xC9\x2C\x53\x48\xCE\x49\x2C\x2E\xB6\x55\x2A\x28\xCA\x4F\x29\x4D\x2E\x89\xCF\x4D\xCC\xCC\x53\xB2\xB3\xC9\x30\xB4\x73\x4E\x4C\x3B\xBC\x12\xA2\xAE\x00\xA1\x2A\x33\x39\x35\x3E\x39\x3F\x27\xBF\x48\xC9\xEE\xD0\x62\x53\x43\x3D\x73\x73\x1B\xFD\x02\x3B\x1B\xFD\x94\xCC\x32\x3B\x00\x73\xC1\x1E\xB0";
#[rustfmt::skip]
const BROTLI: &[u8] = b"\x1B\x59\x00\x40\x2C\x0F\x8C\x1B\x67\x90\x2D\x6A\xE8\x61\x49\xF7\x48\x32\x26\xBE\xAE\xB9\xE1\x11\x56\xA3\xA9\x85\x06\x97\x31\x43\x78\xE9\x12\x66\x96\x3E\x5F\x63\xFD\x55\x96\x36\xCC\x03\x2E\xBE\x9C\x39\x29\xD6\x38\x97\x3C\xC6\x9E\x71\xC9\xC0\xE6\xF0\x8C\x8A\x80\x13\xA9\x28\x43\x7D\xE5\x84\xDA\x2E\x48\xDF\x40\x63\x00";

#[tokio::test]
async fn a_site_that_always_compresses_is_read() {
    let base = site(|path, request| {
        assert!(request.head.to_lowercase().contains("accept-encoding: "), "{}", request.head);
        let (name, body) = match path {
            "/gzip" => ("gzip", GZIP),
            "/deflate" => ("deflate", DEFLATE),
            "/br" => ("br", BROTLI),
            _ => ("compress", GZIP),
        };
        answer("200 OK", &format!("{PAGE}Content-Encoding: {name}\r\n"), body)
    });
    for name in ["gzip", "deflate", "br"] {
        let book = fetch_detail(format!("{base}/{name}")).await.unwrap();
        assert_eq!((&*book.title, &*book.price), ("Café", "£51.77"), "{name}");
    }
    let error = fetch_detail(format!("{base}/compress")).await.unwrap_err().to_string();
    assert!(error.contains("encoding \"compress\", which was not asked for"), "{error}");
}

#[tokio::test]
async fn a_busy_site_is_asked_again_when_it_says() {
    let base = site(|path, request| match (path, request.count) {
        ("/later", 1) => answer("429 Too Many Requests", "Retry-After: 1\r\n", b""),
        ("/then", 1) => {
            // Whole seconds: one and a half from now is at least one.
            let then = SystemTime::now() + Duration::from_millis(2_000);
            let date = httpdate::fmt_http_date(then);
            answer("503 Service Unavailable", &format!("Retry-After: {date}\r\n"), b"")
        }
        ("/soon", 1 | 2) => answer("429 Too Many Requests", "", b""),
        ("/tomorrow", _) => answer("429 Too Many Requests", "Retry-After: 86400\r\n", b""),
        _ => answer("200 OK", PAGE, book("late").as_bytes()),
    });
    for (path, least) in [("/later", 1_000), ("/then", 900), ("/soon", 50)] {
        let began = Instant::now();
        assert_eq!(fetch_detail(format!("{base}{path}")).await.unwrap().title, "late");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(least), "{path}: asked again after {took:?}");
    }
    let error = format!("{:#}", fetch_detail(format!("{base}/tomorrow")).await.unwrap_err());
    assert!(error.contains("come back in 86400 s") && error.contains("429"), "{error}");
}

#[tokio::test]
async fn links_go_by_the_base_of_the_page() {
    let links = "<article class='product_pod'><div class='image_container'><a href='b/1.html'></a>";
    let base = site(move |path, _| {
        let base = if path == "/plain" { "" } else { "<base href='/shop/'><base href='/wrong/'>" };
        answer("200 OK", PAGE, format!("{base}{links}").as_bytes())
    });
    let list = |path| fetch_list(format!("{base}{path}"));
    assert_eq!(list("/based").await.unwrap(), [format!("{base}/shop/b/1.html")]);
    assert_eq!(list("/plain").await.unwrap(), [format!("{base}/b/1.html")]);
}

#[tokio::test]
async fn a_redirect_that_sets_a_cookie_is_followed_with_it() {
    let base = site(|path, request| match path {
        "/enter" => answer("302 Found", "Location: /in?b=é\r\nSet-Cookie: seen=1\r\n", b""),
        _ if request.head.to_lowercase().contains("cookie: seen=1") => {
            answer("200 OK", PAGE, book("inside").as_bytes())
        }
        _ => answer("302 Found", "Location: /enter\r\n", b""),
    });
    assert_eq!(fetch_detail(format!("{base}/enter")).await.unwrap().title, "inside");
    assert_eq!(fetch_detail(format!("{base}/start")).await.unwrap().title, "inside");
}

#[tokio::test]
async fn a_page_that_is_hard_to_read_fails_and_leaves_the_others_alone() {
    let base = site(|path, _| match path {
        "/deep" => answer("200 OK", PAGE, "<ul><li>".repeat(65_536).as_bytes()),
        _ => answer("200 OK", PAGE, book("easy").as_bytes()),
    });
    fetch::configure(fetch::FetchOptions {
        compute_limit: Duration::from_millis(500),
        ..Default::default()
    });
    let deep = fetch_detail(format!("{base}/deep"));
    let easy = futures_util::future::join_all((0..20).map(|n| fetch_detail(format!("{base}/{n}"))));
    let (deep, easy) = futures_util::future::join(deep, easy).await;
    let error = deep.unwrap_err().to_string();
    assert!(error.contains("takes too long to read") && error.contains("500 ms"), "{error}");
    assert!(easy.into_iter().all(|book| book.unwrap().title == "easy"));
}
