//! All pages of the shop, written once and kept.

use std::collections::HashMap;

use bytes::Bytes;

use super::shop::{LIST_PAGES, Shop};
use super::{detail, list};

/// The pages of the shop by their path, without the leading slash.
#[derive(Clone, Debug)]
pub struct Pages {
    by_path: HashMap<String, Bytes>,
}

impl Pages {
    /// Writes all pages of `shop`: some 13 MB.
    pub fn new(shop: &Shop) -> Self {
        let lists = (1..=LIST_PAGES)
            .map(|number| (format!("catalogue/page-{number}.html"), list::page(shop, number)));
        let details = shop.volumes().iter().enumerate().map(|(index, volume)| {
            (format!("catalogue/{}/index.html", volume.slug), detail::page(shop, index))
        });
        let by_path = lists.chain(details).map(|(path, html)| (path, Bytes::from(html))).collect();
        Self { by_path }
    }

    /// The page at `path`, which begins without a slash.
    pub fn get(&self, path: &str) -> Option<Bytes> {
        self.by_path.get(path).cloned()
    }

    /// Every path and its page, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.by_path.iter().map(|(path, html)| (path.as_str(), html))
    }
}
