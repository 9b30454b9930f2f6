//! The rules of the house, held against the sources and the documents.

mod c_options;
mod claims;
mod floors;
mod public_docs;
mod tables;
