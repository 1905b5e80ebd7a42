//! The files of `write` read again: footer and page index first, then only the pages that a query's time leaves, only
//! the columns that it reads, straight into Arrow arrays. A file that is not such a one is an error, never a guess.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StringViewArray, StringViewBuilder,
    TimestampMillisecondArray,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;

use super::runs;
use super::thrift::{self, Value};
use super::write::{COLUMNS, GROUP_ROWS, Holds, MAGIC, PAGE_ROWS, number};

/// Largest footer that is read: that of an hour has some hundred kilobytes.
const LARGEST_FOOTER: u64 = 64 * 1024 * 1024;
/// Largest page, packed or not: a dictionary of a million long names.
const LARGEST_PAGE: usize = 512 * 1024 * 1024;

/// Where a page lies, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spot {
    offset: u64,
    size: usize,
}

/// A row group: its dictionaries and its pages, column by column.
#[derive(Debug, Clone)]
struct Group {
    dictionaries: Vec<Spot>,
    /// By page, then column.
    pages: Vec<Vec<Spot>>,
    /// Rows, least and greatest time of each page.
    rows: Vec<(usize, i64, i64)>,
}

/// A file's footer and page index.
#[derive(Debug, Clone)]
pub(crate) struct Footer {
    path: PathBuf,
    groups: Vec<Group>,
    /// All rows.
    pub(crate) rows: usize,
    /// Least and greatest time in milliseconds.
    pub(crate) times: (i64, i64),
    /// Size of the file.
    pub(crate) bytes: u64,
}

