//! What the collector counts for Prometheus. Labels come from closed sets; a page or address is never one.

use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::account::Accounting;

/// Lines read.
pub const LINES: &str = "collector_lines_total";
/// Lines that became product events.
pub const EVENTS: &str = "collector_events_total";
/// Lines that are no product events, by reason.
pub const FILTERED: &str = "collector_filtered_lines_total";
/// Lines that could not be decoded, by reason.
pub const DEAD: &str = "collector_dead_letters_total";
/// Lines that a shipper sent again.
pub const REPEATS: &str = "collector_repeated_lines_total";
/// Lines whose path a pattern knew, by pattern: the set is that of the configuration.
pub const PATTERNS: &str = "collector_pattern_lines_total";
/// Lines of bots, by the token of the built-in or configured list.
pub const BOTS: &str = "collector_bot_lines_total";
/// Visitors whose rates were forgotten too early, for want of room.
pub const FORGOTTEN: &str = "collector_forgotten_visitors_total";
/// Dead letters whose bytes were dropped for newer ones.
pub const DEAD_DROPPED: &str = "collector_dead_letters_dropped_total";
/// Bytes that wait to be read.
pub const BEHIND: &str = "collector_behind_bytes";
/// Seconds from a chunk's publishing to its checkpoint.
pub const COMMIT_SECONDS: &str = "collector_commit_seconds";
/// Attempts to publish or to checkpoint that failed and were made again.
pub const RETRIES: &str = "collector_retries_total";
/// Logs that were rotated by rename.
pub const ROTATIONS: &str = "collector_rotations_total";
/// Logs that were truncated.
pub const TRUNCATIONS: &str = "collector_truncations_total";
/// Files that were gone before their end was read.
pub const LOST_FILES: &str = "collector_lost_files_total";
/// Records of `access-log` that were deleted before they were read.
pub const SKIPPED: &str = "collector_skipped_records_total";
/// Times that `access-log` was found to be another topic of the same name.
pub const RECREATED: &str = "collector_recreated_partitions_total";
/// Records of `access-log` that wait to be read.
pub const BEHIND_RECORDS: &str = "collector_behind_records";
/// Lines read minus lines that ended: 0, or the collector is wrong.
pub const UNBALANCED: &str = "collector_unbalanced_lines";

/// Says what each metric means.
pub fn describe() {
    describe_counter!(LINES, Unit::Count, "Log lines read");
    describe_counter!(EVENTS, Unit::Count, "Log lines that became product events");
    describe_counter!(FILTERED, Unit::Count, "Log lines that are no product events, by reason");
    describe_counter!(DEAD, Unit::Count, "Log lines that could not be decoded, by reason");
    describe_counter!(REPEATS, Unit::Count, "Log lines that a shipper sent again and that were dropped");
    describe_counter!(PATTERNS, Unit::Count, "Log lines whose path each configured pattern knew, counted or not");
    describe_counter!(BOTS, Unit::Count, "Log lines of bots, by the token of their user agent");
    describe_counter!(
        FORGOTTEN,
        Unit::Count,
        "Visitors whose page views of the last ten seconds were forgotten to make room: a robot may have passed"
    );
    describe_counter!(DEAD_DROPPED, Unit::Count, "Dead letters whose bytes were dropped to make room for newer ones");
    describe_gauge!(BEHIND, Unit::Bytes, "Bytes of the followed logs that wait to be read");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time from publishing a chunk of lines to its checkpoint");
    describe_counter!(RETRIES, Unit::Count, "Failed attempts to publish or to checkpoint that were made again");
    describe_counter!(ROTATIONS, Unit::Count, "Followed logs that were rotated by rename");
    describe_counter!(TRUNCATIONS, Unit::Count, "Followed logs that were truncated");
    describe_counter!(LOST_FILES, Unit::Count, "Files that were gone before they were read to their end");
    describe_counter!(SKIPPED, Unit::Count, "Records of access-log that were deleted before they were read");
    describe_counter!(RECREATED, Unit::Count, "Partitions of access-log found to belong to another topic of that name");
    describe_gauge!(BEHIND_RECORDS, Unit::Count, "Records of access-log that wait to be read");
    describe_gauge!(
        UNBALANCED,
        Unit::Count,
        "Lines read minus lines that ended as event, filtered, dead letter or repeat; 0 unless the collector is wrong"
    );
}

pub(crate) fn committed(tally: &Accounting, dropped: u64, took: Duration) {
    counter!(LINES).increment(tally.lines);
    counter!(EVENTS).increment(tally.events);
    for (reason, lines) in &tally.filtered {
        counter!(FILTERED, "reason" => reason.as_str()).increment(*lines);
    }
    for (reason, lines) in &tally.dead {
        counter!(DEAD, "reason" => reason.as_str()).increment(*lines);
    }
    for (pattern, lines) in &tally.patterns {
        counter!(PATTERNS, "pattern" => pattern.to_string()).increment(*lines);
    }
    for (bot, lines) in &tally.bots {
        counter!(BOTS, "bot" => bot.to_string()).increment(*lines);
    }
    counter!(REPEATS).increment(tally.repeats);
    counter!(DEAD_DROPPED).increment(dropped);
    histogram!(COMMIT_SECONDS).record(took);
}
pub(crate) fn behind(bytes: u64, records: u64) {
    gauge!(BEHIND).set(bytes as f64);
    gauge!(BEHIND_RECORDS).set(records as f64);
}
pub(crate) fn balance(books: &Accounting) {
    gauge!(UNBALANCED).set(books.lines as f64 - books.ended() as f64);
}
pub(crate) fn forgotten_visitors(visitors: u64) {
    if visitors > 0 {
        counter!(FORGOTTEN).increment(visitors);
    }
}
pub(crate) fn skipped_records(records: u64) {
    counter!(SKIPPED).increment(records);
}
pub(crate) fn recreated() {
    counter!(RECREATED).increment(1);
}
pub(crate) fn retry() {
    counter!(RETRIES).increment(1);
}
pub(crate) fn rotation() {
    counter!(ROTATIONS).increment(1);
}
pub(crate) fn truncation() {
    counter!(TRUNCATIONS).increment(1);
}
pub(crate) fn lost_file() {
    counter!(LOST_FILES).increment(1);
}
