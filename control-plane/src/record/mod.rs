//! The sale recorder: heat, states, orders, decisions and moves of a sale in one file of rows that a data frame reads
//! (Arrow IPC, ADR 0032), and that `replay` runs against another policy. It must never slow the plan down: what does
//! not fit is left out and counted.

pub mod read;
pub mod replay;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use arrow_array::builder::{Float64Builder, StringBuilder, TimestampMillisecondBuilder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use serde_json::json;
use types::plan::ProductState;
use types::{HeatReport, Sku, Tier, Timestamp};

use crate::metrics as names;
use crate::observe::Products;
use crate::planner::{Decisions, Evidence, Override, PlanOutput};
use crate::policy::Policy;

/// Rows that may wait for the writing thread: some seconds of a large sale.
const WAITING: usize = 50_000;
/// Rows in one batch of the file.
const BATCH: usize = 8_192;
/// Longest time that a row stays in memory: what a crash may cost.
const FLUSH: Duration = Duration::from_secs(1);
/// Most rows of one file: some 1 GB. A longer sale keeps its beginning, which is what it is about.
const MOST: u64 = 5_000_000;

/// What a row tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A policy holds from here on; the first row of a file. `detail`: the policy.
    Policy,
    /// A heat report without its entries. `detail`: the report.
    Report,
    /// One product's page in the report before it. `detail`: the entry.
    Heat,
    /// A product as the cores say it is: what came of it. `detail`: the state.
    State,
    /// An operator set an override. `detail`: the override.
    Override,
    /// It is over.
    OverrideOver,
    /// A decision whose tier or reason is new.
    Decision,
    /// A tier changed.
    Move,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Policy,
        Self::Report,
        Self::Heat,
        Self::State,
        Self::Override,
        Self::OverrideOver,
        Self::Decision,
        Self::Move,
    ];
    /// As written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Report => "report",
            Self::Heat => "heat",
            Self::State => "state",
            Self::Override => "override",
            Self::OverrideOver => "override_over",
            Self::Decision => "decision",
            Self::Move => "move",
        }
    }
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// When it was known.
    pub at: Timestamp,
    /// What it tells.
    pub kind: Kind,
    /// Of which product.
    pub product: Option<Sku>,
    /// The tier that is decided, ordered or sold on.
    pub tier: Option<Tier>,
    /// Why, where something was decided.
    pub reason: Option<&'static str>,
    /// The numbers, where there are some.
    pub numbers: Option<Evidence>,
    /// The whole, as JSON, for `replay`.
    pub detail: Option<String>,
}

impl Row {
    fn new(at: Timestamp, kind: Kind) -> Self {
        Self { at, kind, product: None, tier: None, reason: None, numbers: None, detail: None }
    }
}

/// Columns: when, what, of which product, and the numbers behind it.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let count = |name: &str| Field::new(name, DataType::UInt64, true);
    Arc::new(Schema::new(vec![
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("kind", DataType::Utf8, false),
        text("product"),
        text("tier"),
        text("reason"),
        count("count5"),
        count("count60"),
        count("visitors"),
        Field::new("attempts_per_s", DataType::Float64, true),
        count("sellable"),
        text("detail"),
    ]))
}

fn batch(rows: &[Row], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let mut at = TimestampMillisecondBuilder::new().with_timezone("UTC");
    let [mut kind, mut product, mut tier, mut reason, mut detail] = [(); 5].map(|()| StringBuilder::new());
    let [mut count5, mut count60, mut visitors, mut sellable] = [(); 4].map(|()| UInt64Builder::new());
    let mut attempts = Float64Builder::new();
    for row in rows {
        at.append_value(row.at.millis());
        kind.append_value(row.kind.as_str());
        product.append_option(row.product.as_ref().map(Sku::as_str));
        tier.append_option(row.tier.map(Tier::as_str));
        reason.append_option(row.reason);
        count5.append_option(row.numbers.map(|n| n.count5));
        count60.append_option(row.numbers.map(|n| n.count60));
        visitors.append_option(row.numbers.map(|n| n.visitors));
        attempts.append_option(row.numbers.map(|n| n.attempts_per_s));
        sellable.append_option(row.numbers.map(|n| n.sellable));
        detail.append_option(row.detail.as_deref());
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(at.finish()),
        Arc::new(kind.finish()),
        Arc::new(product.finish()),
        Arc::new(tier.finish()),
        Arc::new(reason.finish()),
        Arc::new(count5.finish()),
        Arc::new(count60.finish()),
        Arc::new(visitors.finish()),
        Arc::new(attempts.finish()),
        Arc::new(sellable.finish()),
        Arc::new(detail.finish()),
    ];
    RecordBatch::try_new(schema.clone(), columns)
}

/// Writes what the plan's owner sees and decides. Dropping it finishes the file.
#[derive(Debug)]
pub(crate) struct Recorder {
    rows: SyncSender<Row>,
    states: HashMap<Sku, ProductState, FxBuildHasher>,
}