fn broken(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

fn exactly(file: &File, offset: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

impl Footer {
    /// Reads the footer of a file.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let bad = |what: &str| broken(path, what);
        if bytes < 12 {
            return Err(bad("too short for a Parquet file"));
        }
        let tail = exactly(&file, bytes - 8, 8)?;
        let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if &tail[4..] != MAGIC || length > (bytes - 12).min(LARGEST_FOOTER) {
            return Err(bad("not a whole Parquet file"));
        }
        let raw = exactly(&file, bytes - 8 - length, length as usize)?;
        let (meta, _) = thrift::read(&raw).ok_or_else(|| bad("its footer cannot be read"))?;
        let parsed = groups(&file, bytes, &meta).ok_or_else(|| bad("not a file of this table"))?;
        let pages = || parsed.iter().flat_map(|g| &g.rows);
        let times = (pages().map(|p| p.1).min().unwrap_or(0), pages().map(|p| p.2).max().unwrap_or(0));
        Ok(Self { path: path.to_owned(), rows: pages().map(|p| p.0).sum(), times, bytes, groups: parsed })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The rows whose page may hold a time in `[from, to)`, as batches of these columns; each goes to `give`, which
    /// says whether to go on. Answers how many pages were read.
    pub(crate) fn scan(
        &self,
        columns: &[usize],
        (from, to): (i64, i64),
        schema: &SchemaRef,
        mut give: impl FnMut(RecordBatch) -> bool,
    ) -> io::Result<usize> {
        let file = File::open(&self.path)?;
        let (mut taken, mut codes) = (0, Vec::new());
        for group in &self.groups {
            let wanted: Vec<usize> =
                (0..group.pages.len()).filter(|p| group.rows[*p].2 >= from && group.rows[*p].1 < to).collect();
            if wanted.is_empty() {
                continue;
            }
            let dictionaries = columns
                .iter()
                .map(|c| self.dictionary(&file, &group.dictionaries[*c], COLUMNS[*c].1))
                .collect::<io::Result<Vec<_>>>()?;
            for page in wanted {
                let rows = group.rows[page].0;
                let arrays = columns
                    .iter()
                    .zip(&dictionaries)
                    .map(|(c, values)| {
                        self.codes(&file, &group.pages[page][*c], rows, values.len(), &mut codes)?;
                        Ok(values.at(&codes))
                    })
                    .collect::<io::Result<Vec<_>>>()?;
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
                    .map_err(|e| broken(&self.path, &e.to_string()))?;
                taken += 1;
                if !give(batch) {
                    return Ok(taken);
                }
            }
        }
        Ok(taken)
    }

    /// A page's header and its unpacked body.
    fn page(&self, file: &File, spot: &Spot, kind: i32) -> io::Result<(Value, Vec<u8>)> {
        let bad = |what: &str| broken(&self.path, what);
        let bytes = exactly(file, spot.offset, spot.size)?;
        let (head, taken) = thrift::read(&bytes).ok_or_else(|| bad("a page's header cannot be read"))?;
        let size = |id| head.number_at(id).and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= LARGEST_PAGE);
        let (Some(plain), Some(packed)) = (size(2), size(3)) else { return Err(bad("a page's size makes no sense")) };
        let body = bytes.get(taken..taken + packed).ok_or_else(|| bad("a page is cut off"))?;
        if head.number_at(1) != Some(kind.into()) {
            return Err(bad("a page is not of the expected kind"));
        }
        let body = zstd::bulk::decompress(body, plain)?;
        if body.len() == plain { Ok((head, body)) } else { Err(bad("a page has another size than it says")) }
    }

    fn dictionary(&self, file: &File, spot: &Spot, holds: Holds) -> io::Result<Values> {
        let (head, body) = self.page(file, spot, number::DICTIONARY_PAGE)?;
        let count = head.get(7).and_then(|d| d.number_at(1)).and_then(|n| usize::try_from(n).ok());
        Values::read(&body, count.unwrap_or(usize::MAX), holds)
            .ok_or_else(|| broken(&self.path, "a dictionary is not what it says"))
    }

    fn codes(&self, file: &File, spot: &Spot, rows: usize, below: usize, out: &mut Vec<u32>) -> io::Result<()> {
        let (_, body) = self.page(file, spot, number::DATA_PAGE)?;
        let read = body.split_first().and_then(|(width, runs)| runs::decode(runs, *width, rows, below as u32, out));
        read.ok_or_else(|| broken(&self.path, "a page is not what it says"))
    }
}

/// A dictionary.
enum Values {
    Times(Vec<i64>),
    Whole(Vec<i64>),
    Texts(StringViewArray),
}

impl Values {
    fn read(body: &[u8], count: usize, holds: Holds) -> Option<Self> {
        if count > GROUP_ROWS {
            return None;
        }
        if holds != Holds::Text {
            let (all, rest) = body.as_chunks::<8>();
            let numbers = all.iter().map(|n| i64::from_le_bytes(*n)).collect();
            let whole = all.len() == count && rest.is_empty();
            return whole.then_some(if holds == Holds::Time { Self::Times(numbers) } else { Self::Whole(numbers) });
        }
        let mut rest = body;
        let mut all = StringViewBuilder::with_capacity(count);
        for _ in 0..count {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (text, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            all.append_value(std::str::from_utf8(text).ok()?);
            rest = tail;
        }
        rest.is_empty().then(|| Self::Texts(all.finish()))
    }

    fn len(&self) -> usize {
        match self {
            Self::Times(all) | Self::Whole(all) => all.len(),
            Self::Texts(all) => {
                use datafusion::arrow::array::Array;
                all.len()
            }
        }
    }

    /// The values that the codes, which are known to be within it, stand for.
    fn at(&self, codes: &[u32]) -> ArrayRef {
        let numbers = |all: &[i64]| codes.iter().map(|c| all[*c as usize]).collect::<Vec<i64>>();
        match self {
            Self::Times(all) => Arc::new(TimestampMillisecondArray::from(numbers(all))),
            Self::Whole(all) => Arc::new(Int64Array::from(numbers(all))),
            // Views of one buffer: no text is copied.
            Self::Texts(all) => take(all, &UInt32Array::from(codes.to_vec()), None)
                .unwrap_or_else(|_| Arc::new(StringArray::from(Vec::<&str>::new()))),
        }
    }
}

fn spot(offset: i64, size: i64, file: u64) -> Option<Spot> {
    let (offset, size) = (u64::try_from(offset).ok()?, usize::try_from(size).ok()?);
    (size <= LARGEST_PAGE && offset.checked_add(size as u64)? <= file).then_some(Spot { offset, size })
}

fn groups(file: &File, bytes: u64, meta: &Value) -> Option<Vec<Group>> {
    let names = meta.get(2)?.list()?.iter().skip(1).map(|e| e.get(4)?.bytes()).collect::<Option<Vec<_>>>()?;
    if names != COLUMNS.map(|(name, _)| name.as_bytes()) {
        return None;
    }
    meta.get(4)?.list()?.iter().map(|g| group(file, bytes, g)).collect()
}

fn group(file: &File, bytes: u64, value: &Value) -> Option<Group> {
    let total = usize::try_from(value.number_at(3)?).ok()?;
    let mut group = Group { dictionaries: Vec::new(), pages: Vec::new(), rows: Vec::new() };
    let chunks = value.get(1)?.list()?;
    if chunks.len() != COLUMNS.len() || total > GROUP_ROWS {
        return None;
    }
    let structure = |offset: i64, length: i64| {
        let spot = spot(offset, length, bytes)?;
        thrift::read(&exactly(file, spot.offset, spot.size).ok()?).map(|(v, _)| v)
    };
    for (column, chunk) in chunks.iter().enumerate() {
        let meta = chunk.get(3)?;
        let (dictionary, data) = (meta.number_at(11)?, meta.number_at(9)?);
        group.dictionaries.push(spot(dictionary, data.checked_sub(dictionary)?, bytes)?);
        let offsets = structure(chunk.number_at(4)?, chunk.number_at(5)?)?;
        let pages = offsets.get(1)?.list()?;
        if pages.len() != total.div_ceil(PAGE_ROWS) {
            return None;
        }
        group.pages.resize(pages.len(), Vec::new());
        for (at, page) in pages.iter().enumerate() {
            // The same rows in every column, as `write` lays them.
            if page.number_at(3)? != (at * PAGE_ROWS) as i64 {
                return None;
            }
            group.pages[at].push(spot(page.number_at(1)?, page.number_at(2)?, bytes)?);
        }
        if column == 0 {
            let index = structure(chunk.number_at(6)?, chunk.number_at(7)?)?;
            let time = |id: i16, at: usize| {
                let raw = index.get(id)?.list()?.get(at)?.bytes()?;
                Some(i64::from_le_bytes(raw.try_into().ok()?))
            };
            for at in 0..pages.len() {
                let rows = (total - at * PAGE_ROWS).min(PAGE_ROWS);
                group.rows.push((rows, time(2, at)?, time(3, at)?));
            }
        }
    }
    Some(group)
}
