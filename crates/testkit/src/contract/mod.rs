//! Contract suites: what a port promises, as tests that every provider of it passes unchanged.

pub mod event_log;
