//! `product_heat`, `top_products` and `orders_by_second` as DataFusion tables: rows are fetched when a query runs, only for
//! the time that its filters leave, and only the columns that it reads. `product_heat` is history on disk and live
//! seconds as one: a second is shown from its file, or live if no file has it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StringViewArray,
    TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use types::{Temperature, Timestamp};

use crate::history::{History, Shelf};
use crate::tables::{HeatRow, LiveTables, OrderRow, TopRow};

/// Rows in one batch: DataFusion's own default.
const BATCH: usize = 8192;
/// Pages of history that are read ahead of the query.
const AHEAD: usize = 4;

/// The type of times in SQL: milliseconds, without a zone, meaning UTC.
pub(super) const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// The moments that can satisfy a query: `[from, to)` in ms, open where absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bounds {
    from: Option<i64>,
    to: Option<i64>,
}

impl Bounds {
    fn and(self, other: Self) -> Self {
        let pick = |a: Option<i64>, b: Option<i64>, best: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(best(a, b)),
            (a, b) => a.or(b),
        };
        Self { from: pick(self.from, other.from, i64::max), to: pick(self.to, other.to, i64::min) }
    }

    /// What a filter says about `column`. A superset: the filter itself is still applied to the rows.
    fn of(filter: &Expr, column: &str) -> Self {
        split_conjunction(filter).into_iter().map(|e| Self::of_one(e, column)).fold(Self::default(), Self::and)
    }

    fn of_one(filter: &Expr, column: &str) -> Self {
        let is_column = |e: &Expr| matches!(e, Expr::Column(c) if c.name == column);
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                if is_column(left) {
                    literal(right).map_or_else(Self::default, |at| Self::compared(*op, at))
                } else if is_column(right) {
                    let bounds = literal(left).zip(op.swap()).map(|(at, op)| Self::compared(op, at));
                    bounds.unwrap_or_default()
                } else {
                    Self::default()
                }
            }
            Expr::Between(b) if !b.negated && is_column(&b.expr) => {
                let part = |e: &Expr, op| literal(e).map_or_else(Self::default, |at| Self::compared(op, at));
                part(&b.low, Operator::GtEq).and(part(&b.high, Operator::LtEq))
            }
            _ => Self::default(),
        }
    }

    /// `column op [low, high]`, where the literal lies within that millisecond or is it.
    fn compared(op: Operator, (low, high): (i64, i64)) -> Self {
        match op {
            Operator::Gt | Operator::GtEq => Self { from: Some(low), to: None },
            Operator::Lt => Self { from: None, to: Some(high) },
            Operator::LtEq => Self { from: None, to: high.checked_add(1) },
            Operator::Eq => Self { from: Some(low), to: high.checked_add(1) },
            _ => Self::default(),
        }
    }
}

/// A time literal as the milliseconds at or around it.
fn literal(e: &Expr) -> Option<(i64, i64)> {
    let Expr::Literal(value, _) = e else { return None };
    let around = |n: i64, scale: i64| {
        let low = n.div_euclid(scale);
        (low, if n.rem_euclid(scale) == 0 { low } else { low + 1 })
    };
    match value {
        ScalarValue::TimestampSecond(Some(n), _) => n.checked_mul(1000).map(|ms| (ms, ms)),
        ScalarValue::TimestampMillisecond(Some(n), _) => Some((*n, *n)),
        ScalarValue::TimestampMicrosecond(Some(n), _) => Some(around(*n, 1000)),
        ScalarValue::TimestampNanosecond(Some(n), _) => Some(around(*n, 1_000_000)),
        _ => None,
    }
}

