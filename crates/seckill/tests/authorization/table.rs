//! The authorization matrix: who may call what, on every listener. A route that is not here fails the test, and so
//! does a row without a route.

use types::Role;
use types::Role::{Admin, Control, Merchandiser, Operator, Shopper, Viewer};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever reaches the listener, with whatever token.
    Everybody,
    /// Callers with one of these roles; `admin` has every human role.
    Roles(&'static [Role]),
    /// The shopper whose it is; to others it does not exist.
    Owner,
    /// Nobody by a token: the call proves itself by its signature.
    Signed,
    /// Whoever has a session in a cookie; a token is no session.
    Session,
}
use Who::{Everybody, Owner, Roles, Session, Signed};

/// A listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    CorePublic,
    CoreAdmin,
    CorePrivate,
    Control,
    Analyzer,
    Collector,
}

/// Listener, method, path as the router has it, who, and a path with what the test has made.
pub type Row = (At, &'static str, &'static str, Who);

const READERS: Who = Roles(&[Viewer, Merchandiser, Operator, Admin]);
const SELLERS: Who = Roles(&[Merchandiser, Admin]);
const STOPPERS: Who = Roles(&[Merchandiser, Operator, Admin]);
const OPERATORS: Who = Roles(&[Operator, Admin]);
const ADMINS: Who = Roles(&[Admin]);
const SHOPPERS: Who = Roles(&[Shopper, Admin]);

