//! What a driver tells while pages come in, and the usual listener: rows, counts and failures.

use std::io;

use super::Book;
use super::csv::CsvWriter;

/// Gets every page from a driver, in list order.
///
/// An error from either method ends the scrape with that error.
pub trait Observer {
    /// A list page is in, with its number of books, or failed for good.
    ///
    /// # Errors
    ///
    /// Whatever should end the scrape.
    fn list(&mut self, url: &str, outcome: Result<usize, String>) -> anyhow::Result<()>;

    /// A detail page is in, or failed for good.
    ///
    /// # Errors
    ///
    /// Whatever should end the scrape.
    fn detail(&mut self, url: &str, outcome: Result<Book, String>) -> anyhow::Result<()>;
}

/// A page that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its address.
    pub url: String,
    /// Why, with the causes below it.
    pub error: String,
}

/// Writes the books, counts the pages and remembers what failed.
#[derive(Debug)]
pub struct Harvest<W: io::Write> {
    rows: CsvWriter<W>,
    books: u64,
    pages: u64,
    failures: Vec<Failure>,
}

impl<W: io::Write> Harvest<W> {
    /// Starts a CSV file on `out`.
    ///
    /// # Errors
    ///
    /// When `out` refuses the header.
    pub fn new(out: W) -> io::Result<Self> {
        Ok(Self { rows: CsvWriter::new(out)?, books: 0, pages: 0, failures: Vec::new() })
    }

    /// How many books were written.
    pub fn books(&self) -> u64 {
        self.books
    }

    /// How many list pages were read.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The pages, of either kind, that could not be had.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Hands all rows on to the output.
    ///
    /// # Errors
    ///
    /// When the output refuses the bytes.
    pub fn finish(&mut self) -> io::Result<()> {
        self.rows.finish()
    }
}

impl<W: io::Write> Observer for Harvest<W> {
    fn list(&mut self, url: &str, outcome: Result<usize, String>) -> anyhow::Result<()> {
        match outcome {
            Ok(_) => self.pages += 1,
            Err(error) => self.failures.push(Failure { url: url.to_owned(), error }),
        }
        Ok(())
    }

    fn detail(&mut self, url: &str, outcome: Result<Book, String>) -> anyhow::Result<()> {
        match outcome {
            Ok(book) => {
                self.rows.write(&book)?;
                self.books += 1;
            }
            Err(error) => self.failures.push(Failure { url: url.to_owned(), error }),
        }
        Ok(())
    }
}
