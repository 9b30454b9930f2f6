//! Makes a document of a page's text, in pieces: the other pages of the worker have their turn
//! between two, and a page that takes too long is given up.
//!
//! A page of deeply nested tags takes the parser, html5ever, a time that grows with the square of
//! its length: half a megabyte of `<ul><li>` takes more than a minute.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use anyhow::bail;
use html5ever::driver::parse_document;
use html5ever::tendril::TendrilSink;
use scraper::{Html, HtmlTreeSink};

/// Bytes that the parser is given at a time. An ordinary page has some tens of such pieces; one piece
/// of the worst page within the limit takes some hundredths of a second.
const PIECE: usize = 1024;
/// How long this goes on before the worker's other pages have their turn.
const TURN: Duration = Duration::from_millis(2);

/// Parses `text`, for at most `limit` of computing.
///
/// # Errors
///
/// When the limit is reached, with how far it came.
///
/// # Cancel safety
///
/// Dropping it drops what was parsed; nothing else is touched.
pub async fn document(text: &str, limit: Duration) -> anyhow::Result<Html> {
    let mut parser = parse_document(HtmlTreeSink::new(Html::new_document()), Default::default());
    let (mut rest, mut used, mut turn) = (text, Duration::ZERO, Duration::ZERO);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        let began = Instant::now();
        parser.process(piece.into());
        let took = began.elapsed();
        rest = after;
        used += took;
        turn += took;
        if used > limit && !rest.is_empty() {
            bail!(
                "the page takes too long to read: {} of its {} bytes took {} ms, the limit of \
                 computing for one page",
                text.len() - rest.len(),
                text.len(),
                limit.as_millis()
            );
        }
        if turn > TURN {
            turn = Duration::ZERO;
            tokio::task::yield_now().await;
        }
    }
    if used > limit / 2 {
        tracing::warn!(
            bytes = text.len(),
            ms = used.as_millis() as u64,
            limit_ms = limit.as_millis() as u64,
            "a page took more than half of the computing that one page may take"
        );
    }
    Ok(parser.finish())
}

#[cfg(test)]
mod tests {
    use super::{Duration, PIECE, document};

    #[tokio::test]
    async fn pieces_make_the_document_that_the_whole_makes() {
        let word = "Straße & „Café“ <b>fett</b> 日本 ";
        let page = format!("<!doctype html><title>x</title><p>{}", word.repeat(3 * PIECE / 20));
        let whole = scraper::Html::parse_document(&page);
        let pieces = document(&page, Duration::from_secs(60)).await.unwrap();
        assert!(pieces == whole, "the pieces make another document");
    }

    #[tokio::test]
    async fn a_page_that_takes_too_long_is_given_up_and_the_rest_has_its_turn() {
        let page = "<ul><li>".repeat(1 << 17);
        let mut turns = 0;
        let others = async {
            loop {
                turns += 1;
                tokio::task::yield_now().await;
            }
        };
        let error = tokio::select! {
            biased;
            read = document(&page, Duration::from_millis(300)) => read.unwrap_err().to_string(),
            () = others => unreachable!("it goes on for ever"),
        };
        assert!(error.contains("of its 1048576 bytes took 300 ms"), "{error}");
        assert!(turns > 1, "{turns} turns beside it");
    }
}
