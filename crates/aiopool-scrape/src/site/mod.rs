//! A book shop of our own, built like books.toscrape.com: the same structure, other words.
//!
//! [`Shop`] invents the books from a fixed seed, so the same book is on the same page with the
//! same words in every run and on every machine. [`Pages`] writes them down once as HTML;
//! [`serve`] hands these bytes out over HTTP. Normally that happens in a process of its own, so
//! that it costs the scrape nothing but a core: [`SiteProcess`].

mod detail;
mod frame;
mod list;
mod pages;
mod process;
mod random;
mod serve;
mod shop;
mod words;

pub use pages::Pages;
pub use process::SiteProcess;
pub use serve::serve;
pub use shop::{BOOKS_PER_PAGE, LIST_PAGES, Shop, Volume};
