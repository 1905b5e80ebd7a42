//! What the calls answer, as JSON: snake_case, RFC 3339 times, money in minor units. It shows a buyer only what
//! is his, and nobody the tier table's inside.

use serde::Serialize;
use types::order_event::OrderEventKind;
use types::{Money, OrderId, PageId, PaymentId, SaleName, SalePolicy, Sku, Tier, Timestamp};
use utoipa::ToSchema;

use crate::stock::admin_store::SaleDetail;
use crate::stock::store::{OrderRow, ProductRow, SaleState};
use crate::tier_table::SaleSummary;

/// An order, for its owner.
#[derive(Serialize, ToSchema)]
pub(super) struct OrderView {
    order: OrderId,
    sale: SaleName,
    product: Sku,
    quantity: u32,
    amount: Money,
    #[schema(value_type = OrderEventKind)]
    state: &'static str,
    tier: Tier,
    accepted_at: Timestamp,
    expires_at: Timestamp,
}

impl From<OrderRow> for OrderView {
    fn from(row: OrderRow) -> Self {
        Self {
            order: row.order,
            sale: row.sale,
            product: row.product,
            quantity: row.quantity,
            amount: row.amount,
            state: OrderEventKind::from(row.state).as_str(),
            tier: row.tier,
            accepted_at: row.accepted_at,
            expires_at: row.expires_at,
        }
    }
}

/// A buyer's orders, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Orders {
    pub(super) orders: Vec<OrderView>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// A 202: on its way.
#[derive(Serialize, ToSchema)]
pub(super) struct Pending {
    pub(super) ticket: String,
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<u64>,
    pub(super) estimate_ms: u64,
    pub(super) deadline: Timestamp,
}

/// A ticket as it stands.
#[derive(Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum TicketView {
    Pending { deadline: Timestamp },
    Accepted { order: OrderView },
    Refused { reason: &'static str },
}

/// A payment that was started.
#[derive(Serialize, ToSchema)]
pub(super) struct PaymentView {
    /// The provider's; none where the shop takes the money itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payment: Option<PaymentId>,
    pub(super) order: OrderId,
    /// `started`, or `external`: the shop takes the money itself.
    pub(super) state: &'static str,
    pub(super) amount: Money,
    /// Until when the order waits for it.
    pub(super) expires_at: Timestamp,
}

pub(super) const fn sale_state(state: SaleState, opens: Timestamp, closes: Timestamp, now: Timestamp) -> &'static str {
    match state {
        SaleState::Closed => "closed",
        _ if now.millis() >= closes.millis() => "ended",
        SaleState::Paused => "paused",
        SaleState::Active if now.millis() < opens.millis() => "upcoming",
        SaleState::Active => "open",
    }
}

/// A product, for everybody. Nothing in it changes by the second.
#[derive(Serialize, ToSchema)]
pub(super) struct ProductView {
    product: Sku,
    sale: SaleName,
    name: String,
    price: Money,
    limit: u32,
    opens: Timestamp,
    closes: Timestamp,
    state: &'static str,
    /// Whether a purchase needs a token from `POST …/token`.
    token_required: bool,
}

impl ProductView {
    pub(super) fn new(row: &ProductRow, now: Timestamp) -> Self {
        Self {
            product: row.state.product.clone(),
            sale: row.state.sale.clone(),
            name: row.name.clone(),
            price: row.price,
            limit: row.limit,
            opens: row.state.opens,
            closes: row.state.closes,
            state: sale_state(row.sale_state, row.state.opens, row.state.closes, now),
            token_required: row.policy.token_required,
        }
    }
}

/// A sale, for everybody: `upcoming`, `open`, `paused`, `ended` or `closed`.
#[derive(Serialize, ToSchema)]
pub(super) struct SaleView {
    pub(super) sale: SaleName,
    pub(super) state: &'static str,
    pub(super) opens: Timestamp,
    pub(super) closes: Timestamp,
    pub(super) products: Vec<Sku>,
}

impl SaleView {
    pub(super) fn new(name: &SaleName, sale: &SaleSummary, now: Timestamp) -> Self {
        Self {
            sale: name.clone(),
            state: sale_state(sale.state, sale.opens, sale.closes, now),
            opens: sale.opens,
            closes: sale.closes,
            products: sale.products.clone(),
        }
    }
}

