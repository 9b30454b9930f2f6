//! A site that misbehaves on request: a plain socket server, so that it can also break HTTP itself.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// What to do with a request.
#[derive(Clone)]
pub enum Answer {
    /// 200 with this page.
    Page(String),
    /// This status line, e.g. `500 Internal Server Error`, with a short page.
    Status(&'static str),
    /// A redirect to this address.
    Redirect(String),
    /// Keep the connection open and say nothing.
    Silence,
    /// Close the connection at once.
    HangUp,
    /// Promise more bytes than come.
    CutOff,
}

/// Serves until the test ends; returns the base URL. `answer` is asked with the path and the
/// number of requests for any path so far.
pub fn start(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}/", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    let counter = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, counter) = (answer.clone(), counter.clone());
            thread::spawn(move || {
                // The client may go away at any moment; that ends only this connection.
                let _ = converse(stream, |path| {
                    answer(path, counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                });
            });
        }
    });
    base_url
}

fn converse(stream: TcpStream, answer: impl Fn(&str) -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let Some(path) = request.split(' ').nth(1) else { return Ok(()) };
        let mut header = String::new();
        while header != "\r\n" {
            header.clear();
            if reader.read_line(&mut header)? == 0 {
                return Ok(());
            }
        }
        let (status, extra, length, body) = match answer(path) {
            Answer::Page(html) => ("200 OK", String::new(), html.len(), html),
            Answer::Status(status) => (status, String::new(), 4, "oops".into()),
            Answer::Redirect(to) => ("302 Found", format!("Location: {to}\r\n"), 0, String::new()),
            Answer::CutOff => ("200 OK", String::new(), 10_000, "<html>".into()),
            Answer::HangUp => return Ok(()),
            Answer::Silence => {
                // Until the client gives up.
                reader.read_line(&mut header)?;
                return Ok(());
            }
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{extra}\r\n{body}")?;
        if length != body.len() {
            return Ok(());
        }
    }
}

/// A list page with links to these detail pages.
pub fn list_page(details: &[&str]) -> Answer {
    let product = |detail| {
        format!(
            r#"<article class="product_pod"><div class="image_container">
            <a href="{detail}">x</a></div></article>"#
        )
    };
    Answer::Page(details.iter().map(product).collect())
}

/// A detail page.
pub fn detail_page(title: &str) -> Answer {
    Answer::Page(format!(
        r#"<div class="product_main"><h1>{title}</h1><p class="price_color">£1.00</p></div>"#
    ))
}
