//! The names that a query may use: schema `druid` with the live tables, and `INFORMATION_SCHEMA` and `sys` in
//! Druid's shape, made once from them. Of `sys` there is what one process has: itself.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::error::Result;

use super::tables::{Heat, LiveTable, Rows, Sold, Top};
use super::types::TypeNames;
use crate::history::History;
use crate::tables::LiveTables;

/// The one catalog and the default schema in it.
pub(super) const DRUID: &str = "druid";
/// The schema that describes all.
const INFORMATION_SCHEMA: &str = "INFORMATION_SCHEMA";
/// The schema of Druid's processes.
const SYS: &str = "sys";
/// All schemas, in order; Druid has lookups, and clients ask for the schema.
const SCHEMAS: [&str; 4] = [INFORMATION_SCHEMA, DRUID, "lookup", SYS];

/// Druid's tables of itself: texts, and whole numbers where the name ends with `#`.
const SYS_TABLES: [(&str, &[&str]); 5] = [
    (
        "segments",
        &[
            "segment_id",
            "datasource",
            "start",
            "end",
            "size#",
            "version",
            "partition_num#",
            "num_replicas#",
            "num_rows#",
            "is_active#",
            "is_published#",
            "is_available#",
            "is_realtime#",
            "is_overshadowed#",
            "shard_spec",
            "dimensions",
            "metrics",
            "last_compaction_state",
            "replication_factor#",
        ],
    ),
    ("server_segments", &["server", "segment_id"]),
    (
        "servers",
        &[
            "server",
            "host",
            "plaintext_port#",
            "tls_port#",
            "server_type",
            "tier",
            "curr_size#",
            "max_size#",
            "is_leader#",
            "start_time",
        ],
    ),
    ("supervisors", &["supervisor_id", "state", "detailed_state", "healthy#", "type", "source", "suspended#", "spec"]),
    (
        "tasks",
        &[
            "task_id",
            "group_id",
            "type",
            "datasource",
            "created_time",
            "queue_insertion_time",
            "status",
            "runner_status",
            "duration#",
            "location",
            "host",
            "plaintext_port#",
            "tls_port#",
            "error_msg",
        ],
    ),
];

/// The tables of schema `druid`, in order of their names.
pub(super) const DATASOURCES: [&str; 3] = [Sold::NAME, Heat::NAME, Top::NAME];

/// Makes one table of `INFORMATION_SCHEMA`.
type Describe = fn(&[Described]) -> Result<RecordBatch>;

struct Described {
    schema: &'static str,
    name: String,
    kind: &'static str,
    table: Arc<dyn TableProvider>,
}

/// All names over these snapshots.
pub(super) fn catalogs(
    tables: &Arc<dyn LiveTables>,
    history: Option<&Arc<History>>,
    host: Option<&str>,
    functions: &[Routine],
) -> Result<Arc<dyn CatalogProviderList>> {
    let live: [(&str, Arc<dyn TableProvider>); 3] = [
        (Sold::NAME, Arc::new(LiveTable::<Sold>::new(tables.clone(), None))),
        (Heat::NAME, Arc::new(LiveTable::<Heat>::new(tables.clone(), history.cloned()))),
        (Top::NAME, Arc::new(LiveTable::<Top>::new(tables.clone(), None))),
    ];
    let druid = MemorySchemaProvider::new();
    let mut described = Vec::new();
    for (name, table) in live {
        druid.register_table(name.to_owned(), table.clone())?;
        described.push(Described { schema: DRUID, name: name.to_owned(), kind: "TABLE", table });
    }

    let sys = MemorySchemaProvider::new();
    for (name, columns) in SYS_TABLES {
        let batch = system(name, columns, host)?;
        let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?);
        sys.register_table(name.to_owned(), table.clone())?;
        described.push(Described { schema: SYS, name: name.to_owned(), kind: "SYSTEM_TABLE", table });
    }

    // The descriptions describe themselves too: their columns first, then their rows.
    let information = MemorySchemaProvider::new();
    let listed = routines(functions)?;
    let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(listed.schema(), vec![vec![listed]])?);
    information.register_table("ROUTINES".to_owned(), table.clone())?;
    described.push(Described { schema: INFORMATION_SCHEMA, name: "ROUTINES".to_owned(), kind: "SYSTEM_TABLE", table });
    let descriptions: [(&str, Describe); 3] = [("COLUMNS", columns), ("SCHEMATA", schemata), ("TABLES", table_names)];
    for (name, make) in descriptions {
        let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(make(&[])?.schema(), vec![vec![]])?);
        described.push(Described { schema: INFORMATION_SCHEMA, name: name.to_owned(), kind: "SYSTEM_TABLE", table });
    }
    for (name, make) in descriptions {
        let batch = make(&described)?;
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        information.register_table(name.to_owned(), Arc::new(table))?;
    }

    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(DRUID, Arc::new(druid))?;
    catalog.register_schema(INFORMATION_SCHEMA, Arc::new(information))?;
    catalog.register_schema(SYS, Arc::new(sys))?;
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(DRUID.to_owned(), Arc::new(catalog));
    Ok(Arc::new(list))
}

