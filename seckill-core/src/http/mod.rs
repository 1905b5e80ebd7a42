//! The core's three listeners: shoppers, administration, and the private one for the control plane and health.
//! Routes parse and answer; what is decided is decided behind them.

mod adjust;
mod admin;
mod answers;
mod audit;
mod clone;
mod documents;
mod edge;
mod erasure;
mod extract;
mod imports;
mod live;
mod order_feed;
mod orders;
mod payments;
mod private;
mod problems;
mod reconciliation;
mod sales;
mod shopping;
mod staff;
mod view;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};
use http_kit::openapi::documented;
use http_kit::{Limits, SharedAuthenticator, authenticate, harden};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::challenge::Challenge;
use crate::mover::Mover;
use crate::payment::desk::PaymentDesk;
use crate::plan_client::PlanClient;
use crate::shared::Shared;
use crate::stock::sql_store::SqlStore;

/// Largest body of the private listener: a plan of `MAX_PUSH_ENTRIES` with long reasons.
const PLAN_BODY: usize = 32 * 1024 * 1024;
/// Largest body of the admin listener: a sale of `MAX_PRODUCTS` with long names.
const SALE_BODY: usize = 48 * 1024 * 1024;
/// Largest body of a shopper's call: a purchase is below 200 bytes.
const SHOPPER_BODY: usize = 16 * 1024;

/// Where providers call back.
pub(crate) const CALLBACK: &str = "/v1/payments/callback";

/// What handlers need.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) shared: Arc<Shared>,
    /// The database, for what is not about purchases.
    pub(crate) sql: Arc<dyn SqlStore>,
    pub(crate) plan: Arc<PlanClient>,
    pub(crate) mover: Arc<Mover>,
    pub(crate) desk: Arc<PaymentDesk>,
    /// What a purchase token costs.
    pub(crate) challenge: Arc<dyn Challenge>,
}

/// Shoppers' routes.
fn public_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sales::list))
        .routes(routes!(sales::one))
        .routes(routes!(sales::product))
        .routes(routes!(sales::availability))
        .routes(routes!(shopping::token))
        .routes(routes!(shopping::purchase))
        .routes(routes!(shopping::ticket))
        .routes(routes!(orders::list))
        .routes(routes!(orders::one))
        .routes(routes!(orders::cancel))
        .routes(routes!(orders::pay))
        .routes(routes!(live::issue))
        .routes(routes!(live::open))
}

/// Payment providers' routes: a call proves itself by its signature, whatever bearer token it also sends.
fn provider_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(payments::callback))
}

/// Administration's routes.
fn admin_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(admin::list))
        .routes(routes!(admin::show, admin::apply))
        .routes(routes!(clone::clone))
        .routes(routes!(admin::pause))
        .routes(routes!(admin::resume))
        .routes(routes!(admin::close))
        .routes(routes!(adjust::adjust))
        .routes(routes!(order_feed::since))
        .routes(routes!(imports::import_catalogue))
        .routes(routes!(imports::import_stock))
        .routes(routes!(audit::lines))
        .routes(routes!(payments::confirm))
        .routes(routes!(payments::release))
        .routes(routes!(payments::refund))
        .routes(routes!(reconciliation::orders))
        .routes(routes!(reconciliation::compare))
        .routes(routes!(erasure::erase))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::show, webhooks::put, webhooks::remove))
        .routes(routes!(webhooks::dead_letters))
        .routes(routes!(webhooks::replay))
}

/// The control plane's routes.
fn plan_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(private::plan)).routes(routes!(private::state))
}

/// The edges' routes.
fn edge_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(edge::credits))
}

/// Health is asked without credentials, and a bad header must not make a core look ill.
fn health_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(private::alive)).routes(routes!(private::ready))
}

/// Serves shoppers.
pub(crate) fn public(app: App, authenticator: SharedAuthenticator) -> Router {
    let shoppers = public_routes().layer(middleware::from_fn_with_state(authenticator, authenticate));
    let (router, _) = documented(shoppers.merge(provider_routes()), &documents::PUBLIC);
    let router = router.with_state(app);
    harden(router, Limits { body: SHOPPER_BODY, ..Limits::default() })
}

/// Serves the shop's administration.
pub(crate) fn admin(app: App, authenticator: SharedAuthenticator) -> Router {
    let (router, _) = documented(admin_routes(), &documents::ADMIN);
    let router = router.with_state(app).layer(middleware::from_fn_with_state(authenticator, authenticate));
    harden(router, Limits { body: SALE_BODY, time: Duration::from_secs(30), concurrent: 64 })
}

/// Serves the control plane, the edges, health checks, and what the binary adds (`extra`: metrics).
pub(crate) fn private(app: App, authenticator: SharedAuthenticator, extra: Router) -> Router {
    let plan = plan_routes().merge(edge_routes()).layer(middleware::from_fn_with_state(authenticator, authenticate));
    let (router, _) = documented(plan.merge(health_routes()), &documents::PRIVATE);
    harden(
        router.with_state(app).merge(extra),
        Limits { body: PLAN_BODY, time: Duration::from_secs(30), concurrent: 256 },
    )
}
