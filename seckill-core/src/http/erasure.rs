//! Erasure of a buyer: `DELETE /v1/buyers/{buyer}`. His name is in no log line.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use http_kit::Problem;
use serde::Serialize;
use types::{BuyerId, Role};
use utoipa::ToSchema;

use super::App;
use super::extract::Named;
use super::problems;
use super::staff::{Open, Staff};
use crate::metrics;
use crate::stock::retention_store::Forgotten;

/// Erases buyers.
pub(super) struct Erasers;
impl Open for Erasers {
    const TO: &'static [Role] = &[Role::Admin];
}

/// What was erased.
#[derive(Serialize, ToSchema)]
pub(super) struct Erased {
    /// Orders whose money and units stay, under a name that leads to nobody; 0 if there was nothing (any more).
    orders: usize,
}

/// Erases a buyer: his orders keep money and units under a name that leads to nobody, his refusals go. Refused while
/// he has unpaid orders or money due. What the event log's topics and the receivers of webhooks were told stays there
/// for their own time.
#[utoipa::path(delete, path = "/v1/buyers/{buyer}", tag = "orders", operation_id = "erase_buyer",
    params(("buyer" = BuyerId, Path)), security(("bearer" = ["admin"])),
    responses((status = 200, body = Erased, description = "Nothing leads to him any more")),
    extensions(("x-problems" = json!(["open-orders", "unavailable"]))))]
pub(super) async fn erase(
    State(app): State<App>,
    staff: Staff<Erasers>,
    Named(buyer): Named<BuyerId>,
) -> Result<(StatusCode, Json<Erased>), Problem> {
    let mut erased = 0;
    loop {
        match app.sql.forget_buyer(&buyer, &staff.by, app.shared.now()).await.map_err(|e| problems::store(&e))? {
            Forgotten::Done { orders, more } => {
                erased += orders;
                if !more {
                    break;
                }
            }
            Forgotten::OpenOrders(open) => {
                let why = format!("the buyer has {open} unpaid orders or refunds due; wait for their end");
                return Err(Problem::new(problems::OPEN_ORDERS, why));
            }
        }
    }
    metrics::forgotten("erased", erased as u64);
    tracing::info!(by = %staff.by.subject, orders = erased, "a buyer was erased");
    Ok((StatusCode::OK, Json(Erased { orders: erased })))
}
