//! Names and help texts of the SQL metrics. It only names them; the engine and the routes count.

/// Queries by outcome: `ok`, `invalid`, `limit`, `capacity`, `timeout`, `cancelled`, `internal`.
pub const QUERIES: &str = "analyzer_sql_queries_total";
/// Time from request to answer, in seconds.
pub const SECONDS: &str = "analyzer_sql_query_seconds";
/// Rows sent.
pub const ROWS: &str = "analyzer_sql_rows_total";

/// Registers the help texts; call once when the recorder is installed.
pub fn describe() {
    ::metrics::describe_counter!(QUERIES, "SQL queries by outcome");
    ::metrics::describe_histogram!(SECONDS, ::metrics::Unit::Seconds, "Time from SQL request to answer");
    ::metrics::describe_counter!(ROWS, "Rows sent to SQL clients");
}
