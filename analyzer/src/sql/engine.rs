//! Runs a query: admission, a thread of its own, DataFusion under a memory limit, the answer within its
//! limits, the end on time-out or cancel. It must never run a query on a thread that others share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder, SessionStateDefaults, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{displayable, execute_stream};
use datafusion::prelude::{SQLOptions, SessionConfig};
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::Statement as ParsedStatement;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use types::Timestamp;

use super::answer::{Answer, Column, Writer};
use super::catalog::{DRUID, Routine, catalogs};
use super::error::SqlError;
use super::functions;
use super::options::{SqlLimits, SqlOptions};
use super::request::SqlRequest;
use super::statement::Statement;
use super::stop::stoppable;
use crate::tables::LiveTables;

/// Stack of a query's thread: planning recurses, and DataFusion's frames are large. Only what is touched
/// is ever committed.
pub(super) const STACK: usize = 64 * 1024 * 1024;

/// Functions that make much out of little, outside of what the memory limit sees. (Our `repeat`, `lpad` and `rpad`,
/// which take the place of DataFusion's, are bounded.)
const WITHHELD: [&str; 9] = [
    "array_repeat",
    "list_repeat",
    "range",
    "generate_series",
    "gen_series",
    "array_resize",
    "list_resize",
    "version",
    "arrow_field",
];

/// Everything that queries share.
pub(super) struct Engine {
    base: SessionState,
    options: SqlOptions,
    /// Running and waiting together.
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
    active: Arc<Mutex<Active>>,
    next: AtomicU64,
}

/// Cancel handles by query id; a client may use one id for several.
type Active = HashMap<String, Vec<(u64, CancellationToken)>>;

impl Engine {
    /// An engine over these snapshots. Starts nothing.
    pub(super) fn new(tables: &Arc<dyn LiveTables>, options: SqlOptions) -> PlanResult<Self> {
        let limits = &options.limits;
        Ok(Self {
            base: session(tables, &options)?,
            admitted: Arc::new(Semaphore::new(limits.concurrent + limits.waiting)),
            running: Arc::new(Semaphore::new(limits.concurrent)),
            active: Arc::default(),
            next: AtomicU64::new(0),
            options,
        })
    }

    pub(super) const fn options(&self) -> &SqlOptions {
        &self.options
    }

    /// Cancels the queries of this id; whether there were any.
    pub(super) fn cancel(&self, id: &str) -> bool {
        match self.active.lock().get(id) {
            Some(queries) => {
                queries.iter().for_each(|(_, token)| token.cancel());
                true
            }
            None => false,
        }
    }

    /// Runs one query under `id` and gives its whole answer. Dropping the future cancels the query.
    pub(super) async fn run(&self, id: &str, request: SqlRequest) -> Result<Answer, SqlError> {
        let limits = &self.options.limits;
        if request.query.len() > limits.query_bytes {
            return Err(SqlError::Limit(format!(
                "The query text is {} bytes long; at most {}",
                request.query.len(),
                limits.query_bytes
            )));
        }
        let capacity = || SqlError::Capacity { running: limits.concurrent, waiting: limits.waiting };
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| capacity())?;
        let entry = Entry::new(self, id);
        let timeout = request.timeout.map_or(limits.timeout, |asked| asked.min(limits.timeout));
        // The machine's time, not the clock's: what is limited is this machine's work.
        let in_time = tokio::time::timeout(timeout, async {
            let running = tokio::select! {
                biased;
                () = entry.token.cancelled() => return Err(SqlError::Cancelled),
                permit = self.running.clone().acquire_owned() => permit.map_err(|_| capacity())?,
            };
            let answer = self.spawn(request, entry.token.clone(), (admitted, running))?;
            tokio::select! {
                biased;
                () = entry.token.cancelled() => Err(SqlError::Cancelled),
                // The thread ends without an answer only by a panic.
                answer = answer =>
                    answer.unwrap_or_else(|_| Err(SqlError::Internal("the query's thread panicked".to_owned()))),
            }
        });
        in_time.await.unwrap_or(Err(SqlError::Timeout(timeout)))
    }

    /// Starts the query's thread. The permits stay with the thread: a query that is slow to stop still counts.
    fn spawn(
        &self,
        request: SqlRequest,
        cancelled: CancellationToken,
        permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    ) -> Result<oneshot::Receiver<Result<Answer, SqlError>>, SqlError> {
        let (sender, receiver) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let (base, limits, now) = (self.base.clone(), self.options.limits.clone(), self.options.clock.now());
        std::thread::Builder::new()
            .name("sql-query".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let _permits = permits;
                let result = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = cancelled.cancelled() => Err(SqlError::Cancelled),
                        answer = execute(base, &limits, now, &cancelled, &request) => answer,
                    }
                });
                // Nobody listens any more if the time is up or the client gone.
                let _ = sender.send(result);
            })
            .map_err(|e| SqlError::Internal(format!("cannot start a thread for the query: {e}")))?;
        Ok(receiver)
    }
}

/// A query's place among the active ones; leaving it cancels whatever is left of the query.
struct Entry {
    active: Arc<Mutex<Active>>,
    id: String,
    number: u64,
    token: CancellationToken,
}

