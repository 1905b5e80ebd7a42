//! The directory of history: which file covers which seconds, new files, small ones joined, old ones gone. One process
//! writes; readers take the list of files as it is at that moment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use parking_lot::Mutex;
use types::{EventKind, Timestamp};

use super::HistoryOptions;
use super::read::Footer;
use super::write::{COLUMNS, FileWriter, GROUP_ROWS, Holds};
use crate::tables::{HeatRow, LiveTables};

const HOUR: i64 = 3600;
/// Files of the hour that still grows, from which on they are joined: a query opens each of them.
const MOST_PARTS: usize = 30;
/// Begins the name of a file that is not whole yet.
const UNFINISHED: &str = ".unfinished-";

/// Seconds `[from, to)` in one file.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    from: i64,
    to: i64,
    pub(crate) footer: Arc<Footer>,
}

/// All files, by time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    parts: Vec<Part>,
}

impl Shelf {
    /// Whether a second is in one of the files (if only as one without events).
    pub(crate) fn covers(&self, second: i64) -> bool {
        let at = self.parts.partition_point(|p| p.to <= second);
        self.parts.get(at).is_some_and(|p| p.from <= second)
    }

    /// Files that may hold times in `[from, to)` milliseconds, oldest first.
    pub(crate) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = &Arc<Footer>> {
        self.parts.iter().map(|p| &p.footer).filter(move |f| f.times.1 >= from && f.times.0 < to)
    }

    /// All rows.
    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(|p| p.footer.rows).sum()
    }
}

/// The history of one analyzer.
#[derive(Debug)]
pub struct History {
    directory: PathBuf,
    options: HistoryOptions,
    shelf: ArcSwap<Shelf>,
    /// Held while files come and go.
    writing: Mutex<()>,
}

/// The columns as Arrow has them.
pub(crate) fn schema() -> SchemaRef {
    let field = |(name, holds): (&str, Holds)| {
        let kind = match holds {
            Holds::Time => DataType::Timestamp(TimeUnit::Millisecond, None),
            Holds::Text => DataType::Utf8View,
            Holds::Whole => DataType::Int64,
        };
        // Nothing but the time is said to be never null: what a query makes of a column may be.
        Field::new(name, kind, holds != Holds::Time)
    };
    Arc::new(Schema::new(COLUMNS.map(field).to_vec()))
}

