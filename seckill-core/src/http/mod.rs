//! The core's three listeners: shoppers, administration, and the private one for the control plane and health.
//! Routes parse and answer; what is decided is decided behind them.

mod adjust;
mod admin;
mod answers;
mod extract;
mod orders;
mod private;
mod problems;
mod sales;
mod shopping;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, post, put};
use axum::{Router, middleware};
use http_kit::{Limits, SharedAuthenticator, authenticate, harden};

use crate::mover::Mover;
use crate::payment::PaymentDesk;
use crate::plan_client::PlanClient;
use crate::shared::Shared;

/// Largest body of the private listener: a plan of `MAX_PUSH_ENTRIES` with long reasons.
const PLAN_BODY: usize = 32 * 1024 * 1024;
/// Largest body of the admin listener: a sale of `MAX_PRODUCTS` with long names.
const SALE_BODY: usize = 48 * 1024 * 1024;
/// Largest body of a shopper's call: a purchase is below 200 bytes.
const SHOPPER_BODY: usize = 16 * 1024;

/// What handlers need.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) shared: Arc<Shared>,
    pub(crate) plan: Arc<PlanClient>,
    pub(crate) mover: Arc<Mover>,
    pub(crate) desk: Arc<PaymentDesk>,
}

/// Shoppers' routes.
pub(crate) fn public(app: App, authenticator: SharedAuthenticator) -> Router {
    let router = Router::new()
        .route("/v1/sales", get(sales::list))
        .route("/v1/sales/{sale}", get(sales::one))
        .route("/v1/products/{product}", get(sales::product))
        .route("/v1/products/{product}/availability", get(sales::availability))
        .route("/v1/sales/{sale}/products/{product}/purchases", post(shopping::purchase))
        .route("/v1/tickets/{ticket}", get(shopping::ticket))
        .route("/v1/orders", get(orders::list))
        .route("/v1/orders/{order}", get(orders::one))
        .route("/v1/orders/{order}/cancel", post(orders::cancel))
        .route("/v1/orders/{order}/pay", post(orders::pay))
        .with_state(app)
        .layer(middleware::from_fn_with_state(authenticator, authenticate));
    harden(router, Limits { body: SHOPPER_BODY, ..Limits::default() })
}

/// The shop's administration.
pub(crate) fn admin(app: App, authenticator: SharedAuthenticator) -> Router {
    let router = Router::new()
        .route("/v1/sales", get(admin::list))
        .route("/v1/sales/{sale}", put(admin::apply))
        .route("/v1/sales/{sale}/pause", post(admin::pause))
        .route("/v1/sales/{sale}/resume", post(admin::resume))
        .route("/v1/sales/{sale}/close", post(admin::close))
        .route("/v1/products/{product}/adjustments", post(adjust::adjust))
        .with_state(app)
        .layer(middleware::from_fn_with_state(authenticator, authenticate));
    harden(router, Limits { body: SALE_BODY, time: Duration::from_secs(30), concurrent: 64 })
}

/// For the control plane, health checks, and what the binary adds (`extra`: metrics).
pub(crate) fn private(app: App, authenticator: SharedAuthenticator, extra: Router) -> Router {
    let router = Router::new()
        .route("/internal/plan", post(private::plan))
        .route("/internal/state", get(private::state))
        .with_state(app.clone())
        .layer(middleware::from_fn_with_state(authenticator, authenticate))
        // Health is asked without credentials, and a bad header must not make a core look ill.
        .route("/healthz", get(private::alive))
        .merge(Router::new().route("/readyz", get(private::ready)).with_state(app))
        .merge(extra);
    harden(router, Limits { body: PLAN_BODY, time: Duration::from_secs(30), concurrent: 256 })
}
