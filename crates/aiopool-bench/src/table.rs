//! Rows as text.

use super::contest::{Measured, figure};

pub const HEAD: &str = "\
row                       unit      ours       rival                     theirs     ratio      spread  bar
------------------------  --------  ---------  ------------------------  ---------  ---------  ------  ------------";

pub fn line(measured: &Measured) -> String {
    let [name, unit, ours, rival, theirs, ratio, spread, bar] = cells(measured);
    let verdict = match measured.met() {
        Some(true) => " met",
        Some(false) => " MISSED",
        None => "",
    };
    format!(
        "{name:<24}  {unit:<8}  {ours:<9}  {rival:<24}  {theirs:<9}  {ratio:<9}  {spread:<6}  {bar}{verdict}"
    )
}

/// What every form of the table shows of a row; the bar last.
pub fn cells(measured: &Measured) -> [String; 8] {
    let row = &measured.row;
    [
        row.name.clone(),
        row.unit.clone(),
        figure(row.ours),
        row.rival.clone(),
        figure(row.theirs),
        figure(row.ratio),
        format!("{:.0} %", row.spread * 100.0),
        measured.bar.map_or_else(|| "–".to_owned(), |bar| bar.to_string()),
    ]
}

/// The whole table for a Markdown page.
pub fn markdown(rows: &[Measured]) -> String {
    let mut text = String::from(
        "| row | unit | ours | rival | theirs | ratio | spread | bar | |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for measured in rows {
        let mut cells = cells(measured);
        cells[0] = format!("`{}`", cells[0]);
        let verdict = match measured.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        text += &format!("| {} | {verdict} |\n", cells.join(" | "));
    }
    text
}
