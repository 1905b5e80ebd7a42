//! The auditor: SQL, journals and raw log lines in, invariants out. Shares no code with the writers.
