//! Rows in the five formats of Druid's SQL API, written into one bounded buffer. It knows formats and
//! nothing of queries.

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::arrow::error::ArrowError;

use jiff::tz::TimeZone;

use super::cell::{Cell, write_value};
use super::error::SqlError;
use super::options::SqlLimits;
use super::request::{Header, ResultFormat, SqlRequest};
use super::types::TypeNames;

/// One column of the answer.
#[derive(Debug, Clone)]
pub(super) struct Column {
    name: String,
    types: TypeNames,
}

impl Column {
    /// A column of this name with the type of `field`.
    pub(super) fn new(name: String, field: &FieldRef) -> Self {
        Self { name, types: TypeNames::of(field.data_type()) }
    }

    /// The same with another SQL type's name.
    pub(super) fn called(mut self, sql: &'static str) -> Self {
        self.types.sql = sql;
        self
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub body: Vec<u8>,
    pub content_type: &'static str,
    pub header_included: bool,
    pub rows: usize,
}

/// Writes an answer; refuses to grow beyond the limits.
pub(super) struct Writer {
    format: ResultFormat,
    header: Header,
    stringify_arrays: bool,
    zone: Option<TimeZone>,
    columns: Vec<Column>,
    /// `"name":` of each column, ready to be copied.
    keys: Vec<Vec<u8>>,
    most_rows: usize,
    most_bytes: usize,
    out: Vec<u8>,
    /// Lines or elements written, header included.
    items: usize,
    rows: usize,
}

impl Writer {
    /// Begins the answer, with its header if one is asked for.
    pub(super) fn new(request: &SqlRequest, columns: Vec<Column>, limits: &SqlLimits) -> Self {
        let keys = columns
            .iter()
            .map(|c| {
                let mut key = Vec::new();
                write_value(&c.name, &mut key);
                key.push(b':');
                key
            })
            .collect();
        let mut writer = Self {
            format: request.format,
            header: request.header,
            stringify_arrays: request.stringify_arrays,
            zone: request.zone.as_ref().map(|z| z.zone.clone()),
            columns,
            keys,
            most_rows: limits.rows,
            most_bytes: limits.result_bytes,
            out: Vec::new(),
            items: 0,
            rows: 0,
        };
        if matches!(writer.format, ResultFormat::Object | ResultFormat::Array) {
            writer.out.push(b'[');
        }
        if writer.header.names {
            writer.write_header();
        }
        writer
    }

    fn write_header(&mut self) {
        if matches!(self.format, ResultFormat::Object | ResultFormat::ObjectLines) {
            let header = self.header;
            let columns = std::mem::take(&mut self.columns);
            self.object(columns.iter().map(|c| {
                if !header.types && !header.sql_types {
                    return Cell::Null;
                }
                // Names of types need no escaping; a map would lose Druid's order.
                let druid = header.types.then(|| format!(r#""type":"{}""#, c.types.druid));
                let sql = header.sql_types.then(|| format!(r#""sqlType":"{}""#, c.types.sql));
                let both: Vec<_> = druid.into_iter().chain(sql).collect();
                Cell::Json(format!("{{{}}}", both.join(",")))
            }));
            self.columns = columns;
            return;
        }
        let columns = std::mem::take(&mut self.columns);
        self.list(columns.iter().map(|c| Cell::Text(c.name.as_str().into())));
        if self.header.types {
            self.list(columns.iter().map(|c| Cell::Text(c.types.druid.as_str().into())));
        }
        if self.header.sql_types {
            self.list(columns.iter().map(|c| Cell::Text(c.types.sql.into())));
        }
        self.columns = columns;
    }

    /// Appends the rows of a batch.
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        if self.rows + batch.num_rows() > self.most_rows {
            return Err(SqlError::Limit(format!(
                "The answer has more than {} rows; add a LIMIT or aggregate",
                self.most_rows
            )));
        }
        let unseen = |e| SqlError::Internal(format!("a value cannot be shown: {e}"));
        let columns = batch.columns().iter().map(plain).collect::<Result<Vec<_>, _>>().map_err(unseen)?;
        for row in 0..batch.num_rows() {
            let cells = columns
                .iter()
                .map(|c| Cell::at(c.as_ref(), row, self.stringify_arrays, self.zone.as_ref()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(unseen)?;
            if matches!(self.format, ResultFormat::Object | ResultFormat::ObjectLines) {
                self.object(cells.into_iter());
            } else {
                self.list(cells.into_iter());
            }
            if self.out.len() > self.most_bytes {
                return Err(SqlError::Limit(format!(
                    "The answer is larger than {} bytes; select fewer columns or rows",
                    self.most_bytes
                )));
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    fn separate(&mut self) {
        if self.items > 0 {
            match self.format {
                ResultFormat::Object | ResultFormat::Array => self.out.push(b','),
                ResultFormat::ObjectLines | ResultFormat::ArrayLines => self.out.push(b'\n'),
                ResultFormat::Csv => {}
            }
        }
        self.items += 1;
    }

    fn object<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) {
        self.separate();
        self.out.push(b'{');
        for (i, cell) in cells.enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&self.keys[i]);
            cell.write_json(&mut self.out);
        }
        self.out.push(b'}');
    }

    fn list<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) {
        self.separate();
        if self.format == ResultFormat::Csv {
            csv_line(cells, &mut self.out);
            return;
        }
        self.out.push(b'[');
        for (i, cell) in cells.enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            cell.write_json(&mut self.out);
        }
        self.out.push(b']');
    }

    /// Ends the answer. The lines formats end with an empty line, so that one that was cut off shows.
    pub(super) fn finish(mut self) -> Answer {
        let end: &[u8] = match self.format {
            ResultFormat::Object | ResultFormat::Array => b"]\n",
            ResultFormat::ObjectLines | ResultFormat::ArrayLines => b"\n\n",
            ResultFormat::Csv => b"\n",
        };
        self.out.extend_from_slice(end);
        // Whatever the format: Druid says so of all of them.
        Answer { body: self.out, content_type: "application/json", header_included: self.header.names, rows: self.rows }
    }
}

/// Dictionaries once per batch as what they stand for.
fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, value) => cast(column, value),
        _ => Ok(column.clone()),
    }
}

fn csv_line<'a>(cells: impl Iterator<Item = Cell<'a>>, out: &mut Vec<u8>) {
    let start = out.len();
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let text = cell.into_text();
        if text.contains(['"', ',', '\n', '\r']) {
            out.push(b'"');
            out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(text.as_bytes());
        }
    }
    if out.len() == start {
        // A lone empty value must not look like the empty line at the end.
        out.extend_from_slice(b"\"\"");
    }
    out.push(b'\n');
}
