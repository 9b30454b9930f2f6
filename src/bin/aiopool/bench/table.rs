//! Rows as text.

use super::contest::{Row, figure};

pub const HEAD: &str = "\
row                       unit      ours       rival                     theirs     ratio      spread  bar
------------------------  --------  ---------  ------------------------  ---------  ---------  ------  ------------";

pub fn line(row: &Row) -> String {
    let Row { name, unit, ours, rival, theirs, ratio, spread, bar, met, .. } = row;
    let verdict = match met {
        Some(true) => " met",
        Some(false) => " MISSED",
        None => "",
    };
    format!(
        "{name:<24}  {unit:<8}  {:<9}  {rival:<24}  {:<9}  {:<9}  {:<6}  {}{verdict}",
        figure(*ours),
        figure(*theirs),
        figure(*ratio),
        format!("{:.0} %", spread * 100.0),
        bar.as_deref().unwrap_or("-"),
    )
}