/// What makes a kind of row a table.
pub(super) trait Rows: fmt::Debug + Send + Sync + 'static {
    /// One row.
    type Row: Send + Sync + 'static;
    /// The table's name in SQL.
    const NAME: &'static str;
    /// The column that filters prune by, if any.
    const TIME_COLUMN: Option<&'static str>;
    /// The columns in order.
    fn fields() -> Vec<Field>;
    /// The second that a row belongs to, if history may have it.
    fn second(_: &Self::Row) -> Option<i64> {
        None
    }
    /// The rows that are there now.
    fn fetch(tables: &dyn LiveTables, bounds: Bounds) -> Vec<Self::Row>;
    /// The values of the column at `index` of [`Rows::fields`].
    fn column(rows: &[Self::Row], index: usize) -> ArrayRef;
}

fn field(name: &str, kind: DataType) -> Field {
    // As Druid says of every column but the time; grouping sets do make nulls of them.
    Field::new(name, kind, name != "__time")
}

fn integers(values: impl Iterator<Item = u64>) -> ArrayRef {
    // Druid has signed longs only; a count beyond them is not reached in the life of a machine.
    Arc::new(Int64Array::from_iter_values(values.map(|n| i64::try_from(n).unwrap_or(i64::MAX))))
}

fn times(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values.map(Timestamp::millis)))
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// `product_heat`: a row for each second, product and kind.
#[derive(Debug)]
pub(super) struct Heat;

impl Rows for Heat {
    type Row = HeatRow;
    const NAME: &'static str = "product_heat";
    const TIME_COLUMN: Option<&'static str> = Some("__time");

    fn fields() -> Vec<Field> {
        vec![
            field("__time", TIME),
            // Views: history gives them without copying a text.
            field("product", DataType::Utf8View),
            field("kind", DataType::Utf8View),
            field("events", DataType::Int64),
            field("weighted", DataType::Int64),
            field("visitors", DataType::Int64),
        ]
    }

    fn second(row: &HeatRow) -> Option<i64> {
        Some(row.time.second())
    }

    fn fetch(tables: &dyn LiveTables, bounds: Bounds) -> Vec<HeatRow> {
        if let (Some(from), Some(to)) = (bounds.from, bounds.to)
            && from >= to
        {
            return Vec::new();
        }
        tables.product_heat(bounds.from.map(Timestamp::from_millis), bounds.to.map(Timestamp::from_millis))
    }

    fn column(rows: &[HeatRow], index: usize) -> ArrayRef {
        match index {
            0 => times(rows.iter().map(|r| r.time)),
            1 => Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| r.page.as_ref()))),
            2 => Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| r.kind.as_str()))),
            3 => integers(rows.iter().map(|r| r.events)),
            4 => integers(rows.iter().map(|r| r.weighted)),
            _ => integers(rows.iter().map(|r| r.visitors)),
        }
    }
}

/// `orders_by_second`: steps of orders, to be joined with heat.
#[derive(Debug)]
pub(super) struct Sold;

impl Rows for Sold {
    type Row = OrderRow;
    const NAME: &'static str = "orders_by_second";
    const TIME_COLUMN: Option<&'static str> = Some("__time");

    fn fields() -> Vec<Field> {
        vec![
            field("__time", TIME),
            field("product", DataType::Utf8),
            field("sale", DataType::Utf8),
            field("tier", DataType::Utf8),
            field("step", DataType::Utf8),
            field("orders", DataType::Int64),
            field("units", DataType::Int64),
            field("amount_minor", DataType::Int64),
            field("currency", DataType::Utf8),
        ]
    }

    fn fetch(tables: &dyn LiveTables, bounds: Bounds) -> Vec<OrderRow> {
        tables.orders(bounds.from.map(Timestamp::from_millis), bounds.to.map(Timestamp::from_millis))
    }

    fn column(rows: &[OrderRow], index: usize) -> ArrayRef {
        match index {
            0 => times(rows.iter().map(|r| r.time)),
            1 => texts(rows.iter().map(|r| r.product.as_ref())),
            2 => texts(rows.iter().map(|r| r.sale.as_ref())),
            3 => texts(rows.iter().map(|r| r.tier)),
            4 => texts(rows.iter().map(|r| r.step)),
            5 => integers(rows.iter().map(|r| r.orders)),
            6 => integers(rows.iter().map(|r| r.units)),
            7 => integers(rows.iter().map(|r| r.amount_minor)),
            _ => texts(rows.iter().map(|r| r.currency.as_ref())),
        }
    }
}