/// All sales that are not closed.
#[derive(Serialize, ToSchema)]
pub(super) struct Sales {
    pub(super) sales: Vec<SaleView>,
}

/// A sale with its products.
#[derive(Serialize, ToSchema)]
pub(super) struct SalePage {
    pub(super) sale: SaleName,
    pub(super) state: &'static str,
    pub(super) opens: Timestamp,
    pub(super) closes: Timestamp,
    pub(super) products: Vec<ProductView>,
}

/// The live number of a product.
#[derive(Serialize, ToSchema)]
pub(super) struct Availability {
    product: Sku,
    state: &'static str,
    sellable: u64,
}

impl Availability {
    pub(super) fn new(row: &ProductRow, now: Timestamp) -> Self {
        let state = match sale_state(row.sale_state, row.state.opens, row.state.closes, now) {
            "open" if row.state.sellable > 0 => "available",
            "open" if row.state.reserved > 0 => "all_reserved",
            "open" => "sold_out",
            other => other,
        };
        Self { product: row.state.product.clone(), state, sellable: row.state.sellable }
    }
}

/// What administration is told of a sale.
#[derive(Serialize, ToSchema)]
pub(super) struct SaleStateView {
    pub(super) sale: SaleName,
    pub(super) state: &'static str,
}

pub(super) const fn stored_state(state: SaleState) -> &'static str {
    match state {
        SaleState::Active => "active",
        SaleState::Paused => "paused",
        SaleState::Closed => "closed",
    }
}

/// A product, for administration.
#[derive(Serialize, ToSchema)]
pub(super) struct StockView {
    product: Sku,
    name: String,
    price: Money,
    limit: u32,
    tier: Tier,
    phase: &'static str,
    epoch: u64,
    total: u64,
    free: u64,
    sellable: u64,
    reserved: u64,
    sold: u64,
}

impl From<&ProductRow> for StockView {
    fn from(row: &ProductRow) -> Self {
        Self {
            product: row.state.product.clone(),
            name: row.name.clone(),
            price: row.price,
            limit: row.limit,
            tier: row.state.tier,
            phase: row.state.phase.as_str(),
            epoch: row.state.epoch.get(),
            total: row.state.total,
            free: row.free,
            sellable: row.state.sellable,
            reserved: row.state.reserved,
            sold: row.sold,
        }
    }
}

/// A sale with its stock: `active`, `paused` or `closed`.
#[derive(Serialize, ToSchema)]
pub(super) struct AdminSale {
    pub(super) sale: SaleName,
    pub(super) state: &'static str,
    pub(super) opens: Timestamp,
    pub(super) closes: Timestamp,
    pub(super) products: Vec<StockView>,
}

/// All sales that are not closed, with their stock.
#[derive(Serialize, ToSchema)]
pub(super) struct AdminSales {
    pub(super) sales: Vec<AdminSale>,
}

/// A product of a sale with all that administration may change, and its stock.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminProduct)]
struct ProductDetailView {
    #[serde(flatten)]
    stock: StockView,
    /// Units that it came with.
    brought: u64,
    initial_tier: Option<Tier>,
    pages: Vec<PageId>,
}

/// A sale, closed or not, for administration.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminSaleDetail)]
pub(super) struct SaleDetailView {
    sale: SaleName,
    state: &'static str,
    zone: String,
    opens: Timestamp,
    closes: Timestamp,
    /// The window as the sale's zone shows it on its clocks.
    opens_local: Option<String>,
    closes_local: Option<String>,
    updated_at: Timestamp,
    policy: SalePolicy,
    products: Vec<ProductDetailView>,
}

impl From<SaleDetail> for SaleDetailView {
    fn from(sale: SaleDetail) -> Self {
        let policy = sale.spec().policy;
        let products = sale.products.into_iter().map(|(row, brought)| ProductDetailView {
            stock: StockView::from(&row),
            brought,
            initial_tier: row.state.initial_tier,
            pages: row.state.pages,
        });
        Self {
            state: stored_state(sale.state),
            opens_local: types::sale::local_text(sale.opens, &sale.zone),
            closes_local: types::sale::local_text(sale.closes, &sale.zone),
            sale: sale.name,
            zone: sale.zone,
            opens: sale.opens,
            closes: sale.closes,
            updated_at: sale.updated_at,
            policy,
            products: products.collect(),
        }
    }
}
