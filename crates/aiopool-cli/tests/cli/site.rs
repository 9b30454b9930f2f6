//! The built-in site: always the same, built like its model, and served as such.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use aiopool_scrape::parse;
use aiopool_scrape::site::{BOOKS_PER_PAGE, LIST_PAGES, Pages, Shop, SiteProcess};
use reqwest::Url;
use scraper::{Html, Selector};

static SHOP: LazyLock<Shop> = LazyLock::new(Shop::new);
static PAGES: LazyLock<Pages> = LazyLock::new(|| Pages::new(&SHOP));

const BASE: &str = "http://127.0.0.1:1/";

fn html(path: &str) -> String {
    let page = PAGES.get(path).unwrap_or_else(|| panic!("no page {path}"));
    String::from_utf8(page.to_vec()).unwrap()
}

fn count(html: &Html, selector: &str) -> usize {
    html.select(&Selector::parse(selector).unwrap()).count()
}

#[test]
fn site_never_changes() {
    // FNV-1a over all pages. Who changes the site on purpose changes this number too.
    let mut pages: Vec<_> = PAGES.iter().collect();
    pages.sort();
    let bytes = pages.iter().flat_map(|(path, html)| path.bytes().chain(html.iter().copied()));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(hash, 0xb069_06f8_6f64_6ea5, "{hash:#x}");
}

#[test]
fn pages_have_the_size_of_the_model() {
    let (mut lists, mut details) = (0, 0);
    for (path, html) in PAGES.iter() {
        let range = if path.starts_with("catalogue/page-") {
            lists += 1;
            44_000..56_000
        } else {
            details += 1;
            6_000..13_000
        };
        assert!(range.contains(&html.len()), "{path}: {} bytes", html.len());
    }
    assert_eq!((lists, details), (50, 1_000));
}

#[test]
fn lists_lead_to_every_book_once_and_parsing_gives_the_shop() {
    let mut seen = HashSet::new();
    let mut books = Vec::new();
    for page in 1..=LIST_PAGES {
        let path = format!("catalogue/page-{page}.html");
        let url = Url::parse(BASE).unwrap().join(&path).unwrap();
        let links = parse::list(&html(&path), &url).unwrap();
        assert_eq!(links.len(), BOOKS_PER_PAGE as usize);
        for link in links {
            let path = link.strip_prefix(BASE).expect("links stay on the site").to_owned();
            books.push(parse::detail(&html(&path)).unwrap());
            assert!(seen.insert(path), "{link} is there twice");
        }
    }
    assert_eq!(books.len(), 1_000);
    assert!(books.iter().eq(SHOP.books(LIST_PAGES)));
}

#[test]
fn list_pages_have_sidebar_pager_and_relative_links() {
    for (page, previous, next) in [(1, 0, 1), (25, 1, 1), (50, 1, 0)] {
        let text = html(&format!("catalogue/page-{page}.html"));
        assert!(!text.contains("http://"), "only relative links");
        let html = Html::parse_document(&text);
        assert_eq!(count(&html, "div.side_categories ul ul li a"), 50);
        assert_eq!(count(&html, "article.product_pod p.price_color"), 20);
        assert_eq!(count(&html, "ul.pager li.previous a"), previous);
        assert_eq!(count(&html, "ul.pager li.next a"), next);
        assert!(text.contains(&format!("Page {page} of 50")));
    }
}

#[test]
fn books_have_what_real_ones_have() {
    let books: Vec<_> = SHOP.books(LIST_PAGES).collect();
    let without = books.iter().filter(|book| book.description.is_empty()).count();
    assert!((5..50).contains(&without), "{without} without description");
    for book in &books {
        let pounds = book.price.strip_prefix('£').and_then(|price| price.parse::<f64>().ok());
        assert!(pounds.is_some_and(|pounds| (10.0..60.0).contains(&pounds)), "{}", book.price);
        let words = book.description.split_whitespace().count();
        assert!(words == 0 || (100..400).contains(&words), "{words} words");
    }
    for wanted in ['“', '’', '–', '…', 'é', 'ß', 'Ł', '&', '¡'] {
        assert!(books.iter().any(|book| book.description.contains(wanted)), "{wanted} is used");
    }
    assert!(books.iter().any(|book| book.title.contains('&')));
    assert!(books.iter().any(|book| book.title.contains('ñ')));
    let first = SHOP.books(2);
    assert_eq!(first.count(), 40);
}

#[test]
fn detail_pages_have_a_product_table_and_other_prices() {
    let (path, text) = PAGES.iter().find(|(path, _)| path.contains("_1000/")).unwrap();
    let html = Html::parse_document(str::from_utf8(text).unwrap());
    assert_eq!(count(&html, "table.table-striped tr"), 7, "{path}");
    assert!(count(&html, "p.price_color") > count(&html, "div.product_main p.price_color"));
}

/// One request on a connection of its own; the answer as it came over the wire.
fn request(base_url: &str, path: &str) -> String {
    let address = base_url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn site_process_serves_the_pages_and_ends_when_dropped() {
    let executable = Path::new(env!("CARGO_BIN_EXE_aiopool"));
    let site = SiteProcess::start(executable, Duration::ZERO).unwrap();
    let answer = request(site.base_url(), "/catalogue/page-7.html");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/html"), "{head}");
    assert_eq!(body, html("catalogue/page-7.html"));

    let answer = request(site.base_url(), "/catalogue/page-51.html");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = request(site.base_url(), "/").to_lowercase();
    assert!(answer.contains("location: /catalogue/page-1.html"), "{answer}");

    let pid = site.pid();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    drop(site);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn site_that_does_not_start_is_an_error() {
    let missing = Path::new("/no/such/aiopool");
    let error = format!("{:#}", SiteProcess::start(missing, Duration::ZERO).unwrap_err());
    assert!(error.contains("/no/such/aiopool"), "{error}");
    let silent = Path::new("/bin/true");
    let error = format!("{:#}", SiteProcess::start(silent, Duration::ZERO).unwrap_err());
    assert!(error.contains("ended before it served"), "{error}");
}
