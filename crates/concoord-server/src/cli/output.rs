//! The one place that prints.
//!
//! Results go to standard output, all else to standard error. Whoever reads may go away at any
//! time (`| head`): that ends nothing but the printing.

use std::io::{self, Write};

use serde_json::Value;

/// Prints a line of the result. Returns whether anybody still reads.
pub(crate) fn say(line: impl AsRef<str>) -> bool {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush()).is_ok()
}

/// Prints JSON: indented, for people and programs alike.
pub(crate) fn say_json(value: &Value) -> bool {
    say(format!("{value:#}"))
}

/// Prints a line that is not part of the result. Nobody may be listening; that is fine.
pub(crate) fn note(line: impl AsRef<str>) {
    drop(writeln!(io::stderr().lock(), "{}", line.as_ref()));
}

/// A table: the first row is its head, a column is as wide as its widest cell, and columns of
/// numbers stand to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let width = |column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let numeric = |column| cells(column).skip(1).all(|cell| cell == "-" || is_number(cell));
    let shapes: Vec<_> = (0..columns).map(|column| (width(column), numeric(column))).collect();
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let cells = row.iter().zip(&shapes).map(|(cell, (width, numeric))| {
            if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        lines.push(cells.collect::<Vec<_>>().join("  ").trim_end().to_owned());
    }
    lines.join("\n")
}

fn is_number(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit())
        && cell.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ' '))
}

/// An integer with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Text from others, fit for a terminal: what could steer it is shown escaped.
pub(crate) fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let rows = [["REPLICA", "CALLS"], ["127.0.0.1:14000", "7"], ["[::1]:14001", "12 000"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(
            table(&rows),
            "REPLICA           CALLS\n127.0.0.1:14000       7\n[::1]:14001      12 000"
        );
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123_456), "123 456");
        assert_eq!(grouped(1_234_567), "1 234 567");
    }

    #[test]
    fn a_terminal_is_not_steered_by_others() {
        assert_eq!(harmless("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
    }
}
