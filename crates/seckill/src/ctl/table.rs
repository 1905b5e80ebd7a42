//! Answers of the control plane's REST as tables for people. It knows columns, and nothing of what they mean.

use std::fmt::Write as _;

use serde_json::Value;

/// A column: its head, and where in a row its value stands (`evidence.count5`).
pub type Column = (&'static str, &'static str);

/// Longest cell; a longer one is cut, so that a reason does not tear the table apart.
const WIDEST: usize = 60;

fn cell(row: &Value, path: &str) -> String {
    let value = path.split('.').try_fold(row, |value, name| value.get(name));
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(other) => other.to_string(),
    };
    // What others wrote must not move the cursor.
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Rows under their heads, columns as wide as they must be.
pub fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut lines = vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>()];
    for row in rows {
        let cut = |text: String| match text.char_indices().nth(WIDEST) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        };
        lines.push(columns.iter().map(|(_, path)| cut(cell(row, path))).collect());
    }
    let width = |n: usize| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut out = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _infallible = write!(out, "{cell:<width$}  ");
        }
        let _infallible = writeln!(text, "{}", out.trim_end());
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_nothing_escapes() {
        let rows = [
            json!({"product": "lamp", "evidence": {"count5": 12}, "paused": true}),
            json!({"product": "\u{1b}[31mvase", "evidence": {}, "paused": false}),
        ];
        let text = table(&rows, &[("PRODUCT", "product"), ("5 S", "evidence.count5"), ("PAUSED", "paused")]);
        assert_eq!(text, "PRODUCT   5 S  PAUSED\nlamp      12   yes\n[31mvase  -    no");
    }
}
