//! What one detail page tells.

use serde::{Deserialize, Serialize};

/// A book as its detail page describes it: one row of the CSV file, columns in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The heading of the page.
    pub title: String,
    /// The price as written there, with its currency sign.
    pub price: String,
    /// The description; empty where the page has none.
    pub description: String,
}
