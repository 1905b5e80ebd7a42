//! A table as people read it: columns as wide as their widest cell, numbers to the right. It knows nothing of what it
//! shows.

use std::fmt::Write as _;

/// Blanks between two columns.
const GAP: usize = 2;

/// Lays the rows out under their header. A column whose cells are all numbers stands to the right.
pub fn lay_out<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut text = String::new();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let is_number = |cell: &String| cell.parse::<i128>().is_ok();
    let columns: Vec<(usize, bool)> = (0..N)
        .map(|column| (width(column), !rows.is_empty() && rows.iter().all(|row| is_number(&row[column]))))
        .collect();
    let mut line = |cells: &[&str]| {
        let mut out = String::new();
        for (cell, (width, right)) in cells.iter().zip(&columns) {
            let _ = if *right { write!(out, "{cell:>width$}") } else { write!(out, "{cell:<width$}") };
            out.push_str(&" ".repeat(GAP));
        }
        let _ = writeln!(text, "{}", out.trim_end());
    };
    line(&header);
    for row in rows {
        line(&row.each_ref().map(String::as_str));
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_needed_and_numbers_stand_to_the_right() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        insta::assert_snapshot!(lay_out(["SALE", "FREE"], &[row("a", "5"), row("Über-long", "12345")]), @r"
        SALE        FREE
        a              5
        Über-long  12345
        ");
        assert_eq!(lay_out(["SALE", "FREE"], &[]), "SALE  FREE");
    }
}