/// `top_products`: the current window's hot and warm products.
#[derive(Debug)]
pub(super) struct Top;

impl Rows for Top {
    type Row = TopRow;
    const NAME: &'static str = "top_products";
    const TIME_COLUMN: Option<&'static str> = None;

    fn fields() -> Vec<Field> {
        vec![
            field("rank", DataType::Int64),
            field("product", DataType::Utf8),
            field("count", DataType::Int64),
            field("share", DataType::Float64),
            field("threshold", DataType::Int64),
            field("temperature", DataType::Utf8),
            field("since", TIME),
            field("window_end", TIME),
        ]
    }

    fn fetch(tables: &dyn LiveTables, _: Bounds) -> Vec<TopRow> {
        tables.top_products()
    }

    fn column(rows: &[TopRow], index: usize) -> ArrayRef {
        match index {
            0 => integers(rows.iter().map(|r| r.rank.into())),
            1 => texts(rows.iter().map(|r| r.page.as_ref())),
            2 => integers(rows.iter().map(|r| r.count)),
            3 => Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.share))),
            4 => integers(rows.iter().map(|r| r.threshold)),
            5 => texts(rows.iter().map(|r| match r.temperature {
                Temperature::Cold => "cold",
                Temperature::Warm => "warm",
                Temperature::Hot => "hot",
            })),
            6 => times(rows.iter().map(|r| r.since)),
            _ => times(rows.iter().map(|r| r.window_end)),
        }
    }
}

/// A table of live rows.
pub(super) struct LiveTable<R> {
    tables: Arc<dyn LiveTables>,
    history: Option<Arc<History>>,
    schema: SchemaRef,
    rows: PhantomData<R>,
}

impl<R: Rows> LiveTable<R> {
    /// The table over these snapshots, and over history if its rows are in it.
    pub(super) fn new(tables: Arc<dyn LiveTables>, history: Option<Arc<History>>) -> Self {
        Self { tables, history, schema: Arc::new(Schema::new(R::fields())), rows: PhantomData }
    }
}

impl<R: Rows> fmt::Debug for LiveTable<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveTable").field(&R::NAME).finish()
    }
}

#[async_trait]
impl<R: Rows> TableProvider for LiveTable<R> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let says = |f: &Expr| R::TIME_COLUMN.is_some_and(|c| Bounds::of(f, c) != Bounds::default());
        Ok(filters
            .iter()
            .map(
                |f| {
                    if says(f) {
                        TableProviderFilterPushDown::Inexact
                    } else {
                        TableProviderFilterPushDown::Unsupported
                    }
                },
            )
            .collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&columns)?);
        let bounds = R::TIME_COLUMN.map_or_else(Bounds::default, |c| {
            filters.iter().map(|f| Bounds::of(f, c)).fold(Bounds::default(), Bounds::and)
        });
        let partition = LivePartition::<R> {
            tables: self.tables.clone(),
            history: self.history.clone(),
            schema: schema.clone(),
            columns,
            bounds,
            rows: PhantomData,
        };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(partition)], None, None, false, limit)?))
    }
}

struct LivePartition<R> {
    tables: Arc<dyn LiveTables>,
    history: Option<Arc<History>>,
    schema: SchemaRef,
    columns: Vec<usize>,
    bounds: Bounds,
    rows: PhantomData<R>,
}

impl<R: Rows> fmt::Debug for LivePartition<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LivePartition").field(&R::NAME).field(&self.bounds).finish()
    }
}

