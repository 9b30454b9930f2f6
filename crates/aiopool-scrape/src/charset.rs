//! The character encoding of a page, found as a browser finds it, and the page's text.
//!
//! In the order of the HTML standard, "determining the character encoding": a byte order mark, the
//! `charset` of the header, what the first 1,024 bytes declare. A page that declares nothing is UTF-8
//! if its bytes are; otherwise the detector that Firefox uses guesses from the whole page.
#![forbid(unsafe_code)]

use std::sync::LazyLock;

use anyhow::bail;
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use scraper::{Html, Selector};

/// How far into a page the standard looks for a declaration.
const PRESCAN_BYTES: usize = 1024;

/// Decodes `body`, whose header declared `content_type`.
///
/// # Errors
///
/// When the bytes are not of the page's encoding: no character is replaced by U+FFFD without a
/// word.
pub fn decode(body: Vec<u8>, content_type: Option<&str>) -> anyhow::Result<String> {
    let (encoding, found) = encoding_of(&body, content_type);
    if encoding == UTF_8 {
        // A byte order mark is no part of the text.
        let body = body.strip_prefix(b"\xEF\xBB\xBF").map_or(body.as_slice(), |rest| rest);
        match std::str::from_utf8(body) {
            Ok(text) => return Ok(text.to_owned()),
            Err(error) => bail!(
                "the page is not the UTF-8 that {found}: byte {} is no part of a character",
                error.valid_up_to()
            ),
        }
    }
    let (text, malformed) = encoding.decode_with_bom_removal(&body);
    if malformed {
        bail!("the page is not the {} that {found}: some bytes are no character", encoding.name());
    }
    Ok(text.into_owned())
}

/// The encoding of `body`, and what it was found by, as the end of a sentence.
fn encoding_of(body: &[u8], content_type: Option<&str>) -> (&'static Encoding, &'static str) {
    if let Some((encoding, _)) = Encoding::for_bom(body) {
        return (encoding, "its byte order mark says");
    }
    if let Some(encoding) = content_type.and_then(charset_of) {
        return (encoding, "its header says");
    }
    if let Some(encoding) = declared(&body[..body.len().min(PRESCAN_BYTES)]) {
        return (encoding, "it says itself");
    }
    if std::str::from_utf8(body).is_ok() {
        return (UTF_8, "its bytes are");
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(body, true);
    (detector.guess(None, Utf8Detection::Deny), "its bytes look like, since it declares nothing")
}

/// The encoding that a `Content-Type` names.
fn charset_of(content_type: &str) -> Option<&'static Encoding> {
    let parameters = content_type.split(';').skip(1);
    let mut pairs = parameters.filter_map(|parameter| parameter.split_once('='));
    let (_, label) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Encoding::for_label(label.trim().trim_matches(['"', '\'']).as_bytes())
}

/// The encoding that the page's beginning declares in an XML declaration or a `<meta>`.
fn declared(start: &[u8]) -> Option<&'static Encoding> {
    // Names of encodings and tags are ASCII, which this decoding keeps and never fails at.
    let (text, _) = WINDOWS_1252.decode_without_bom_handling(start);
    let encoding = in_xml_declaration(&text).or_else(|| in_meta(&text))?;
    // A page whose tags can be read byte by byte is not UTF-16, whatever it says.
    Some(if encoding == UTF_16BE || encoding == UTF_16LE { UTF_8 } else { encoding })
}

fn in_xml_declaration(text: &str) -> Option<&'static Encoding> {
    let declaration = text.strip_prefix("<?xml")?.split_once('>')?.0;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    Encoding::for_label(value[1..].split_once(quote)?.0.as_bytes())
}

fn in_meta(text: &str) -> Option<&'static Encoding> {
    static META: LazyLock<Selector> =
        LazyLock::new(|| Selector::parse("meta").expect("the selector is a valid constant"));
    // Most pages have a header that says it, and do not come here.
    let html = Html::parse_document(text);
    html.select(&META).find_map(|meta| {
        let meta = meta.value();
        if let Some(label) = meta.attr("charset") {
            return Encoding::for_label(label.as_bytes());
        }
        let pragma = meta.attr("http-equiv")?;
        let content =
            meta.attr("content").filter(|_| pragma.eq_ignore_ascii_case("content-type"))?;
        charset_of(content)
    })
}

#[cfg(test)]
mod tests {
    use super::decode;

    fn text(body: &[u8], content_type: Option<&str>) -> String {
        decode(body.to_vec(), content_type).unwrap()
    }

    #[test]
    fn the_header_decides_before_the_page() {
        let page = b"<meta charset=utf-8><p>Caf\xE9 \x80";
        assert!(text(page, Some("text/html; charset=ISO-8859-1")).ends_with("Café €"));
        assert!(text(page, Some("text/html;x=y; CHARSET = \"latin1\"")).ends_with("Café €"));
        let cyrillic = b"\xCF\xF0\xE8\xE2\xE5\xF2";
        assert_eq!(text(cyrillic, Some("text/html; charset=windows-1251")), "Привет");
    }

    #[test]
    fn a_byte_order_mark_decides_before_the_header() {
        let latin1 = Some("text/html; charset=latin1");
        assert_eq!(text(b"\xEF\xBB\xBFCaf\xC3\xA9", latin1), "Café");
        assert_eq!(text(b"\xFF\xFEC\0a\0f\0\xE9\0", latin1), "Café");
        assert_eq!(text(b"\xFE\xFF\0C\0a\0f\0\xE9", latin1), "Café");
    }

    #[test]
    fn a_page_may_say_it_itself() {
        let pages: [&[u8]; 5] = [
            b"<!doctype html><head><meta charset='windows-1252'><p>Caf\xE9",
            b"<html><META http-equiv=Content-Type content='text/html; charset=iso-8859-15'>Caf\xE9",
            b"<?xml version='1.0' encoding='ISO-8859-1'?><p>Caf\xE9",
            // What it says of UTF-16 is not true of bytes that can be read.
            b"<meta charset=utf-16><p>Caf\xC3\xA9",
            b"<!-- <meta charset=koi8-r> --><meta charset=latin1><p>Caf\xE9",
        ];
        for page in pages {
            assert!(text(page, Some("text/html")).ends_with("Café"), "{page:?}");
        }
        assert!(text(b"<meta charset=shift_jis><p>\x93\xFA\x96\x7B", None).ends_with("日本"));
    }

    #[test]
    fn a_page_that_says_nothing_is_utf_8_or_what_it_looks_like() {
        assert_eq!(text("Café £51".as_bytes(), None), "Café £51");
        let french = b"Le caf\xE9 est ferm\xE9, la for\xEAt est belle et l'\xE9t\xE9 est fini.";
        assert!(text(french, None).starts_with("Le café est fermé, la forêt"));
        // A name that no browser knows is as none.
        assert_eq!(text("Café".as_bytes(), Some("text/html; charset=klingon")), "Café");
    }

    #[test]
    fn bytes_that_are_no_character_are_an_error_that_says_so() {
        let wrong = |body: &[u8], content_type| {
            decode(body.to_vec(), content_type).unwrap_err().to_string()
        };
        let utf8 = wrong(b"Caf\xE9", Some("text/html; charset=utf-8"));
        assert_eq!(
            utf8,
            "the page is not the UTF-8 that its header says: byte 3 is no part of a character"
        );
        let japanese = wrong(b"<meta charset=euc-jp>\xFF\xFF", None);
        assert!(japanese.contains("EUC-JP that it says itself"), "{japanese}");
    }
}
