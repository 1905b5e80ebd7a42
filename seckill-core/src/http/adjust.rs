//! Administration of stock: adds units to a product or takes unsold ones away while it sells. What is malformed is
//! refused here; what is possible, and once only, is the store's to say.

use std::num::NonZeroI64;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use http_kit::{Caller, Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use types::{BuyerId, IdempotencyKey, Role, Sku, Timestamp};

use super::App;
use super::extract::{IdempotencyKeyHeader, Key, Named, Object, unknown};
use super::problems;
use crate::metrics;
use crate::stock::adjustment::{Adjusted, Adjustment, AdjustmentRow, Reason};

/// Whoever may change stock. Its own extractor, so that nobody else learns what is wrong with his call.
pub(super) struct Keeper(BuyerId);

impl<S: Send + Sync> FromRequestParts<S> for Keeper {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        Ok(Self(caller.require(&[Role::Merchandiser, Role::Admin])?.subject))
    }
}

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
    Keeper(by): Keeper,
    Named(product): Named<Sku>,
    Key(id): Key,
    Object(wish): Object<Wish>,
) -> Result<Response, Problem> {
    let invalid = |field: &str, why: String| Problem::new(ProblemKind::INVALID_FIELD, why).field(field);
    let delta = NonZeroI64::new(wish.delta).ok_or_else(|| invalid("delta", "0 units change nothing".into()))?;
    let reason = Reason::new(&wish.reason).map_err(|e| invalid("reason", e.to_string()))?;
    let asked = Adjustment { id, product, delta, reason, by: by.as_str().to_owned() };
    let adjusted = app.shared.store.adjust(asked, app.shared.now()).await.map_err(|e| problems::store(&e))?;
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
