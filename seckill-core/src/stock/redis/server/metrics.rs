//! Names and help texts of the Redis leases' metrics. Labels come from closed sets only.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Time of a call, tries and redirections included, by call and end.
pub const CALL_SECONDS: &str = "seckill_leases_call_seconds";
/// Calls under way.
pub const IN_FLIGHT: &str = "seckill_leases_calls_in_flight";
/// Tries that brought no answer, by why.
pub const FAULTS: &str = "seckill_leases_faults_total";
/// Connections that broke or fell silent and were made anew.
pub const RECONNECTS: &str = "seckill_leases_reconnects_total";
/// Changes of the table of slots that were learnt.
pub const LEARNT: &str = "seckill_leases_slot_changes_total";

/// Tells the recorder what the names mean.
pub fn describe() {
    describe_histogram!(CALL_SECONDS, Unit::Seconds, "Time of a call to Redis for leases, by call and end");
    describe_gauge!(IN_FLIGHT, Unit::Count, "Calls to Redis for leases that are under way");
    describe_counter!(FAULTS, "Tries of a call to Redis for leases that brought no answer, by why");
    describe_counter!(RECONNECTS, "Connections to Redis that broke or fell silent and were made anew");
    describe_counter!(LEARNT, "Changes of the cluster's table of slots that were learnt");
}

pub(super) fn call(call: &'static str, end: &'static str, took: Duration) {
    histogram!(CALL_SECONDS, "call" => call, "end" => end).record(took.as_secs_f64());
}
pub(super) fn in_flight(calls: usize) {
    gauge!(IN_FLIGHT).set(calls as f64);
}
pub(super) fn fault(why: &'static str) {
    counter!(FAULTS, "why" => why).increment(1);
}
pub(super) fn reconnect() {
    counter!(RECONNECTS).increment(1);
}
pub(super) fn learnt() {
    counter!(LEARNT).increment(1);
}
