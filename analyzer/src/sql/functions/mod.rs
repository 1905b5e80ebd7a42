//! Druid's functions that DataFusion does not have, or has with another meaning. Pure: what they answer follows from
//! their arguments (and, for `CURRENT_TIMESTAMP`, the moment at which the query began).

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

mod calendar;
mod joda;
mod numbers;
mod row;
mod text;
mod time;

pub(super) use calendar::{iso, shown};
pub(super) use time::at;

/// The functions that are the same for every query.
pub(super) fn constant() -> Vec<Arc<ScalarUDF>> {
    let rows = [calendar::ALL, numbers::ALL, text::ALL].concat();
    time::all().into_iter().chain(rows.into_iter().map(|f| Arc::new(row::RowFunction::new(f).into()))).collect()
}
