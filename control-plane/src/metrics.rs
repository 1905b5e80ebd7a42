//! The names of this room's metrics, with help texts. Labels come from closed sets.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Heat reports by fate.
pub const HEAT_REPORTS: &str = "control_heat_reports_total";
/// Age of the newest heat report.
pub const HEAT_AGE: &str = "control_heat_age_seconds";
/// Time of one plan.
pub const PLAN_SECONDS: &str = "control_plan_seconds";
/// Planned products by tier.
pub const PRODUCTS: &str = "control_products";
/// Tier moves by target and reason.
pub const MOVES: &str = "control_moves_total";
/// The current generation.
pub const GENERATION: &str = "control_generation";
/// Calls to cores by answer.
pub const PUSHES: &str = "control_core_answers_total";
/// Products that the last plan looked at.
pub const DUE: &str = "control_products_due";
/// Whether this control plane leads.
pub const LEADS: &str = "control_leads";
/// Sales and products that are paused.
pub const PAUSED: &str = "control_paused";
/// Rows that the sale recorder left out because its writer was behind.
pub const NOT_RECORDED: &str = "control_rows_not_recorded_total";
/// Failed commits of the plan store.
pub const STORE_ERRORS: &str = "control_store_errors_total";
/// Refused calls of the ops REST by status.
pub const REFUSED: &str = "control_api_refused_total";

/// Registers the help texts; call once after the recorder is installed.
pub fn describe() {
    describe_counter!(HEAT_REPORTS, "Heat reports read, by fate (taken, gap, old, too_many_shards, malformed)");
    describe_gauge!(HEAT_AGE, "Age of the newest heat report in seconds");
    describe_histogram!(PLAN_SECONDS, "Seconds to make one plan, without storing it");
    describe_gauge!(PRODUCTS, "Planned products, by tier");
    describe_counter!(MOVES, "Planned tier moves, by target tier and reason");
    describe_gauge!(GENERATION, "Generation of the current plan");
    describe_gauge!(DUE, "Products that the last plan looked at: those with heat, with news, or whose time has come");
    describe_gauge!(LEADS, "1 while this control plane holds the lease and pushes plans, 0 while it stands by");
    describe_gauge!(PAUSED, "Sales and products that are paused");
    describe_counter!(NOT_RECORDED, "Rows that the sale recorder left out because its writer was behind or has ended");
    describe_counter!(PUSHES, "Answers of cores to pushes and state requests, by kind");
    describe_counter!(STORE_ERRORS, "Plan store commits that failed and are tried again");
    describe_counter!(REFUSED, "Calls of the ops REST that were refused, by status");
}