impl Entry {
    fn new(engine: &Engine, id: &str) -> Self {
        let token = CancellationToken::new();
        let number = engine.next.fetch_add(1, Ordering::Relaxed);
        engine.active.lock().entry(id.to_owned()).or_default().push((number, token.clone()));
        Self { active: engine.active.clone(), id: id.to_owned(), number, token }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.token.cancel();
        let mut active = self.active.lock();
        if let Some(queries) = active.get_mut(&self.id) {
            queries.retain(|(number, _)| *number != self.number);
            if queries.is_empty() {
                active.remove(&self.id);
            }
        }
    }
}

/// What every query's session begins as.
fn session(tables: &Arc<dyn LiveTables>, given: &SqlOptions) -> PlanResult<SessionState> {
    // One partition: the query stays on its own thread. Druid keeps the case of names and sorts null first.
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(DRUID, DRUID)
        .with_target_partitions(1);
    let options = config.options_mut();
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.default_null_ordering = "nulls_min".to_owned();
    options.execution.enable_recursive_ctes = false;
    let scalars: Vec<_> = SessionStateDefaults::default_scalar_functions()
        .into_iter()
        .filter(|f| !WITHHELD.contains(&f.name()))
        .collect();
    let aggregates = SessionStateDefaults::default_aggregate_functions();
    let routine = |name: &str, aggregates| Routine { name: name.to_owned(), aggregates };
    let mut routines: Vec<_> = scalars.iter().map(|f| routine(f.name(), false)).collect();
    routines.extend(functions::constant().iter().map(|f| routine(f.name(), false)));
    routines.extend(aggregates.iter().map(|f| routine(f.name(), true)));
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_catalog_list(catalogs(tables, given.history.as_ref(), given.host.as_deref(), &routines)?)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(scalars)
        .with_aggregate_functions(aggregates)
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .build();
    for function in functions::constant() {
        state.register_udf(function)?;
    }
    Ok(state)
}

async fn execute(
    base: SessionState,
    limits: &SqlLimits,
    now: Timestamp,
    cancelled: &CancellationToken,
    request: &SqlRequest,
) -> Result<Answer, SqlError> {
    let statement = Statement::read(&request.query, &request.parameters, request.zone.as_ref())?;
    // Nothing spills: a disk shared with the checkpoint is not a query's to fill.
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let mut state = SessionStateBuilder::new_from_existing(base).with_runtime_env(runtime).build();
    for function in functions::at(now) {
        state.register_udf(function)?;
    }
    let planned = PlannerStatement::Statement(Box::new(ParsedStatement::Query(statement.query.clone())));
    let mut plan = state.statement_to_plan(planned).await?;
    // The second gate behind the parser's: whatever else may be planned is not run.
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
    if let Some(most) = request.outer_limit {
        plan = LogicalPlanBuilder::from(plan).limit(0, Some(most))?.build()?;
    }
    let columns = columns(&statement, &plan);
    let plan = state.create_physical_plan(&plan).await?;
    if statement.explain {
        return explain(&statement, &displayable(plan.as_ref()).indent(false).to_string(), request, limits);
    }
    let mut batches = execute_stream(stoppable(plan, cancelled)?, Arc::new(TaskContext::from(&state)))?;
    let mut writer = Writer::new(request, columns, limits);
    while let Some(batch) = batches.next().await {
        writer.batch(&batch?)?;
    }
    Ok(writer.finish())
}

fn columns(statement: &Statement, plan: &LogicalPlan) -> Vec<Column> {
    let fields = plan.schema().fields().iter().enumerate();
    let column = |(i, f): (usize, &FieldRef)| {
        let column = Column::new(statement.output_name(i, f.name()), f);
        match statement.output_type(i) {
            Some(sql) if !f.data_type().is_null() => column.called(sql),
            _ => column,
        }
    };
    fields.map(column).collect()
}

/// `EXPLAIN PLAN FOR`: Druid's three columns; the plan is DataFusion's, as text.
fn explain(statement: &Statement, plan: &str, request: &SqlRequest, limits: &SqlLimits) -> Result<Answer, SqlError> {
    let resources: Vec<_> =
        statement.relations.iter().map(|name| serde_json::json!({"name": name, "type": "DATASOURCE"})).collect();
    let row = [
        ("PLAN", plan.to_owned()),
        ("RESOURCES", serde_json::Value::from(resources).to_string()),
        ("ATTRIBUTES", r#"{"statementType":"SELECT"}"#.to_owned()),
    ];
    let field = |name: &str| -> FieldRef { Arc::new(Field::new(name, DataType::Utf8, false)) };
    let columns = row.iter().map(|(name, _)| Column::new((*name).to_owned(), &field(name))).collect();
    let batch =
        RecordBatch::try_from_iter(row.map(|(name, text)| (name, Arc::new(StringArray::from(vec![text])) as _)))
            .map_err(|e| SqlError::from(DataFusionError::from(e)))?;
    let mut writer = Writer::new(request, columns, limits);
    writer.batch(&batch)?;
    Ok(writer.finish())
}
