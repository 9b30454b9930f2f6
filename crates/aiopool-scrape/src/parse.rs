//! Reads the two kinds of pages.

use std::sync::LazyLock;

use anyhow::{Context, ensure};
use reqwest::Url;
use scraper::{Html, Selector};

use super::Book;

const BOOK_LINK: &str = "article.product_pod div.image_container a";
const TITLE: &str = "div.product_main h1";
const PRICE: &str = "div.product_main p.price_color";
const DESCRIPTION: &str = "div#product_description + p";

/// Gives a selector that is parsed once per process.
macro_rules! selector {
    ($text:expr) => {{
        static SELECTOR: LazyLock<Selector> =
            LazyLock::new(|| Selector::parse($text).expect("the selector is a valid constant"));
        &*SELECTOR
    }};
}

/// The addresses of the books on a list page, in its order, made absolute by `page`, the page's
/// own address or what its `<base>` says.
///
/// # Errors
///
/// When there is not one book on the page (then it is no list page, or a broken one), or when an
/// address makes no sense.
pub fn list(html: &str, page: &Url) -> anyhow::Result<Vec<String>> {
    links(&Html::parse_document(html), page)
}

/// [`list`] for a document that is parsed already.
///
/// # Errors
///
/// As for [`list`].
pub fn links(html: &Html, page: &Url) -> anyhow::Result<Vec<String>> {
    // A browser goes by the first `<base>`, which may itself be relative.
    let base = html.select(selector!("base[href]")).find_map(|base| base.value().attr("href"));
    let page = &base.and_then(|href| page.join(href).ok()).unwrap_or_else(|| page.clone());
    let links = html
        .select(selector!(BOOK_LINK))
        .filter_map(|link| link.value().attr("href"))
        .map(|href| {
            let url =
                page.join(href).with_context(|| format!("bad address in a link: {href:?}"))?;
            Ok(url.into())
        })
        .collect::<anyhow::Result<Vec<String>>>()?;
    ensure!(!links.is_empty(), "no book on the list page (looked for `{BOOK_LINK}`)");
    Ok(links)
}

/// The book on a detail page. A missing description is an empty one.
///
/// # Errors
///
/// When title or price are missing or empty.
pub fn detail(html: &str) -> anyhow::Result<Book> {
    book(&Html::parse_document(html))
}

/// [`detail`] for a document that is parsed already.
///
/// # Errors
///
/// As for [`detail`].
pub fn book(html: &Html) -> anyhow::Result<Book> {
    let text = |selector| {
        let found = html.select(selector).next()?;
        Some(found.text().collect::<String>().trim().to_owned()).filter(|text| !text.is_empty())
    };
    Ok(Book {
        title: text(selector!(TITLE)).with_context(|| missing("title", TITLE))?,
        price: text(selector!(PRICE)).with_context(|| missing("price", PRICE))?,
        description: text(selector!(DESCRIPTION)).unwrap_or_default(),
    })
}

fn missing(name: &str, selector: &str) -> String {
    format!("no {name} on the detail page (looked for `{selector}`)")
}