impl Recorder {
    /// Begins a file in `folder`, named by the time.
    pub(crate) fn begin(folder: &Path, now: Timestamp, policy: &Policy) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("sale-{}.arrows", now.millis()));
        let file = File::create(&path)?;
        let (rows, waiting) = sync_channel(WAITING);
        std::thread::Builder::new().name("sale-recorder".to_owned()).spawn(move || {
            if let Err(error) = write(&path, file, &waiting) {
                tracing::error!(%error, file = %path.display(), "the sale is no longer recorded");
            }
        })?;
        let recorder = Self { rows, states: HashMap::default() };
        recorder.policy(now, policy);
        Ok(recorder)
    }

    fn put(&self, row: Row) {
        match self.rows.try_send(row) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                metrics::counter!(names::NOT_RECORDED).increment(1);
            }
        }
    }

    pub(crate) fn policy(&self, at: Timestamp, policy: &Policy) {
        self.put(Row { detail: Some(json!(policy).to_string()), ..Row::new(at, Kind::Policy) });
    }

    /// A report, with the entries that are some product's.
    pub(crate) fn report(&self, at: Timestamp, report: &HeatReport, products: &Products) {
        let header = HeatReport { entries: Vec::new(), hot: Vec::new(), ..report.clone() };
        self.put(Row { detail: Some(json!(header).to_string()), ..Row::new(at, Kind::Report) });
        for entry in &report.entries {
            for product in products.of_page(&entry.page) {
                let numbers = Evidence {
                    count5: entry.count5,
                    count60: entry.count60,
                    visitors: entry.visitors,
                    attempts_per_s: entry.attempts_per_s,
                    ..Evidence::default()
                };
                self.put(Row {
                    product: Some(product.clone()),
                    numbers: Some(numbers),
                    detail: Some(json!(entry).to_string()),
                    ..Row::new(at, Kind::Heat)
                });
            }
        }
    }

    pub(crate) fn override_set(&self, at: Timestamp, product: &Sku, order: &Override) {
        self.put(Row {
            product: Some(product.clone()),
            tier: Some(order.tier),
            detail: Some(json!(order).to_string()),
            ..Row::new(at, Kind::Override)
        });
    }

    pub(crate) fn override_over(&self, at: Timestamp, product: &Sku) {
        self.put(Row { product: Some(product.clone()), ..Row::new(at, Kind::OverrideOver) });
    }

    /// A plan: what it saw of the products that it looked at, what it decided anew, what it moves.
    pub(crate) fn plan(&mut self, at: Timestamp, last: &Decisions, out: &PlanOutput, products: &Products) {
        for (product, decision) in &out.decisions {
            if let Some(seen) = products.get(product) {
                let known = self.states.get(product);
                if known != Some(seen.state) {
                    let numbers = Evidence { sellable: seen.state.sellable, ..decision.evidence };
                    self.put(Row {
                        product: Some(product.clone()),
                        tier: Some(seen.state.tier),
                        numbers: Some(numbers),
                        detail: Some(json!({ "state": seen.state, "redis_capacity": seen.redis_capacity }).to_string()),
                        ..Row::new(at, Kind::State)
                    });
                    self.states.insert(product.clone(), seen.state.clone());
                }
            }
            let before = last.get(product);
            if before.is_none_or(|b| (b.tier, b.reason.as_str()) != (decision.tier, decision.reason.as_str())) {
                self.put(Row {
                    product: Some(product.clone()),
                    tier: Some(decision.tier),
                    reason: Some(decision.reason.as_str()),
                    numbers: Some(decision.evidence),
                    ..Row::new(at, Kind::Decision)
                });
            }
        }
        for product in &out.dropped {
            self.states.remove(product);
        }
        for m in &out.moves {
            let Some(decision) = out.decision(&m.product) else { continue };
            self.put(Row {
                product: Some(m.product.clone()),
                tier: Some(m.to),
                reason: Some(decision.reason.as_str()),
                numbers: Some(decision.evidence),
                detail: Some(json!({ "from": m.from, "automatic": m.automatic }).to_string()),
                ..Row::new(at, Kind::Move)
            });
        }
    }
}

fn write(path: &Path, file: File, rows: &Receiver<Row>) -> Result<(), ArrowError> {
    let schema = schema();
    let mut writer = StreamWriter::try_new(BufWriter::new(file), &schema)?;
    let (mut waiting, mut written) = (Vec::with_capacity(BATCH), 0);
    loop {
        let ended = match rows.recv_timeout(FLUSH) {
            Ok(row) => {
                waiting.push(row);
                while waiting.len() < BATCH {
                    let Ok(row) = rows.try_recv() else { break };
                    waiting.push(row);
                }
                if waiting.len() < BATCH {
                    // A batch each second, not one for each row.
                    std::thread::sleep(FLUSH / 4);
                }
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if !waiting.is_empty() {
            writer.write(&batch(&waiting, &schema)?)?;
            writer.get_mut().get_mut().sync_data()?;
            written += waiting.len() as u64;
            waiting.clear();
        }
        if ended || written >= MOST {
            writer.finish()?;
            tracing::info!(file = %path.display(), rows = written, "the sale's record is finished");
            return Ok(());
        }
    }
}