impl<R: Rows> PartitionStream for LivePartition<R> {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (tables, schema, columns, bounds) =
            (self.tables.clone(), self.schema.clone(), self.columns.clone(), self.bounds);
        // One look at the files for both halves: a second that is written meanwhile is live to this query.
        let shelf = self.history.as_ref().map(|h| h.shelf());
        let past = shelf.clone().map(|shelf| past(shelf, columns.clone(), schema.clone(), bounds));
        // Lazily, so that EXPLAIN fetches nothing.
        let live = stream::once(async move {
            let mut rows = R::fetch(tables.as_ref(), bounds);
            if let Some(shelf) = shelf {
                rows.retain(|r| R::second(r).is_none_or(|s| !shelf.covers(s)));
            }
            let reserved = MemoryConsumer::new(R::NAME).register(context.memory_pool());
            reserved.try_grow(rows.len() * size_of::<R::Row>())?;
            let starts = (0..rows.len()).step_by(BATCH);
            let batches = starts.map(move |start| {
                // Held as long as the rows are.
                let _reserved = &reserved;
                let part = &rows[start..rows.len().min(start + BATCH)];
                let arrays = columns.iter().map(|c| R::column(part, *c)).collect();
                let options = RecordBatchOptions::new().with_row_count(Some(part.len()));
                Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
            });
            Ok::<_, DataFusionError>(stream::iter(batches))
        })
        .try_flatten();
        let batches = match past {
            Some(past) => past.chain(live).boxed(),
            None => live.boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

/// What files have of that time, read by a thread of its own a few pages ahead of the query.
fn past(
    shelf: Arc<Shelf>,
    columns: Vec<usize>,
    schema: SchemaRef,
    bounds: Bounds,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let times = (bounds.from.unwrap_or(i64::MIN), bounds.to.unwrap_or(i64::MAX));
    let begin = async move {
        let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
        let read = move || {
            for footer in shelf.between(times.0, times.1) {
                let read = footer.scan(&columns, times, &schema, |batch| sender.blocking_send(Ok(batch)).is_ok());
                match read {
                    // The query has ended, or wants no more.
                    Ok(_) if sender.is_closed() => return,
                    Ok(_) => {}
                    // Removed as too old while the query ran.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let _ = sender.blocking_send(Err(error.into()));
                        return;
                    }
                }
            }
        };
        if times.0 < times.1 {
            std::thread::Builder::new().name("sql-history".to_owned()).spawn(read)?;
        }
        Ok::<_, DataFusionError>(stream::unfold(receiver, |mut r| async { r.recv().await.map(|batch| (batch, r)) }))
    };
    stream::once(begin).try_flatten()
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn at(ms: i64) -> Expr {
        lit(ScalarValue::TimestampMillisecond(Some(ms), None))
    }

    #[test]
    fn filters_on_time_become_bounds_that_never_lose_a_row() {
        let of = |e: &Expr| {
            let b = Bounds::of(e, "__time");
            (b.from, b.to)
        };
        let time = || col("__time");
        assert_eq!(of(&time().gt_eq(at(5)).and(time().lt(at(9)))), (Some(5), Some(9)));
        assert_eq!(of(&at(5).lt_eq(time())), (Some(5), None));
        assert_eq!(of(&time().between(at(3), at(4))), (Some(3), Some(5)));
        assert_eq!(of(&time().eq(at(3))), (Some(3), Some(4)));
        assert_eq!(of(&time().gt_eq(at(5)).or(col("events").gt(lit(1)))), (None, None));
        assert_eq!(of(&time().not_between(at(3), at(4))), (None, None));
        assert_eq!(of(&col("since").gt(at(5))), (None, None));
        let nanos = lit(ScalarValue::TimestampNanosecond(Some(5_500_000), None));
        assert_eq!(of(&time().lt(nanos.clone())), (None, Some(6)));
        assert_eq!(of(&time().gt(nanos)), (Some(5), None));
        assert_eq!(of(&time().lt_eq(at(i64::MAX))), (None, None));
    }
}
