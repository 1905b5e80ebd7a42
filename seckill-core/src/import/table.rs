//! A CSV text as rows of cells, in the order of the columns that an import knows. UTF-8, with or without a BOM;
//! columns parted by commas; a header first, its columns in any order; a row is one line. Nothing is guessed.

use hashbrown::HashMap;

use super::Unreadable;
use crate::stock::import::{MAX_ROWS, RowErrors};

/// Longest part of a foreign name that is quoted in an error.
const QUOTED: usize = 40;
/// What spreadsheets put in front of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A column that an import knows.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) required: bool,
}

/// A row: its line in the file, and a cell of each known column; empty where the file has no such column.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: u64,
    cells: Vec<String>,
}

impl Row {
    /// The cell of the column of this number; blanks around it are no part of it.
    pub(super) fn cell(&self, column: usize) -> &str {
        self.cells.get(column).map(|cell| cell.trim()).unwrap_or_default()
    }
    /// The cell, parsed; if it is not `T`, an error that begins with what the cell must be.
    pub(super) fn number<T: std::str::FromStr>(
        &self,
        column: usize,
        columns: &[Column],
        must_be: &str,
        errors: &mut RowErrors,
    ) -> Option<T> {
        let cell = self.cell(column);
        let parsed = cell.parse().ok();
        if parsed.is_none() {
            errors.add(self.line, columns[column].name, format!("{:?} is not {must_be}", shortened(cell)));
        }
        parsed
    }
}

/// Text of the file as an error quotes it.
pub(super) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(QUOTED)]
}

/// Reads the rows; what is wrong with lines goes into `errors`, and such a line is no row. A wrong header ends it.
pub(super) fn rows(text: &[u8], columns: &[Column], errors: &mut RowErrors) -> Result<Vec<Row>, Unreadable> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        errors.add(1, "", "the file is UTF-16; save it as CSV in UTF-8");
        return Err(Unreadable::Rows(std::mem::take(errors)));
    }
    let text = text.strip_prefix(BOM).unwrap_or(text);
    let mut lines = (1_u64..).zip(text.split(|b| *b == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
    let places = match lines.next() {
        Some((line, header)) => header_places(line, header, columns, errors),
        None => {
            errors.add(1, "", "the file is empty; its first line names the columns");
            None
        }
    };
    let Some((places, width)) = places else { return Err(Unreadable::Rows(std::mem::take(errors))) };
    let mut rows = Vec::new();
    for (number, (line, text)) in lines.enumerate() {
        if number >= MAX_ROWS {
            return Err(Unreadable::TooManyRows);
        }
        match cells(text) {
            Err(why) => errors.add(line, "", why),
            Ok(cells) if cells.len() != width => {
                errors.add(line, "", format!("has {} cells where the header names {width} columns", cells.len()));
            }
            Ok(cells) => {
                let mut row: Vec<String> = vec![String::new(); columns.len()];
                for (cell, place) in cells.into_iter().zip(&places) {
                    row[*place] = cell;
                }
                rows.push(Row { line, cells: row });
            }
        }
    }
    if rows.is_empty() && errors.is_empty() {
        errors.add(1, "", "the file has no rows under its header");
    }
    Ok(rows)
}

/// Which known column each of the file's is, and how many there are.
fn header_places(line: u64, text: &[u8], columns: &[Column], errors: &mut RowErrors) -> Option<(Vec<usize>, usize)> {
    let names = match cells(text) {
        Ok(names) => names,
        Err(why) => {
            errors.add(line, "", why);
            return None;
        }
    };
    let (mut places, mut seen) = (Vec::new(), HashMap::new());
    let known: Vec<_> = columns.iter().map(|column| column.name).collect();
    for name in &names {
        let name = name.trim();
        match columns.iter().position(|column| column.name == name) {
            None => errors.add(line, shortened(name), format!("is no column; there are {}", known.join(", "))),
            Some(_) if seen.insert(name.to_owned(), ()).is_some() => errors.add(line, name, "appears twice"),
            Some(place) => places.push(place),
        }
    }
    for column in columns.iter().filter(|column| column.required && !seen.contains_key(column.name)) {
        errors.add(line, column.name, "is missing; columns are parted by commas");
    }
    errors.is_empty().then_some((places, names.len()))
}

/// The cells of one line.
fn cells(line: &[u8]) -> Result<Vec<String>, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|e| format!("is not UTF-8 after {} bytes", e.valid_up_to()))?;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("holds a control character".into());
    }
    if text.bytes().filter(|b| *b == b'"').count() % 2 == 1 {
        return Err("a quote is not closed; a cell stands on one line".into());
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => Ok(record.iter().map(str::to_owned).collect()),
        Ok(false) => Ok(Vec::new()),
        Err(e) => Err(e.to_string()),
    }
}
