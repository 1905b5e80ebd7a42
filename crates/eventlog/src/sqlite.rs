//! Provider `sqlite`: the embedded default, durable.
/// stub
pub struct SqliteLog;
