//! The queue tier and what it shares with the redis tier: attempts as records of the event log, decided in the
//! order of their arrival. Nothing here accepts an order; the store does.

pub(crate) mod backlog;
pub(crate) mod consumer;
pub(crate) mod others;
pub(crate) mod path;
pub(crate) mod record;
pub(crate) mod resubmit;
