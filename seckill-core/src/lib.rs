//! Purchase, stock, orders, payment and the moves of a product between tiers.
//!
//! A request's way: `http` → `admission` → `purchase` (picks the path by `tier_table`) → `stock/{db, redis,
//! queue}` → the store. Beside it: `plan_client` (what the control plane wishes), `handover` and `mover` (how a
//! product gets there), `lease_keeper` (how its lease is doing), `ticket`, `outbox`, `expiry`, `payment`, `live` (pushes order
//! events to shoppers).

mod admission;
mod bloom;
pub mod challenge;
mod credits;
mod expiry;
pub mod handover;
mod heard;
mod http;
mod ids;
mod import;
mod lease_keeper;
mod live;
mod meters;
pub mod metrics;
mod mover;
pub mod options;
mod outbox;
pub mod payment;
mod plan_client;
mod purchase;
mod purchase_token;
mod recent;
mod reconcile;
pub mod retention;
pub mod service;
mod shared;
pub mod stock;
pub mod ticket;
mod tier_table;
mod wake;
pub mod webhooks;

// The proofs stand with the other tests and inside the crate: they call its decisions one by one.
#[cfg(test)]
#[path = "../tests/model/mod.rs"]
mod model;
#[cfg(test)]
#[path = "../tests/sim/mod.rs"]
mod sim;

pub use handover::MoveDone;
pub use live::options::LiveOptions;
pub use options::{Options, PaymentProviderKind, SimulatedPaymentOptions};
pub use payment::{CallbackKeys, ExternalProvider, Payments, SimulatedProvider};
pub use service::{CoreError, CoreHandle, SeckillCore};
pub use stock::redis::InProcessLeases;
pub use ticket::TicketSecret;