fn text<S: AsRef<str>>(values: impl IntoIterator<Item = Option<S>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

fn batch(columns: Vec<(&'static str, ArrayRef)>) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)))?)
}

fn schemata(described: &[Described]) -> Result<RecordBatch> {
    let names: Vec<_> = if described.is_empty() { vec![] } else { SCHEMAS.to_vec() };
    let none = || text(names.iter().map(|_| None::<&str>));
    batch(vec![
        ("CATALOG_NAME", text(names.iter().map(|_| Some(DRUID)))),
        ("SCHEMA_NAME", text(names.iter().map(|n| Some(*n)))),
        ("SCHEMA_OWNER", none()),
        ("DEFAULT_CHARACTER_SET_CATALOG", none()),
        ("DEFAULT_CHARACTER_SET_SCHEMA", none()),
        ("DEFAULT_CHARACTER_SET_NAME", none()),
        ("SQL_PATH", none()),
    ])
}

/// A function that queries may call.
pub(super) struct Routine {
    pub name: String,
    pub aggregates: bool,
}

fn routines(functions: &[Routine]) -> Result<RecordBatch> {
    let each = |value: &'static str| text(functions.iter().map(|_| Some(value)));
    batch(vec![
        ("ROUTINE_CATALOG", each(DRUID)),
        ("ROUTINE_SCHEMA", each(INFORMATION_SCHEMA)),
        ("ROUTINE_NAME", text(functions.iter().map(|f| Some(f.name.to_uppercase())))),
        ("ROUTINE_TYPE", each("FUNCTION")),
        ("IS_AGGREGATOR", text(functions.iter().map(|f| Some(if f.aggregates { "YES" } else { "NO" })))),
        ("SIGNATURES", text(functions.iter().map(|_| None::<&str>))),
    ])
}

/// A table of `sys`: `servers` has this process, the others are empty.
fn system(name: &str, columns: &[&'static str], host: Option<&str>) -> Result<RecordBatch> {
    let (server, port) = host.and_then(|h| h.rsplit_once(':')).unwrap_or(("localhost", "8888"));
    let row = usize::from(name == "servers");
    let whole = |n: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![n; row])) };
    let word = |t: Option<&str>| text(std::iter::repeat_n(t, row));
    let column = |name: &&'static str| match *name {
        "server" => ("server", word(Some(&format!("{server}:{port}")))),
        "host" => ("host", word(Some(server))),
        "server_type" => ("server_type", word(Some("broker"))),
        "plaintext_port#" => ("plaintext_port", whole(port.parse().unwrap_or(8888))),
        "tls_port#" => ("tls_port", whole(-1)),
        "is_leader#" => ("is_leader", whole(1)),
        other => match other.strip_suffix('#') {
            Some(name) => (name, whole(0)),
            None => (other, word(None)),
        },
    };
    batch(columns.iter().map(column).collect())
}

fn table_names(described: &[Described]) -> Result<RecordBatch> {
    batch(vec![
        ("TABLE_CATALOG", text(described.iter().map(|_| Some(DRUID)))),
        ("TABLE_SCHEMA", text(described.iter().map(|d| Some(d.schema)))),
        ("TABLE_NAME", text(described.iter().map(|d| Some(&d.name)))),
        ("TABLE_TYPE", text(described.iter().map(|d| Some(d.kind)))),
        ("IS_JOINABLE", text(described.iter().map(|_| Some("NO")))),
        ("IS_BROADCAST", text(described.iter().map(|_| Some("NO")))),
    ])
}

fn columns(described: &[Described]) -> Result<RecordBatch> {
    struct Row {
        schema: &'static str,
        table: String,
        column: String,
        /// From 1.
        position: i64,
        nullable: bool,
        kind: DataType,
        names: TypeNames,
    }
    let mut rows = Vec::new();
    for d in described {
        for (position, f) in (1..).zip(d.table.schema().fields()) {
            rows.push(Row {
                schema: d.schema,
                table: d.name.clone(),
                column: f.name().clone(),
                position,
                // Druid says so of every column but the time.
                nullable: d.schema != DRUID || f.name() != "__time",
                kind: f.data_type().clone(),
                names: TypeNames::of(f.data_type()),
            });
        }
    }
    let none = || text(rows.iter().map(|_| None::<&str>));
    let integers = |of: fn(&Row) -> Option<i64>| -> ArrayRef { Arc::new(Int64Array::from_iter(rows.iter().map(of))) };
    let is_text = |r: &Row| matches!(r.kind, DataType::Utf8 | DataType::Utf8View);
    batch(vec![
        ("TABLE_CATALOG", text(rows.iter().map(|_| Some(DRUID)))),
        ("TABLE_SCHEMA", text(rows.iter().map(|r| Some(r.schema)))),
        ("TABLE_NAME", text(rows.iter().map(|r| Some(&r.table)))),
        ("COLUMN_NAME", text(rows.iter().map(|r| Some(&r.column)))),
        ("ORDINAL_POSITION", integers(|r| Some(r.position))),
        ("COLUMN_DEFAULT", text(rows.iter().map(|_| Some("")))),
        ("IS_NULLABLE", text(rows.iter().map(|r| Some(if r.nullable { "YES" } else { "NO" })))),
        ("DATA_TYPE", text(rows.iter().map(|r| Some(r.names.sql)))),
        ("CHARACTER_MAXIMUM_LENGTH", none()),
        ("CHARACTER_OCTET_LENGTH", none()),
        (
            "NUMERIC_PRECISION",
            integers(|r| match r.kind {
                DataType::Int64 => Some(19),
                DataType::Float64 => Some(15),
                _ => None,
            }),
        ),
        ("NUMERIC_PRECISION_RADIX", integers(|r| r.kind.is_numeric().then_some(10))),
        ("NUMERIC_SCALE", integers(|r| r.kind.is_integer().then_some(0))),
        ("DATETIME_PRECISION", integers(|r| matches!(r.kind, DataType::Timestamp(..)).then_some(3))),
        ("CHARACTER_SET_NAME", text(rows.iter().map(|r| is_text(r).then_some("UTF-16LE")))),
        ("COLLATION_NAME", text(rows.iter().map(|r| is_text(r).then_some("UTF-16LE$en_US$primary")))),
        ("JDBC_TYPE", integers(|r| Some(r.names.jdbc))),
    ])
}
