//! Names and help texts of the SQL stock store's metrics. Labels come from closed sets only: never a
//! product, a buyer or an order.

use metrics::{Unit, counter, describe_counter, describe_histogram};

use crate::stock::store::{Outcome, Resubmit, Verdict};

/// Attempts and other commands in one transaction (histogram, label-free).
pub const GROUP_SIZE: &str = "seckill_stock_group_size";
/// Seconds from the begin of a transaction to its commit (histogram, label-free).
pub const COMMIT_SECONDS: &str = "seckill_stock_commit_seconds";
/// Verdicts on attempts, counted after their commit (counter, label `outcome`).
pub const VERDICTS: &str = "seckill_stock_verdicts_total";
/// Transactions that failed (counter, label `why`: `isolated` or `unavailable`).
pub const FAILED_GROUPS: &str = "seckill_stock_failed_groups_total";
/// Commands refused because the writer's queue was full (counter, label-free).
pub const OVERLOADED: &str = "seckill_stock_overloaded_total";
/// Statements sent to the server (counter, label-free). Divided by the verdicts: statements per attempt.
pub const STATEMENTS: &str = "seckill_stock_statements_total";
/// Transactions run again (counter, label `why`: `deadlock`, `lock_wait`, `lost`, `slow`, `busy` or `race`).
pub const RETRIES: &str = "seckill_stock_retries_total";
/// Commits whose answer was lost (counter, label `end`: `committed`, `rolled_back` or `unresolved`).
pub const UNKNOWN_COMMITS: &str = "seckill_stock_unknown_commits_total";

/// Tells the recorder what the names mean.
pub fn describe() {
    describe_histogram!(GROUP_SIZE, Unit::Count, "Attempts and other commands that shared one transaction");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time from the begin of a stock transaction to its commit");
    describe_counter!(VERDICTS, Unit::Count, "Purchase attempts by what the stock store said of them");
    describe_counter!(FAILED_GROUPS, Unit::Count, "Stock transactions that were rolled back, by why");
    describe_counter!(OVERLOADED, Unit::Count, "Commands refused because the stock writer's queue was full");
    describe_counter!(STATEMENTS, Unit::Count, "Statements that the stock store sent to its database server");
    describe_counter!(RETRIES, Unit::Count, "Stock transactions that were run again, by why");
    describe_counter!(UNKNOWN_COMMITS, Unit::Count, "Commits whose answer was lost, by what they turned out to be");
}

/// Counts verdicts by what they say, after their commit.
pub fn count_verdicts(verdicts: &[Verdict]) {
    for verdict in verdicts {
        counter!(VERDICTS, "outcome" => verdict_label(verdict)).increment(1);
    }
}

/// The label of a verdict, from a closed set. A decision made earlier is `replayed`.
pub const fn verdict_label(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Decided { fresh: false, .. } => "replayed",
        Verdict::Decided { decision, .. } => match decision.outcome {
            Outcome::Accepted(_) => "accepted",
            Outcome::SoldOut => "sold_out",
            Outcome::AllReserved => "all_reserved",
            Outcome::Limit => "limit",
            Outcome::Deadline => "deadline",
            Outcome::Closed => "closed",
        },
        Verdict::OtherBody => "other_body",
        Verdict::TokenUsed => "token_used",
        Verdict::SoldOutAtDoor => "sold_out_at_door",
        Verdict::AllReservedAtDoor => "all_reserved_at_door",
        Verdict::Resubmit(Resubmit::UnitsLeased) => "resubmit_units_leased",
        Verdict::Resubmit(Resubmit::LeaseClosed) => "resubmit_lease_closed",
        Verdict::Resubmit(Resubmit::SequenceUsed) => "resubmit_sequence_used",
        Verdict::Resubmit(Resubmit::OverGranted) => "resubmit_over_granted",
        Verdict::NotOnSale => "not_on_sale",
    }
}
