//! What the planner sees: heat from the analyzer's reports, products from the cores' states.
//! It only remembers; it never decides.

pub mod cores;
pub mod heat_reports;
pub mod heat_view;

pub use cores::{CoreSeen, ProductSeen, Products};
pub use heat_view::{HeatView, PagesHeat, ReportFate};
