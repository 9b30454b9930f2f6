//! The two tasks of the scrape and the job they add up to.

use anyhow::{Context, ensure};
use reqwest::Url;

use super::{Book, fetch, parse, read};

/// Fetches a list page and gives the addresses of its books.
///
/// An ordinary async function: runs on any tokio runtime, in a pool or without one.
///
/// # Errors
///
/// When the page cannot be had, or is not a list page.
///
/// # Cancel safety
///
/// Dropping it abandons the request; nothing else is touched.
pub async fn fetch_list(url: String) -> anyhow::Result<Vec<String>> {
    let page = fetch::page(&url).await?;
    let document = read::document(&page.html, page.compute_limit).await?;
    parse::links(&document, &page.url)
}

/// Fetches a detail page and gives its book.
///
/// An ordinary async function: runs on any tokio runtime, in a pool or without one.
///
/// # Errors
///
/// When the page cannot be had, or is not a detail page.
///
/// # Cancel safety
///
/// Dropping it abandons the request; nothing else is touched.
pub async fn fetch_detail(url: String) -> anyhow::Result<Book> {
    let page = fetch::page(&url).await?;
    let document = read::document(&page.html, page.compute_limit).await?;
    parse::book(&document)
}

/// Which site to scrape, how much of it, and in which order the work starts.
#[derive(Clone, Debug)]
pub struct Job {
    base: Url,
    pages: u32,
    pipelined: bool,
}

impl Job {
    /// All books of the first `pages` list pages of the site at `base_url`.
    ///
    /// # Errors
    ///
    /// When `base_url` is not an `http` or `https` address.
    pub fn new(base_url: &str, pages: u32) -> anyhow::Result<Self> {
        let mut base = Url::parse(base_url).with_context(|| format!("bad address {base_url:?}"))?;
        ensure!(
            matches!(base.scheme(), "http" | "https"),
            "bad address {base_url:?}: must begin with http:// or https://"
        );
        base.set_query(None);
        base.set_fragment(None);
        // The addresses of the pages are appended to it.
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { base, pages, pipelined: false })
    }

    /// Sets whether details start as soon as their list page is in, rather than after the last
    /// list. Rows and their order stay the same. Default: no.
    pub fn pipelined(mut self, yes: bool) -> Self {
        self.pipelined = yes;
        self
    }

    /// How many list pages there are.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Whether details start before the last list is in.
    pub fn is_pipelined(&self) -> bool {
        self.pipelined
    }

    /// The addresses of the list pages, first to last.
    pub fn list_urls(&self) -> impl Iterator<Item = String> + Send + 'static {
        let base = self.base.clone();
        (1..=self.pages).map(move |page| format!("{base}catalogue/page-{page}.html"))
    }
}