impl History {
    /// Opens the directory, made if it is not there. Leftovers of a crash go: files that were not whole, and files
    /// whose seconds a joined one has. A file that cannot be read is put aside, loudly.
    pub fn open(directory: &Path, options: HistoryOptions) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut parts = Vec::new();
        for hour in fs::read_dir(directory)? {
            let hour = hour?.path();
            if !hour.is_dir() {
                continue;
            }
            for file in fs::read_dir(&hour)? {
                let path = file?.path();
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if name.starts_with(UNFINISHED) {
                    fs::remove_file(&path)?;
                    continue;
                }
                let Some((from, to)) = range(name) else { continue };
                match Footer::read(&path) {
                    Ok(footer) => parts.push(Part { from, to, footer: Arc::new(footer) }),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        set_aside(&path, &error.to_string())?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        // The longest of those that begin together first: it was joined from the others.
        parts.sort_by_key(|p| (p.from, -p.to));
        let mut kept: Vec<Part> = Vec::new();
        for part in parts {
            match kept.last() {
                Some(last) if part.to <= last.to => fs::remove_file(part.footer.path())?,
                // Two writers at once, or files from elsewhere: one of them would be counted twice.
                Some(last) if part.from < last.to => set_aside(part.footer.path(), "covers seconds of another file")?,
                _ => kept.push(part),
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            options,
            shelf: ArcSwap::from_pointee(Shelf { parts: kept }),
            writing: Mutex::default(),
        })
    }

    /// The files as they are now.
    pub(crate) fn shelf(&self) -> Arc<Shelf> {
        self.shelf.load_full()
    }

    /// Rows on disk.
    pub fn rows(&self) -> usize {
        self.shelf().rows()
    }

    /// Files on disk.
    pub fn files(&self) -> usize {
        self.shelf().parts.len()
    }

    /// Writes the sealed seconds that no file covers yet; how many rows those were.
    pub fn flush(&self, tables: &dyn LiveTables) -> io::Result<usize> {
        let shelf = self.shelf();
        // Usually all but the last seconds are covered: ask from where the newest file ends, if that is near.
        let from = shelf.parts.last().map(|p| Timestamp::from_seconds(p.to));
        let mut rows = tables.product_heat(from, None);
        if rows.is_empty() {
            // Or the log is replayed from before.
            rows = tables.product_heat(None, None);
        }
        rows.retain(|r| !shelf.covers(r.time.second()));
        self.append(rows)
    }

    /// Writes rows of seconds that are not covered yet.
    pub fn append(&self, mut rows: Vec<HeatRow>) -> io::Result<usize> {
        let _one = self.writing.lock();
        rows.sort_by(|a, b| (a.time, &a.page, a.kind.as_str()).cmp(&(b.time, &b.page, b.kind.as_str())));
        let count = rows.len();
        let mut rest = &rows[..];
        while let Some(first) = rest.first() {
            let shelf = self.shelf();
            let from = first.time.second();
            let hour = from.div_euclid(HOUR);
            // Up to the end of the hour, or to what another file begins with.
            let at = shelf.parts.partition_point(|p| p.to <= from);
            let end = shelf.parts.get(at).map_or(i64::MAX, |p| p.from).min((hour + 1) * HOUR);
            let length = rest.partition_point(|r| r.time.second() < end);
            if length == 0 {
                return Err(io::Error::other(format!("second {from} is covered by a file already")));
            }
            let (part, tail) = rest.split_at(length);
            rest = tail;
            let to = part[length - 1].time.second() + 1;
            let part = self.write(from, to, |file| part.chunks(GROUP_ROWS).try_for_each(|rows| file.group(rows)))?;
            let mut parts = shelf.parts.clone();
            parts.insert(at, part);
            self.shelf.store(Arc::new(Shelf { parts }));
        }
        Ok(count)
    }

    /// Writes one file whole: beside its name, synced, renamed, the directory synced.
    fn write(
        &self,
        from: i64,
        to: i64,
        fill: impl FnOnce(&mut FileWriter<BufWriter<File>>) -> io::Result<()>,
    ) -> io::Result<Part> {
        let hour = self.directory.join(hour_name(from));
        fs::create_dir_all(&hour)?;
        let name = format!("{from}-{to}.parquet");
        let (unfinished, path) = (hour.join(format!("{UNFINISHED}{name}")), hour.join(&name));
        let mut file = FileWriter::new(BufWriter::new(File::create(&unfinished)?))?;
        fill(&mut file)?;
        let file = file.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(&hour)?.sync_all()?;
        File::open(&self.directory)?.sync_all()?;
        Ok(Part { from, to, footer: Arc::new(Footer::read(&path)?) })
    }

    /// Joins small files and removes old ones.
    pub fn tidy(&self) -> io::Result<()> {
        let _one = self.writing.lock();
        self.join()?;
        self.forget()
    }

    fn join(&self) -> io::Result<()> {
        let shelf = self.shelf();
        let mut hours: BTreeMap<i64, Vec<Part>> = BTreeMap::new();
        for part in &shelf.parts {
            hours.entry(part.from.div_euclid(HOUR)).or_default().push(part.clone());
        }
        let newest = hours.keys().next_back().copied();
        for (hour, parts) in hours {
            let least = if Some(hour) == newest { MOST_PARTS } else { 2 };
            if parts.len() < least {
                continue;
            }
            let (Some(first), Some(last)) = (parts.first(), parts.last()) else { continue };
            let joined = self.write(first.from, last.to, |file| {
                let mut rows = Vec::new();
                for part in &parts {
                    // Files of an hour follow each other, so their rows stay sorted.
                    read_all(&part.footer, |row| {
                        rows.push(row);
                        if rows.len() == GROUP_ROWS { file.group(&std::mem::take(&mut rows)) } else { Ok(()) }
                    })?;
                }
                if rows.is_empty() { Ok(()) } else { file.group(&rows) }
            })?;
            let mut all = self.shelf().parts.clone();
            all.retain(|p| p.from < joined.from || p.from >= joined.to);
            let at = all.partition_point(|p| p.from < joined.from);
            let (from, to) = (joined.from, joined.to);
            all.insert(at, joined);
            self.shelf.store(Arc::new(Shelf { parts: all }));
            // Only now: whoever reads an old file holds it open, and a crash here is cleared up by `open`.
            for part in &parts {
                if (part.from, part.to) != (from, to) {
                    fs::remove_file(part.footer.path())?;
                }
            }
        }
        Ok(())
    }

    fn forget(&self) -> io::Result<()> {
        let shelf = self.shelf();
        let Some(newest) = shelf.parts.last().map(|p| p.to) else { return Ok(()) };
        let oldest = newest - i64::try_from(self.options.keep.as_secs()).unwrap_or(i64::MAX / 2);
        let mut bytes: u64 = shelf.parts.iter().map(|p| p.footer.bytes).sum();
        let mut gone = 0;
        for part in &shelf.parts {
            if part.to > oldest && bytes <= self.options.most_bytes {
                break;
            }
            bytes -= part.footer.bytes;
            gone += 1;
        }
        if gone == 0 {
            return Ok(());
        }
        let (old, kept) = shelf.parts.split_at(gone);
        self.shelf.store(Arc::new(Shelf { parts: kept.to_vec() }));
        for part in old {
            fs::remove_file(part.footer.path())?;
            if let Some(hour) = part.footer.path().parent() {
                // Fails while there is another file in it, as it should.
                let _ = fs::remove_dir(hour);
            }
        }
        tracing::info!(files = gone, "old history removed");
        Ok(())
    }
}

/// `hour=2026-11-11T00`: a partition as Hive names it, which DuckDB and Spark show as a column.
fn hour_name(second: i64) -> String {
    let text = Timestamp::from_seconds(second.div_euclid(HOUR) * HOUR).to_string();
    format!("hour={}", text.get(..13).unwrap_or(&text))
}

/// A file that cannot be used is kept under another name, loudly: not to start would be worse.
fn set_aside(path: &Path, why: &str) -> io::Result<()> {
    let aside = path.with_extension("unusable");
    tracing::error!(why, aside = %aside.display(), "a file of history is put aside");
    fs::rename(path, aside)
}

fn range(name: &str) -> Option<(i64, i64)> {
    let (from, to) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from < to).then_some((from, to))
}

fn read_all(footer: &Footer, mut each: impl FnMut(HeatRow) -> io::Result<()>) -> io::Result<()> {
    let columns: Vec<usize> = (0..COLUMNS.len()).collect();
    let mut result = Ok(());
    footer.scan(&columns, (i64::MIN, i64::MAX), &schema(), |batch| {
        result = rows_of(&batch).and_then(|rows| rows.into_iter().try_for_each(&mut each));
        result.is_ok()
    })?;
    result
}

fn rows_of(batch: &RecordBatch) -> io::Result<Vec<HeatRow>> {
    let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
    let (pages, kinds) = (batch.column(1).as_string_view(), batch.column(2).as_string_view());
    let number = |column: usize, at: usize| batch.column(column).as_primitive::<Int64Type>().value(at).unsigned_abs();
    (0..times.len())
        .map(|at| {
            let kind = kinds.value(at);
            let kind = EventKind::ALL.into_iter().find(|k| k.as_str() == kind);
            Ok(HeatRow {
                time: Timestamp::from_millis(times.value(at)),
                page: pages.value(at).into(),
                kind: kind.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an unknown kind of event"))?,
                events: number(3, at),
                weighted: number(4, at),
                visitors: number(5, at),
            })
        })
        .collect()
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
