//! Files of many rows: a catalogue or adjustments of stock, as CSV. The file is read no further than an import may be
//! long; what its rows say is read by `import`, and what is possible is the store's to say. All of it, or nothing.

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http_kit::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use types::SaleName;
use types::sale::window;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::admin::{answered_otherwise, refused};
use super::extract::{IdempotencyKeyHeader, Key, Named, Params, unknown};
use super::problems;
use super::staff::{Sellers, Staff};
use crate::import::{Unreadable, catalogue, stock};
use crate::metrics;
use crate::stock::admin_store::{Act, Acted, Action, Actor};
use crate::stock::import::{CatalogueImport, ImportCounts, ImportId, Imported, MAX_ROWS, RowErrors, StockImport};
use crate::stock::store::BodyHash;

/// Largest file: rows of 800 bytes, with the longest names and a few pages each.
const MAX_FILE: usize = 8 * 1024 * 1024;
/// Bytes of a refused file that are still read and dropped: a sender that only listens once he has sent all would else
/// lose the answer with his connection.
const MOST_DISCARDED: usize = MAX_FILE;

/// How a catalogue is imported.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CatalogueParams {
    /// `true`: says what would become of it and changes nothing.
    #[serde(default)]
    dry_run: bool,
    /// IANA zone of the window; with `opens` and `closes` a sale is made that is not there yet.
    zone: Option<String>,
    /// Local time in `zone`, such as `2026-11-27T09:00:00`.
    opens: Option<String>,
    /// Local time in `zone`.
    closes: Option<String>,
}

/// How stock is imported.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StockParams {
    /// `true`: says what would become of it and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What an import did, or would do.
#[derive(Serialize, ToSchema)]
#[schema(as = ImportDone)]
pub(super) struct ImportView {
    sale: SaleName,
    dry_run: bool,
    /// The sale was made by it.
    new_sale: bool,
    /// An earlier call with the same key did it.
    repeated: bool,
    /// Rows of the file.
    rows: u64,
    /// Products that are new.
    created: u64,
    /// Products that came back from a closed sale, with new stock.
    returned: u64,
    /// Products that were changed.
    changed: u64,
    /// Products that were so already.
    unchanged: u64,
    /// Units that came into being.
    added: u64,
    /// Units that left.
    removed: u64,
}

/// Adds products to a sale, or changes those there, from a CSV file: columns `sku,name,price,currency,stock,limit` and
/// optionally `initial_tier,pages`, in any order. Products that the file does not name stay as they are. Refused rows
/// are listed in `errors` (`{row, column, why}`, the first 100; `more` says how many others), and nothing changes.
#[utoipa::path(post, path = "/v1/sales/{sale}/imports/catalogue", tag = "imports", operation_id = "import_catalogue",
    params(("sale" = SaleName, Path), CatalogueParams),
    request_body(content = String, content_type = "text/csv"), security(("bearer" = ["merchandiser"])),
    responses((status = 201, body = ImportView, description = "The sale was made"),
        (status = 200, body = ImportView, description = "The sale was changed, or would be")),
    extensions(("x-problems" = json!(["malformed", "invalid-rows", "too-many-rows", "unavailable"]))))]
pub(super) async fn import_catalogue(
    State(app): State<App>,
    Staff { by, .. }: Staff<Sellers>,
    Named(sale): Named<SaleName>,
    Params(asked): Params<CatalogueParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    csv_type(&headers)?;
    let window = match (asked.zone, asked.opens, asked.closes) {
        (None, None, None) => None,
        (Some(zone), Some(opens), Some(closes)) => {
            let window = window(&zone, &opens, &closes)?;
            Some((zone, window))
        }
        _ => {
            let why = "zone, opens and closes come together";
            return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("opens"));
        }
    };
    let rows = catalogue(&file(body).await?).map_err(unreadable)?;
    let dry_run = asked.dry_run;
    let act = Act::ImportCatalogue(CatalogueImport { sale: sale.clone(), window, rows, dry_run });
    administer(&app, act, by, sale, Action::ImportCatalogue, dry_run).await
}

/// Adds and removes units of many products of a sale, from a CSV file `sku,delta,reason`. The `Idempotency-Key` (at
/// most 60 bytes) names the import: the same one takes effect once. Refused rows are listed in `errors`, and nothing
/// changes.
#[utoipa::path(post, path = "/v1/sales/{sale}/imports/stock", tag = "imports", operation_id = "import_stock",
    params(("sale" = SaleName, Path), StockParams, IdempotencyKeyHeader),
    request_body(content = String, content_type = "text/csv"), security(("bearer" = ["merchandiser"])),
    responses((status = 200, body = ImportView, description = "What stands in the books, or would")),
    extensions(("x-problems" = json!(["malformed", "invalid-rows", "too-many-rows", "key-reused", "unavailable"]))))]
