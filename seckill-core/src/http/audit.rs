//! The audit log, read page by page. It is never written here: each line is written with the act that it tells of.

use axum::Json;
use axum::extract::State;
use http_kit::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::Timestamp;
use utoipa::IntoParams;

use super::App;
use super::extract::{Params, page_length};
use super::problems;
use super::staff::{Auditors, Staff};
use crate::stock::admin_store::{AuditLine, MAX_AUDIT_PAGE};

/// Where a reader of the log goes on, and how far.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// The `next` of the page before; without it, from the first line.
    #[serde(default)]
    since: u64,
    /// Most lines of this page.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// A line of the audit log.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = AuditLine)]
struct LineView {
    seq: u64,
    at: Timestamp,
    subject: String,
    roles: Vec<String>,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    outcome: &'static str,
    #[serde(flatten)]
    #[schema(inline)]
    detail: Detail,
}

impl From<AuditLine> for LineView {
    fn from(line: AuditLine) -> Self {
        Self {
            seq: line.seq,
            at: line.at,
            subject: line.subject,
            roles: line.roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
            action: line.action,
            sale: line.sale,
            product: line.product,
            request: line.request,
            outcome: line.end.as_str(),
            detail: serde_json::from_value(line.detail).unwrap_or_else(|_| Detail::unreadable()),
        }
    }
}

/// What changed.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
struct Detail {
    /// What there was, where the act changed it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    before: Value,
    /// What there is now in its place.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    after: Value,
    /// What was asked for and refused.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    asked: Value,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Detail {
    /// Of a line whose text is of another form: nobody but this program writes them.
    fn unreadable() -> Self {
        Self { before: Value::Null, after: Value::Null, asked: Value::Null, why: Some("unreadable".into()) }
    }
}

/// A page of the audit log; `next` is the `since` of the page after it.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct AuditPage {
    lines: Vec<LineView>,
    next: u64,
}

/// Lines of the audit log with numbers above `since`, oldest first. An empty page says that there is nothing newer
/// yet: the same cursor may be asked with again.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", operation_id = "audit_lines",
    params(Since),
    security(("bearer" = ["operator"])),
    responses((status = 200, body = AuditPage, description = "A page of the log")),
    extensions(("x-problems" = json!(["malformed", "invalid-field", "unavailable"]))))]
pub(super) async fn lines(
    State(app): State<App>,
    _: Staff<Auditors>,
    Params(asked): Params<Since>,
) -> Result<Json<AuditPage>, Problem> {
    let (since, limit) = (asked.since, page_length(asked.limit, MAX_AUDIT_PAGE)?);
    let lines = app.sql.audit_lines(since, limit).await.map_err(|e| problems::store(&e))?;
    let next = lines.last().map_or(since, |line| line.seq);
    Ok(Json(AuditPage { lines: lines.into_iter().map(LineView::from).collect(), next }))
}
