//! The auditor: reads the SQL store, the clients' journals and the raw access log, and says which invariant
//! is broken. It shares no code with the writers (not even the words of `types`) and never writes.

pub mod heat;
pub mod journal;
pub mod report;
pub mod stock;

pub use report::{AuditError, Invariant, Report};
