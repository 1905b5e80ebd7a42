//! Names, help texts and labels of the metrics of live updates.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Open connections.
pub const CONNECTIONS: &str = "seckill_core_live_connections";
/// Connections opened, by how they began.
pub const OPENED: &str = "seckill_core_live_opened_total";
/// Connections refused before they were open, by why.
pub const REFUSED: &str = "seckill_core_live_refused_total";
/// Connections ended, by why.
pub const ENDED: &str = "seckill_core_live_ended_total";
/// Events pushed to connections.
pub const PUSHED: &str = "seckill_core_live_pushed_total";
/// Time from an event's commit until it was handed to connections.
pub const LAG_SECONDS: &str = "seckill_core_live_lag_seconds";
/// Events that were read from SQL because the log did not bring them, by why it was asked.
pub const FILLED: &str = "seckill_core_live_filled_total";
/// Records of `order-events` that could not be read.
pub const UNREADABLE: &str = "seckill_core_live_unreadable_records_total";

pub(crate) fn describe() {
    describe_gauge!(CONNECTIONS, "Open connections of live updates");
    describe_counter!(OPENED, "Connections of live updates opened, by how they began");
    describe_counter!(REFUSED, "Connections of live updates refused before they were open, by why");
    describe_counter!(ENDED, "Connections of live updates ended, by why");
    describe_counter!(PUSHED, "Order events pushed to connections");
    describe_histogram!(LAG_SECONDS, Unit::Seconds, "Time from an event's commit until it was handed to connections");
    describe_counter!(FILLED, "Order events read from SQL because the log had not brought them, by why it was asked");
    describe_counter!(UNREADABLE, "Records of order-events that could not be read");
}

pub(crate) fn connections(open: usize) {
    gauge!(CONNECTIONS).set(open as f64);
}
pub(crate) fn opened(start: &'static str) {
    counter!(OPENED, "start" => start).increment(1);
}
pub(crate) fn refused(why: &'static str) {
    counter!(REFUSED, "why" => why).increment(1);
}
pub(crate) fn ended(why: &'static str) {
    counter!(ENDED, "why" => why).increment(1);
}
pub(crate) fn pushed(events: u64) {
    counter!(PUSHED).increment(events);
}
pub(crate) fn lag(lag: Duration) {
    histogram!(LAG_SECONDS).record(lag.as_secs_f64());
}
pub(crate) fn filled(why: &'static str, events: u64) {
    counter!(FILLED, "why" => why).increment(events);
}
pub(crate) fn unreadable() {
    counter!(UNREADABLE).increment(1);
}
