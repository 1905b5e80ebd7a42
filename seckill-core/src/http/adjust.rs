//! Administration of stock: adds units to a product or takes unsold ones away while it sells. What is malformed is
//! refused here; what is possible, and once only, is the store's to say.

use std::num::NonZeroI64;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_kit::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use types::{IdempotencyKey, Sku, Timestamp};

use super::App;
use super::admin::answered_otherwise;
use super::extract::{IdempotencyKeyHeader, Key, Named, Object, unknown};
use super::problems;
use super::staff::{Sellers, Staff};
use crate::metrics;
use crate::stock::adjustment::{Adjusted, Adjustment, AdjustmentRow, Reason};
use crate::stock::admin_store::{Act, Acted};

/// The body of the call.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AdjustmentWish)]
pub(super) struct Wish {
    delta: i64,
    reason: String,
}

/// An adjustment as it stands in the books.
#[derive(Serialize, utoipa::ToSchema)]
struct AdjustmentView {
    adjustment: IdempotencyKey,
    product: Sku,
    delta: i64,
    total: u64,
    reason: String,
    by: String,
    at: Timestamp,
}

impl From<AdjustmentRow> for AdjustmentView {
    fn from(row: AdjustmentRow) -> Self {
        let AdjustmentRow { id, product, delta, total, reason, by, at } = row;
        Self { adjustment: id, product, delta, total, reason, by, at }
    }
}

/// Adds units to a product or takes unsold ones away, in any tier and phase. The same for every repeat of its key.
#[utoipa::path(post, path = "/v1/products/{product}/adjustments", tag = "stock",
    params(("product" = Sku, Path), IdempotencyKeyHeader), request_body = Wish,
    security(("bearer" = ["merchandiser"])),
    responses((status = 201, body = AdjustmentView, description = "What stands in the books")),
    extensions(("x-problems" = json!(["key-reused", "too-few-units", "unavailable"]))))]
pub(super) async fn adjust(
    State(app): State<App>,
    Staff { by, .. }: Staff<Sellers>,
    Named(product): Named<Sku>,
    Key(id): Key,
    Object(wish): Object<Wish>,
) -> Result<Response, Problem> {
    let invalid = |field: &str, why: String| Problem::new(ProblemKind::INVALID_FIELD, why).field(field);
    let delta = NonZeroI64::new(wish.delta).ok_or_else(|| invalid("delta", "0 units change nothing".into()))?;
    let reason = Reason::new(&wish.reason).map_err(|e| invalid("reason", e.to_string()))?;
    let act = Act::Adjust(Adjustment { id, product, delta, reason, by: by.subject.as_str().to_owned() });
    let acted = app.sql.administer(act, by, app.shared.now()).await.map_err(|e| problems::store(&e))?;
    let Acted::Adjusted(adjusted) = acted else { return Err(answered_otherwise(&acted)) };
    metrics::adjusted(&adjusted);
    match adjusted {
        Adjusted::Done { row, product } => {
            if let Some(product) = product {
                tracing::info!(product = %row.product, delta = row.delta, total = row.total, by = row.by,
                    adjustment = %row.id, "stock adjusted");
                app.shared.table.put(*product);
                // A lease may have been fenced, or there is something to lend.
                app.shared.wake_mover.product(&row.product);
            }
            Ok((StatusCode::CREATED, Json(AdjustmentView::from(row))).into_response())
        }
        Adjusted::OtherBody => Err(problems::key_reused("this Idempotency-Key belongs to another adjustment")),
        Adjusted::TooFew { removable } => Err(Problem::new(
            problems::TOO_FEW,
            format!("all but {removable} units are sold or reserved: at most {removable} can be removed"),
        )
        .field("delta")),
        Adjusted::TooMany { room } => Err(invalid("delta", format!("at most {room} units can be added"))),
        Adjusted::UnknownProduct => Err(unknown()),
    }
}
