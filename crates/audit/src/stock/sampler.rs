//! Samples `sellable` of every product while a sale runs, so that "told sold out while there was something
//! to sell" can be checked afterwards. Keeps only changes, bounded; reads, never writes.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use rusqlite::Connection;

use super::{Store, open};
use crate::AuditError;

/// Most changes kept per product: at the demo's busiest a product changes in every sample (10 a second),
/// so this is about an hour; older ones are forgotten and answers from before are not judged.
pub const MAX_CHANGES: usize = 36_000;

#[derive(Debug, Default)]
struct Series {
    /// `(from, sellable)`, by time; each holds until the next.
    changes: VecDeque<(i64, u64)>,
    epoch: i64,
}

/// Where the samples come from.
#[derive(Debug)]
enum Source {
    File(Connection),
    #[cfg(feature = "mysql")]
    Server(super::server::Samples),
}

/// The samples. Times are milliseconds since the epoch on the clock by which clients journal.
#[derive(Debug)]
pub struct Sampler {
    source: Source,
    series: BTreeMap<String, Series>,
    first: Option<i64>,
    last: Option<i64>,
    taken: u64,
    fallen: Vec<String>,
}

impl Sampler {
    /// Opens the SQLite store at this path, read-only.
    pub fn open(sqlite_path: &Path) -> Result<Self, AuditError> {
        Self::on(&Store::File(sqlite_path.to_owned()))
    }

    /// Opens the store, read-only.
    pub fn on(store: &Store) -> Result<Self, AuditError> {
        Ok(Self {
            source: match store {
                Store::File(path) => Source::File(open(path)?),
                #[cfg(feature = "mysql")]
                Store::Server(server) => Source::Server(super::server::Samples::open(server)?),
            },
            series: BTreeMap::new(),
            first: None,
            last: None,
            taken: 0,
            fallen: Vec::new(),
        })
    }

    /// Takes one sample at `now_ms`. Call it about every 100 ms; a longer gap only makes the check weaker.
    pub fn sample(&mut self, now_ms: i64) -> Result<(), AuditError> {
        let rows = self.read()?;
        for (product, epoch, sellable) in rows {
            self.note(product, epoch, u64::try_from(sellable).unwrap_or(0), now_ms);
        }
        self.first.get_or_insert(now_ms);
        self.last = Some(now_ms);
        self.taken += 1;
        Ok(())
    }

    fn read(&self) -> Result<Vec<(String, i64, i64)>, AuditError> {
        match &self.source {
            Source::File(store) => Self::read_file(store),
            #[cfg(feature = "mysql")]
            Source::Server(samples) => samples.read(),
        }
    }

    fn read_file(store: &Connection) -> Result<Vec<(String, i64, i64)>, AuditError> {
        let mut statement = store.prepare_cached(
            "SELECT s.product_id, s.epoch, s.free + COALESCE((SELECT SUM(l.granted - l.consumed) FROM lease l
                 WHERE l.product_id = s.product_id AND l.state <> 'CLOSED'), 0)
             FROM stock s",
        )?;
        let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn note(&mut self, product: String, epoch: i64, sellable: u64, now_ms: i64) {
        let series = self.series.entry(product.clone()).or_default();
        if epoch < series.epoch {
            self.fallen.push(format!("{product}: epoch {} was seen, later {epoch}", series.epoch));
        }
        series.epoch = epoch;
        if series.changes.back().is_none_or(|(_, last)| *last != sellable) {
            series.changes.push_back((now_ms, sellable));
        }
        if series.changes.len() > MAX_CHANGES {
            series.changes.pop_front();
        }
    }

    /// How many samples were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The least `sellable` seen at any moment of `[from, to]`; `None` if the samples do not cover it.
    pub fn least(&self, product: &str, from: i64, to: i64) -> Option<u64> {
        let series = self.series.get(product)?;
        if self.last? < to || series.changes.front()?.0 > from {
            return None;
        }
        // The value in force at `from`, and each change up to `to`.
        let start = series.changes.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        series.changes.range(start..).take_while(|(at, _)| *at <= to).map(|(_, sellable)| *sellable).min()
    }

    /// Epochs that were seen to fall: each is a violation of invariant 5.
    pub fn fallen_epochs(&self) -> &[String] {
        &self.fallen
    }
}