pub const TABLE: &[Row] = &[
    (At::CorePublic, "get", "/openapi.json", Everybody),
    (At::CorePublic, "get", "/v1/sales", Everybody),
    (At::CorePublic, "get", "/v1/sales/{sale}", Everybody),
    (At::CorePublic, "get", "/v1/products/{product}", Everybody),
    (At::CorePublic, "get", "/v1/products/{product}/availability", Everybody),
    (At::CorePublic, "post", "/v1/sales/{sale}/products/{product}/token", SHOPPERS),
    (At::CorePublic, "post", "/v1/sales/{sale}/products/{product}/purchases", SHOPPERS),
    (At::CorePublic, "get", "/v1/tickets/{ticket}", Owner),
    (At::CorePublic, "get", "/v1/orders", SHOPPERS),
    (At::CorePublic, "get", "/v1/orders/{order}", Owner),
    (At::CorePublic, "post", "/v1/orders/{order}/pay", Owner),
    (At::CorePublic, "post", "/v1/orders/{order}/cancel", Owner),
    (At::CorePublic, "post", "/v1/live/passes", SHOPPERS),
    // A pass says who it is, and it comes before the connection is open: without one everybody is told the same.
    (At::CorePublic, "get", "/v1/live", Everybody),
    (At::CorePublic, "post", "/v1/payments/callback", Signed),
    //
    (At::CoreAdmin, "get", "/openapi.json", Everybody),
    (At::CoreAdmin, "get", "/v1/sales", READERS),
    (At::CoreAdmin, "get", "/v1/sales/{sale}", READERS),
    (At::CoreAdmin, "put", "/v1/sales/{sale}", SELLERS),
    (At::CoreAdmin, "post", "/v1/sales/{sale}/clone", SELLERS),
    (At::CoreAdmin, "post", "/v1/sales/{sale}/pause", STOPPERS),
    (At::CoreAdmin, "post", "/v1/sales/{sale}/resume", STOPPERS),
    (At::CoreAdmin, "post", "/v1/products/{product}/adjustments", SELLERS),
    (At::CoreAdmin, "post", "/v1/sales/{sale}/imports/catalogue", SELLERS),
    (At::CoreAdmin, "post", "/v1/sales/{sale}/imports/stock", SELLERS),
    (At::CoreAdmin, "get", "/v1/orders", READERS),
    (At::CoreAdmin, "post", "/v1/orders/{order}/confirm", SELLERS),
    (At::CoreAdmin, "post", "/v1/orders/{order}/release", SELLERS),
    (At::CoreAdmin, "post", "/v1/orders/{order}/refund", SELLERS),
    (At::CoreAdmin, "get", "/v1/reconciliation.csv", READERS),
    (At::CoreAdmin, "post", "/v1/reconciliation", READERS),
    (At::CoreAdmin, "get", "/v1/audit", OPERATORS),
    (At::CoreAdmin, "delete", "/v1/buyers/{buyer}", ADMINS),
    (At::CoreAdmin, "get", "/v1/webhooks", OPERATORS),
    (At::CoreAdmin, "get", "/v1/webhooks/{webhook}", OPERATORS),
    (At::CoreAdmin, "put", "/v1/webhooks/{webhook}", ADMINS),
    (At::CoreAdmin, "delete", "/v1/webhooks/{webhook}", ADMINS),
    (At::CoreAdmin, "get", "/v1/webhooks/{webhook}/dead-letters", OPERATORS),
    (At::CoreAdmin, "post", "/v1/webhooks/{webhook}/replay", OPERATORS),
    // The last of this listener: nothing is sold after it.
    (At::CoreAdmin, "post", "/v1/sales/{sale}/close", SELLERS),
    //
    (At::CorePrivate, "get", "/openapi.json", Everybody),
    (At::CorePrivate, "get", "/healthz", Everybody),
    (At::CorePrivate, "get", "/readyz", Everybody),
    (At::CorePrivate, "post", "/internal/plan", Roles(&[Control])),
    (At::CorePrivate, "get", "/internal/edge/credits", Roles(&[Role::Edge])),
    (At::CorePrivate, "get", "/internal/state", Roles(&[Control, Viewer, Operator, Admin])),
    //
    (At::Control, "get", "/openapi.json", Everybody),
    (At::Control, "get", "/v1/plan", READERS),
    (At::Control, "get", "/v1/plan/generations", READERS),
    (At::Control, "get", "/v1/why/{product}", READERS),
    (At::Control, "get", "/v1/leader", READERS),
    (At::Control, "get", "/v1/events", READERS),
    (At::Control, "get", "/v1/policy", READERS),
    (At::Control, "put", "/v1/policy", OPERATORS),
    (At::Control, "get", "/v1/policy/versions", READERS),
    (At::Control, "get", "/v1/freeze", READERS),
    (At::Control, "put", "/v1/freeze", OPERATORS),
    (At::Control, "delete", "/v1/freeze", OPERATORS),
    (At::Control, "get", "/v1/pauses", READERS),
    (At::Control, "put", "/v1/sales/{sale}/pause", OPERATORS),
    (At::Control, "delete", "/v1/sales/{sale}/pause", OPERATORS),
    (At::Control, "put", "/v1/products/{product}/pause", OPERATORS),
    (At::Control, "delete", "/v1/products/{product}/pause", OPERATORS),
    (At::Control, "post", "/v1/overrides:batch", OPERATORS),
    (At::Control, "get", "/v1/cores", READERS),
    (At::Control, "get", "/v1/audit", READERS),
    (At::Control, "get", "/v1/overrides", READERS),
    (At::Control, "get", "/v1/overrides/{product}", READERS),
    (At::Control, "put", "/v1/overrides/{product}", OPERATORS),
    (At::Control, "delete", "/v1/overrides/{product}", OPERATORS),
    (At::Control, "get", "/auth/login", Everybody),
    (At::Control, "get", "/auth/callback", Everybody),
    (At::Control, "get", "/auth/me", Session),
    (At::Control, "post", "/auth/logout", Everybody),
    //
    (At::Analyzer, "get", "/openapi.json", Everybody),
    (At::Analyzer, "get", "/v1/top", READERS),
    (At::Analyzer, "get", "/v1/heat/stream", READERS),
    (At::Analyzer, "get", "/v1/products/{id}/heat", READERS),
    (At::Analyzer, "post", "/druid/v2/sql", READERS),
    (At::Analyzer, "post", "/druid/v2/sql/", READERS),
    (At::Analyzer, "delete", "/druid/v2/sql/{id}", READERS),
    (At::Analyzer, "get", "/druid/v2/datasources", READERS),
    (At::Analyzer, "get", "/druid/v2/datasources/", READERS),
    (At::Analyzer, "get", "/status", READERS),
    (At::Analyzer, "get", "/status/health", Everybody),
    (At::Analyzer, "get", "/auth/login", Everybody),
    (At::Analyzer, "get", "/auth/callback", Everybody),
    (At::Analyzer, "get", "/auth/me", Session),
    (At::Analyzer, "post", "/auth/logout", Everybody),
    // The collector's listener is private: health and books, and no line's bytes.
    (At::Collector, "get", "/healthz", Everybody),
    (At::Collector, "get", "/readyz", Everybody),
    (At::Collector, "get", "/v1/accounting", Everybody),
    (At::Collector, "get", "/v1/dead-letters", Everybody),
];

/// Routes that are being built: a row counts as soon as its route is there, and then moves up.
pub const COMING: &[Row] = &[];

/// Routes that the binary puts beside a listener's own, on loopback or on private listeners; they ask nobody.
pub const BESIDE: &[(&str, &str)] =
    &[("get", "/metrics"), ("get", "/"), ("get", "/overview.json"), ("get", "/healthz")];