pub(super) async fn import_stock(
    State(app): State<App>,
    Staff { by, .. }: Staff<Sellers>,
    Named(sale): Named<SaleName>,
    Params(asked): Params<StockParams>,
    Key(key): Key,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    csv_type(&headers)?;
    let id = ImportId::new(key)?;
    let text = file(body).await?;
    let rows = stock(&text).map_err(unreadable)?;
    let import = StockImport {
        id,
        file: BodyHash(Sha256::digest(&text).into()),
        sale: sale.clone(),
        rows,
        by: by.subject.as_str().to_owned(),
        dry_run: asked.dry_run,
    };
    let products: Vec<_> = import.rows.iter().map(|row| row.product.clone()).collect();
    let done = administer(&app, Act::ImportStock(import), by, sale, Action::ImportStock, asked.dry_run).await?;
    for product in products {
        // A lease may have been fenced, or there is something to lend.
        app.shared.wake_mover.product(&product);
    }
    Ok(done)
}

async fn administer(
    app: &App,
    act: Act,
    by: Actor,
    sale: SaleName,
    action: Action,
    dry_run: bool,
) -> Result<Response, Problem> {
    let actor = by.subject.clone();
    let acted = app.sql.administer(act, by, app.shared.now()).await.map_err(|e| problems::store(&e))?;
    let Acted::Imported(imported) = acted else { return Err(answered_otherwise(&acted)) };
    let outcome = if matches!(imported, Imported::Done { .. }) { "done" } else { "refused" };
    metrics::administered(action.as_str(), if dry_run { "dry_run" } else { outcome });
    match imported {
        Imported::Done { counts, new_sale, repeated } => {
            tracing::info!(%sale, action = action.as_str(), %actor, rows = counts.rows, dry_run, repeated, "imported");
            if !dry_run {
                app.shared.table.refresh().await.map_err(|e| problems::store(&e))?;
            }
            let status = if new_sale && !dry_run { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(ImportView::new(sale, counts, dry_run, new_sale, repeated))).into_response())
        }
        Imported::Rows(errors) => Err(wrong_rows(&errors)),
        Imported::Refused(why) => Err(refused(why)),
        Imported::OtherFile => Err(problems::key_reused("this Idempotency-Key belongs to another import")),
        Imported::UnknownSale => Err(unknown()),
    }
}

impl ImportView {
    fn new(sale: SaleName, counts: ImportCounts, dry_run: bool, new_sale: bool, repeated: bool) -> Self {
        let ImportCounts { rows, created, returned, changed, unchanged, added, removed } = counts;
        Self { sale, dry_run, new_sale, repeated, rows, created, returned, changed, unchanged, added, removed }
    }
}

/// Refuses what is not said to be CSV, or is said to be in another character set than UTF-8.
fn csv_type(headers: &HeaderMap) -> Result<(), Problem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().filter_map(|v| v.to_str().ok());
    let (said, twice) = (types.next().unwrap_or_default(), types.next().is_some());
    let mut parts = said.split(';').map(str::trim);
    let csv = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("text/csv"));
    let utf8 = parts.filter_map(|p| p.split_once('=')).all(|(name, value)| {
        let value = value.trim_matches('"');
        !name.eq_ignore_ascii_case("charset")
            || value.eq_ignore_ascii_case("utf-8")
            || value.eq_ignore_ascii_case("utf8")
    });
    if csv && utf8 && !twice {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::MEDIA_TYPE, "send the file as text/csv in UTF-8"))
}

/// The file, kept only as far as it may be long, in bytes and in lines.
async fn file(body: Body) -> Result<Vec<u8>, Problem> {
    let mut stream = body.into_data_stream();
    let refusal = match taken(&mut stream).await {
        Ok(text) => return Ok(text),
        Err(refusal) => refusal,
    };
    let mut discarded = 0;
    while discarded < MOST_DISCARDED
        && let Some(Ok(part)) = stream.next().await
    {
        discarded += part.len();
    }
    Err(refusal)
}

async fn taken(stream: &mut BodyDataStream) -> Result<Vec<u8>, Problem> {
    let (mut text, mut lines) = (Vec::new(), 0);
    while let Some(part) = stream.next().await {
        let part = part.map_err(|e| Problem::new(ProblemKind::MALFORMED, format!("the body ended early: {e}")))?;
        if text.len() + part.len() > MAX_FILE {
            let why = format!("a file has at most {MAX_FILE} bytes; send it in parts");
            return Err(Problem::new(ProblemKind::TOO_LARGE, why));
        }
        lines += part.iter().filter(|byte| **byte == b'\n').count();
        // The header, and a last line that is ended or not.
        if lines > MAX_ROWS + 1 {
            return Err(too_many());
        }
        text.extend_from_slice(&part);
    }
    Ok(text)
}

fn too_many() -> Problem {
    let why = format!("an import has at most {MAX_ROWS} rows; what a file does not name stays, so send it in parts");
    Problem::new(problems::TOO_MANY_ROWS, why)
}

fn unreadable(why: Unreadable) -> Problem {
    match why {
        Unreadable::TooManyRows => too_many(),
        Unreadable::Rows(errors) => wrong_rows(&errors),
    }
}

fn wrong_rows(errors: &RowErrors) -> Problem {
    let list: Vec<Value> =
        errors.first.iter().map(|e| json!({"row": e.row, "column": e.column, "why": e.why})).collect();
    let why = format!("{} rows or cells are wrong; nothing was changed", errors.count());
    Problem::new(problems::INVALID_ROWS, why).with("errors", list).with("more", errors.more)
}
