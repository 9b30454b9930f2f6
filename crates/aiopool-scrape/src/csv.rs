//! Writes books as CSV.

use std::io;

use super::Book;

/// Writes `title,price,description` and then one row per book, UTF-8, lines ended by `\n`.
pub struct CsvWriter<W: io::Write> {
    rows: ::csv::Writer<W>,
}

impl<W: io::Write> CsvWriter<W> {
    /// Starts a file: the header is there even if no book follows.
    ///
    /// # Errors
    ///
    /// When `out` refuses the header.
    pub fn new(out: W) -> io::Result<Self> {
        let mut rows = ::csv::WriterBuilder::new().has_headers(false).from_writer(out);
        rows.write_record(["title", "price", "description"])?;
        Ok(Self { rows })
    }

    /// Writes one row. It may stay in the buffer until [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// When the output refuses the bytes.
    pub fn write(&mut self, book: &Book) -> io::Result<()> {
        Ok(self.rows.write_record([&book.title, &book.price, &book.description])?)
    }

    /// Hands all rows on to the output.
    ///
    /// # Errors
    ///
    /// When the output refuses the bytes.
    pub fn finish(&mut self) -> io::Result<()> {
        self.rows.flush()
    }
}

impl<W: io::Write> std::fmt::Debug for CsvWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CsvWriter").finish_non_exhaustive()
    }
}
