//! Reads a recorded sale. A file whose end is missing (its control plane was killed) is read as far as it goes; a file
//! of another shape is refused with the reason.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMillisecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use types::{Sku, Tier, Timestamp};

use super::{Kind, Row, schema};
use crate::planner::Evidence;

/// Why a recorded sale cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// It is no stream of Arrow, or not this one.
    #[error("this is no recorded sale: {0}")]
    Shape(String),
}

/// Every row, in order; `true` if the file's end is there.
pub fn read(path: &Path) -> Result<(Vec<Row>, bool), ReadError> {
    let file = BufReader::new(File::open(path)?);
    let mut reader = StreamReader::try_new(file, None).map_err(|e| ReadError::Shape(e.to_string()))?;
    if reader.schema() != schema() {
        return Err(ReadError::Shape("its columns are others".to_owned()));
    }
    let mut rows = Vec::new();
    loop {
        match reader.next() {
            None => return Ok((rows, reader.is_finished())),
            // Cut off in the middle of a batch.
            Some(Err(_)) => return Ok((rows, false)),
            Some(Ok(batch)) => take(&batch, &mut rows)?,
        }
    }
}

fn take(batch: &RecordBatch, rows: &mut Vec<Row>) -> Result<(), ReadError> {
    let odd = |what: &str, row: usize| ReadError::Shape(format!("row {row}: {what}"));
    let texts = |n: usize| batch.column(n).as_string::<i32>();
    let counts = |n: usize| batch.column(n).as_primitive::<UInt64Type>();
    let at = batch.column(0).as_primitive::<TimestampMillisecondType>();
    let attempts = batch.column(8).as_primitive::<Float64Type>();
    for n in 0..batch.num_rows() {
        let text = |column: usize| texts(column).is_valid(n).then(|| texts(column).value(n));
        let kind = text(1).and_then(Kind::parse).ok_or_else(|| odd("its kind is unknown", n))?;
        let numbers = counts(5).is_valid(n).then(|| Evidence {
            count5: counts(5).value(n),
            count60: counts(6).value(n),
            visitors: counts(7).value(n),
            attempts_per_s: attempts.value(n),
            sellable: counts(9).value(n),
            ..Evidence::default()
        });
        rows.push(Row {
            at: Timestamp::from_millis(at.value(n)),
            kind,
            product: text(2).map(Sku::new).transpose().map_err(|e| odd(&e.to_string(), n))?,
            tier: text(3).map(str::parse::<Tier>).transpose().map_err(|e| odd(&e.to_string(), n))?,
            // For people; a replay decides anew.
            reason: None,
            numbers,
            detail: text(10).map(str::to_owned),
        });
    }
    Ok(())
}
