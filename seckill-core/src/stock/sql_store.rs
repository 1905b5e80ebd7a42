//! All that a core asks of its SQL database, under one name: a provider implements each port, and whoever wires a
//! core passes one thing. It adds nothing of its own.

use crate::stock::admin_store::AdminStore;
use crate::stock::live_store::LiveStore;
use crate::stock::order_feed::OrderFeed;
use crate::stock::payment_store::PaymentStore;
use crate::stock::retention_store::RetentionStore;
use crate::stock::store::StockStore;
use crate::stock::webhook_store::WebhookStore;

/// Every port on the one database that owns stock and orders.
pub trait SqlStore:
    StockStore + AdminStore + OrderFeed + PaymentStore + RetentionStore + WebhookStore + LiveStore
{
}

impl<T: StockStore + AdminStore + OrderFeed + PaymentStore + RetentionStore + WebhookStore + LiveStore> SqlStore for T {}
