//! Audits the stock store: invariants 1 to 12 of the protocol, as far as SQL, the clients' journals and the
//! samples can decide them, in one read transaction. Read-only; usable while the store is being written.

mod books;
mod changes;
mod clients;
mod history;
mod sampler;
#[cfg(feature = "mysql")]
mod server;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

pub use sampler::{MAX_CHANGES, Sampler};
#[cfg(feature = "mysql")]
pub use server::Server;

use crate::journal::{self, Entry};
use crate::{AuditError, Invariant, Report};

/// How long a read may wait for a writer that holds the file exclusively (a checkpoint at start or end).
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// The invariants, as `stock-protocol.md` numbers them.
const TITLES: [&str; 12] = [
    "free + leased + reserved + sold = total; leased = what living leases hold",
    "units of accepted and paid orders never exceed the total",
    "consumed <= granted; one order per grant, one decision per key; limits",
    "an order a client saw accepted exists for ever, in a legal state",
    "epochs only rise; at most one fence and one open per epoch",
    "at most one living lease per product",
    "every ticket ends by its deadline, the same for every reader",
    "events of an order appear in legal order, each with one effect",
    "no unit is stranded: what is reserved or leased has a living owner",
    "paid payments equal paid, refund-due and refunded orders",
    "nobody is told sold out for longer than 1 s while units are sellable",
    "nothing is decided sold out while enough units are sellable",
];

/// What the auditor is told about the moment of the audit. Times are milliseconds on the system's own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Traffic has ended and everything in flight has had time to end: tickets and leases are held to it.
    pub at_rest: bool,
    /// The present moment, milliseconds since the epoch.
    pub now_ms: i64,
    /// How long after its deadline a ticket may still be undecided (the protocol allows 1 s of skew).
    pub skew_ms: i64,
    /// How long after its due time an unpaid order may wait to be expired, at rest.
    pub expiry_grace_ms: i64,
    /// How far a row's time may lie from the moment of its commit: a group of transactions commits after each
    /// has read the clock. Judgements that need the stock *at a moment* allow this much on either side.
    pub commit_slack_ms: i64,
    /// How old a sold-out hint may be (the protocol allows 1 s).
    pub hint_ms: i64,
}

impl Options {
    /// The protocol's own allowances, at `now_ms`, while traffic runs.
    pub fn running(now_ms: i64) -> Self {
        Self { at_rest: false, now_ms, skew_ms: 1_000, expiry_grace_ms: 10_000, commit_slack_ms: 500, hint_ms: 1_000 }
    }
    /// The same, once everything has come to rest.
    pub fn at_rest(now_ms: i64) -> Self {
        Self { at_rest: true, ..Self::running(now_ms) }
    }
    /// Widens what depends on real delays (commit, expiry) for a clock that runs `speed` times as fast.
    #[must_use]
    pub fn at_speed(mut self, speed: f64) -> Self {
        let factor = speed.clamp(1.0, 1_000.0);
        let scaled = |ms: i64| (ms as f64 * factor) as i64;
        self.skew_ms = scaled(self.skew_ms);
        self.expiry_grace_ms = scaled(self.expiry_grace_ms);
        self.commit_slack_ms = scaled(self.commit_slack_ms);
        self.hint_ms = scaled(self.hint_ms);
        self
    }
}

/// Where a stock store is.
#[derive(Debug, Clone)]
pub enum Store {
    /// The embedded one: a SQLite file.
    File(PathBuf),
    /// A database on a server.
    #[cfg(feature = "mysql")]
    Server(Server),
}

/// Audits the SQLite store at `sqlite_path`; see [`audit_store`].
pub fn audit(
    sqlite_path: &Path,
    journals: &[PathBuf],
    options: &Options,
    samples: Option<&Sampler>,
) -> Result<Report, AuditError> {
    audit_store(&Store::File(sqlite_path.to_owned()), journals, options, samples)
}

/// Audits a store against the journals of every run on it.
///
/// Journals are read before the store's snapshot is taken, so that whatever a client has noted is committed in it.
pub fn audit_store(
    store: &Store,
    journals: &[PathBuf],
    options: &Options,
    samples: Option<&Sampler>,
) -> Result<Report, AuditError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut torn = 0;
    for path in journals {
        let journal = journal::read(path)?;
        entries.extend(journal.entries);
        torn += journal.torn;
    }

    let mut store = match store {
        Store::File(path) => open(path)?,
        #[cfg(feature = "mysql")]
        Store::Server(server) => server::copy(server)?,
    };
    let snapshot = store.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut found: Vec<Invariant> = (1..).zip(TITLES).map(|(n, title)| Invariant::new(n, title)).collect();
    let [one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve] = found.as_mut_slice() else {
        unreachable!("TITLES has twelve entries");
    };

    let stock = books::Stock::read(&snapshot)?;
    let orders = books::Orders::read(&snapshot)?;
    books::sums(&stock, one);
    books::totals(&stock, &orders, two);
    books::leases_and_keys(&snapshot, &orders, three)?;
    books::limits(&snapshot, &orders, three)?;
    books::living_leases(&snapshot, six)?;
    books::stranded(&snapshot, &stock, &orders, options, nine)?;
    books::payments(&snapshot, &orders, ten)?;

    history::moves(&snapshot, &stock, five)?;
    let changes = changes::Changes::read(&snapshot)?;
    let timeline = history::events(&snapshot, &stock, &orders, &changes, eight, two)?;
    if let Some(sampler) = samples {
        five.examined += sampler.taken();
        for text in sampler.fallen_epochs() {
            five.break_with(text.clone());
        }
    }

    let decisions = clients::Decisions::read(&snapshot)?;
    clients::decisions_have_orders(&decisions, &orders, four);
    clients::accepted_orders_exist(&entries, &decisions, &orders, four);
    clients::tickets_end(&entries, &decisions, options, seven);
    clients::told_sold_out(&entries, &decisions, &timeline, samples, options, eleven);
    clients::decided_sold_out(&entries, &decisions, &timeline, &stock, options, twelve);
    snapshot.finish()?;
    for invariant in found.iter_mut().filter(|i| i.examined == 0 && i.violated == 0) {
        // "ok" would claim what nothing has tested.
        invariant.not_examined.get_or_insert_with(|| "there was nothing that it could be held against".to_owned());
    }

    let oversold = timeline.oversold();
    Ok(Report {
        oversold,
        orders: orders.len() as u64,
        journal_entries: entries.len() as u64,
        journal_torn: torn,
        invariants: found,
    })
}

fn open(path: &Path) -> Result<Connection, AuditError> {
    let store = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
    )?;
    store.busy_timeout(BUSY_WAIT)?;
    Ok(store)
}
