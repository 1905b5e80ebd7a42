//! Names and help texts of the analyzer's metrics. Labels come from closed sets; never a page.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::engine::Counters;

/// Events by what became of them: `counted`, `capped`, `late`, `repeated`, `full`.
pub const EVENTS: &str = "analyzer_events_total";
/// Records that could not be read and were skipped.
pub const MALFORMED: &str = "analyzer_malformed_records_total";
/// Pages evicted because the table was full.
pub const EVICTED: &str = "analyzer_evicted_pages_total";
/// Pages known now.
pub const PAGES: &str = "analyzer_pages";
/// Pages in the provisional window.
pub const ACTIVE: &str = "analyzer_active_pages";
/// Rows kept for queries.
pub const ROWS: &str = "analyzer_live_rows";
/// Reports published, by `kind`: `provisional`, `snapshot`, `final`.
pub const REPORTS: &str = "analyzer_reports_total";
/// Hot or warm pages left out of reports because lists are bounded.
pub const CUT: &str = "analyzer_report_entries_cut_total";
/// Empty windows skipped in long gaps.
pub const SKIPPED: &str = "analyzer_skipped_windows_total";
/// Times that all counts had to be read to list a top.
pub const REBUILDS: &str = "analyzer_band_rebuilds_total";
/// Partitions that wait because they were read too far ahead.
pub const PARKED: &str = "analyzer_parked_partitions";
/// Partitions that are this process's.
pub const SHARDS: &str = "analyzer_shards";
/// Event time by which the newest final window lies behind the newest event, in seconds.
pub const FINAL_LAG: &str = "analyzer_final_lag_seconds";
/// Time of one tick, in seconds.
pub const TICK: &str = "analyzer_tick_seconds";
/// Time to write one checkpoint, in seconds.
pub const CHECKPOINT: &str = "analyzer_checkpoint_seconds";
/// Size of the last checkpoint, all shards together, in bytes.
pub const CHECKPOINT_BYTES: &str = "analyzer_checkpoint_bytes";
/// Failures by the `step` that failed: `subscribe`, `assign`, `poll`, `publish`, `note`, `board`, `checkpoint`, `commit`,
/// `seek`, `end`.
pub const FAILURES: &str = "analyzer_failures_total";

/// Registers the help texts, SQL's as well; call once when the recorder is installed.
pub fn describe() {
    describe_counter!(EVENTS, "Events by what became of them");
    describe_counter!(MALFORMED, "Records that could not be read and were skipped");
    describe_counter!(EVICTED, "Pages evicted because the page table was full");
    describe_gauge!(PAGES, "Pages known now");
    describe_gauge!(ACTIVE, "Pages with an event in the provisional window");
    describe_gauge!(ROWS, "Rows of sealed seconds kept for queries");
    describe_counter!(REPORTS, "Heat reports published, by kind");
    describe_counter!(CUT, "Hot or warm pages left out of reports because lists are bounded");
    describe_counter!(SKIPPED, "Empty windows that were not published in gaps of more than an hour");
    describe_counter!(REBUILDS, "Times that all counts had to be read to list a top");
    describe_gauge!(PARKED, "Partitions that wait because they were read too far ahead of the slowest");
    describe_gauge!(SHARDS, "Partitions that are this process's");
    describe_gauge!(FINAL_LAG, Unit::Seconds, "Event time from the newest final window to the newest event");
    describe_histogram!(TICK, Unit::Seconds, "Time of one tick: ranking and report");
    describe_histogram!(CHECKPOINT, Unit::Seconds, "Time to write one checkpoint");
    describe_gauge!(CHECKPOINT_BYTES, Unit::Bytes, "Size of the last checkpoint");
    describe_counter!(FAILURES, "Failed steps that will be tried again, by step");
    crate::sql::metrics::describe();
}

/// Shows totals that the engine keeps itself (and a checkpoint keeps over restarts).
pub(crate) fn totals(counters: &Counters, repeated: u64, malformed: u64, rebuilds: u64) {
    for (outcome, n) in [
        ("counted", counters.counted),
        ("capped", counters.capped),
        ("late", counters.late),
        ("repeated", repeated),
        ("full", counters.full),
    ] {
        counter!(EVENTS, "outcome" => outcome).absolute(n);
    }
    counter!(MALFORMED).absolute(malformed);
    counter!(EVICTED).absolute(counters.evicted);
    counter!(REBUILDS).absolute(rebuilds);
}

/// One more failure of a step.
pub(crate) fn failed(step: &'static str) {
    counter!(FAILURES, "step" => step).increment(1);
}

/// Sets a gauge from a count.
pub(crate) fn set(name: &'static str, value: usize) {
    gauge!(name).set(value as f64);
}
