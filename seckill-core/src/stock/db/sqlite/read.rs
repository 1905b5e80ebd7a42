//! Reads: decisions, orders, products, the outbox. Each is one statement, so each sees one moment. Used by the
//! readers and, inside its transaction, by the writer.

use rusqlite::{Connection, OptionalExtension, Row, params};
use types::order_event::OrderEventKind;
use types::plan::ProductState;
use types::{BuyerId, IdempotencyKey, LeaseId, OrderEvent, OrderId, Phase, SalePolicy, Sku};

use super::fault::Fault;
use super::rows;
use crate::stock::store::{Decision, LeaseRow, OrderRow, ProductRow};

/// Where the relay's position stands in `meta`.
pub(super) const RELAYED: &str = "outbox_relayed";

/// The decision of `(buyer, key)`.
pub(super) fn decision(db: &Connection, buyer: &BuyerId, key: &IdempotencyKey) -> Result<Option<Decision>, Fault> {
    let mut find = db.prepare_cached(
        "SELECT body_hash, product_id, outcome, order_id, decided_at FROM decision WHERE buyer = ?1 AND key = ?2",
    )?;
    let mut rows = find.query(params![buyer.as_str(), key.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let word: String = row.get("outcome")?;
    Ok(Some(Decision {
        body_hash: rows::hash(row, "body_hash")?,
        product: rows::parsed(row, "product_id")?,
        outcome: rows::outcome(&word, rows::parsed_if_any(row, "order_id")?)?,
        at: rows::time(row, "decided_at")?,
    }))
}

macro_rules! orders_where {
    ($rest:literal) => {
        concat!(
            "SELECT order_id, buyer, sale, product_id, quantity, amount, currency, tier, state, accepted_at, expires_at ",
            "FROM orders WHERE ",
            $rest
        )
    };
}

/// An order by its id.
pub(super) fn order(db: &Connection, order: OrderId) -> Result<Option<OrderRow>, Fault> {
    let mut find = db.prepare_cached(orders_where!("order_id = ?1"))?;
    let mut rows = find.query([order.to_string()])?;
    rows.next()?.map(order_row).transpose()
}

/// A buyer's orders, newest first, found through his decisions.
pub(super) fn orders(db: &Connection, buyer: &BuyerId, max: usize) -> Result<Vec<OrderRow>, Fault> {
    let mut find = db.prepare_cached(orders_where!(
        "order_id IN (SELECT order_id FROM decision WHERE buyer = ?1) ORDER BY accepted_at DESC, order_id LIMIT ?2"
    ))?;
    collect(find.query(params![buyer.as_str(), limit(max)])?, order_row)
}

/// Accepted orders that are due, the longest overdue first.
pub(super) fn due(db: &Connection, now: types::Timestamp, max: usize) -> Result<Vec<OrderRow>, Fault> {
    let mut find =
        db.prepare_cached(orders_where!("state = 'accepted' AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2"))?;
    collect(find.query(params![now.millis(), limit(max)])?, order_row)
}

pub(super) fn order_row(row: &Row<'_>) -> Result<OrderRow, Fault> {
    let state: String = row.get("state")?;
    Ok(OrderRow {
        order: rows::parsed(row, "order_id")?,
        buyer: rows::parsed(row, "buyer")?,
        sale: rows::parsed(row, "sale")?,
        product: rows::parsed(row, "product_id")?,
        quantity: rows::small_count(row, "quantity")?,
        amount: rows::money(row, "amount", "currency")?,
        tier: rows::parsed(row, "tier")?,
        state: rows::order_state(&state)?,
        accepted_at: rows::time(row, "accepted_at")?,
        expires_at: rows::time(row, "expires_at")?,
    })
}

macro_rules! products_where {
    ($rest:literal) => {
        concat!(
            "SELECT p.product_id, p.sale, p.name, p.price, p.currency, p.buyer_limit, p.initial_tier, p.pages, ",
            "s.opens, s.closes, s.state AS sale_state, COALESCE(y.token_required, 0) AS token_required, ",
            "COALESCE(y.proof_of_work, 0) AS proof_of_work, ",
            "k.total, k.free, k.reserved, k.sold, k.tier, k.phase, k.epoch, k.target, ",
            "l.lease_id, l.epoch AS lease_epoch, l.granted, l.consumed, l.state AS lease_state, l.loaded, ",
            "COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0) AS told ",
            "FROM product p JOIN sale s ON s.name = p.sale LEFT JOIN sale_policy y ON y.sale = p.sale JOIN stock k ON k.product_id = p.product_id ",
            "LEFT JOIN lease l ON l.product_id = p.product_id AND l.state <> 'CLOSED' WHERE ",
            $rest
        )
    };
}

/// Every product of sales that are not closed, and those of closed sales that are not at rest yet: a lease
/// lives or a move is half done, and somebody must finish it.
pub(super) fn products(db: &Connection) -> Result<Vec<ProductRow>, Fault> {
    let mut find = db.prepare_cached(products_where!(
        "s.state <> 'closed' OR l.lease_id IS NOT NULL OR k.phase <> 'active' ORDER BY p.product_id"
    ))?;
    collect(find.query([])?, product_row)
}

/// The products of one sale, in the order of their SKUs.
pub(super) fn products_of(db: &Connection, sale: &types::SaleName) -> Result<Vec<ProductRow>, Fault> {
    let mut find = db.prepare_cached(products_where!("p.sale = ?1 ORDER BY p.product_id"))?;
    collect(find.query([sale.as_str()])?, product_row)
}

/// One product, of whatever sale.
pub(super) fn product(db: &Connection, product: &Sku) -> Result<Option<ProductRow>, Fault> {
    let mut find = db.prepare_cached(products_where!("p.product_id = ?1"))?;
    let mut rows = find.query([product.as_str()])?;
    rows.next()?.map(product_row).transpose()
}

fn product_row(row: &Row<'_>) -> Result<ProductRow, Fault> {
    let lease = lease_row(row)?;
    let free = rows::count(row, "free")?;
    let leased = match lease {
        Some(l) => l.granted.checked_sub(l.consumed).ok_or_else(|| Fault::broken("consumed above granted"))?,
        None => 0,
    };
    let pages: String = row.get("pages")?;
    let sale_state: String = row.get("sale_state")?;
    Ok(ProductRow {
        state: ProductState {
            product: rows::parsed(row, "product_id")?,
            sale: rows::parsed(row, "sale")?,
            pages: serde_json::from_str(&pages).map_err(|e| Fault::broken(format!("pages: {e}")))?,
            tier: rows::parsed(row, "tier")?,
            phase: rows::parsed::<Phase>(row, "phase")?,
            target: rows::parsed_if_any(row, "target")?,
            epoch: types::Epoch::new(rows::count(row, "epoch")?),
            sellable: free.saturating_add(leased),
            reserved: rows::count(row, "reserved")?,
            total: rows::count(row, "total")?,
            opens: rows::time(row, "opens")?,
            closes: rows::time(row, "closes")?,
            initial_tier: rows::parsed_if_any(row, "initial_tier")?,
        },
        sale_state: rows::sale_state(&sale_state)?,
        policy: SalePolicy { token_required: row.get("token_required")?, proof_of_work: row.get("proof_of_work")? },
        name: row.get("name")?,
        price: rows::money(row, "price", "currency")?,
        limit: rows::small_count(row, "buyer_limit")?,
        free,
        sold: rows::count(row, "sold")?,
        told: rows::count(row, "told")?,
        lease,
    })
}

fn lease_row(row: &Row<'_>) -> Result<Option<LeaseRow>, Fault> {
    let Some(lease) = rows::parsed_if_any::<LeaseId>(row, "lease_id")? else { return Ok(None) };
    let state: String = row.get("lease_state")?;
    Ok(Some(LeaseRow {
        lease,
        epoch: types::Epoch::new(rows::count(row, "lease_epoch")?),
        granted: rows::count(row, "granted")?,
        consumed: rows::count(row, "consumed")?,
        fenced: state == "FENCED",
        loaded: row.get("loaded")?,
    }))
}

/// How far the outbox was relayed; 0 for not at all.
pub(super) fn relayed(db: &Connection) -> Result<u64, Fault> {
    let mut find = db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    let text: Option<String> = find.query_row([RELAYED], |row| row.get(0)).optional()?;
    text.map_or(Ok(0), |t| t.parse().map_err(|_| Fault::broken(format!("{RELAYED} is {t:?}"))))
}

/// Outbox events that were not relayed yet, oldest first.
pub(super) fn outbox(db: &Connection, max: usize) -> Result<Vec<OrderEvent>, Fault> {
    events(db, relayed(db)?, max)
}

/// Outbox events behind an id, relayed or not, oldest first.
pub(super) fn events(db: &Connection, after: u64, max: usize) -> Result<Vec<OrderEvent>, Fault> {
    let mut find = db.prepare_cached(
        "SELECT b.id, b.kind, b.at, b.request_id, o.order_id, o.product_id, o.sale, o.quantity, o.amount, o.currency, \
         o.buyer, o.tier, o.key FROM outbox b JOIN orders o ON o.order_id = b.order_id WHERE b.id > ?1 ORDER BY b.id LIMIT ?2",
    )?;
    collect(find.query(params![rows::int(after)?, limit(max)])?, |row| {
        let kind: String = row.get("kind")?;
        let kind: OrderEventKind = rows::order_state(&kind)?.into();
        Ok(OrderEvent {
            sequence: rows::count(row, "id")?,
            order: rows::parsed(row, "order_id")?,
            kind,
            key: (kind == OrderEventKind::Accepted).then(|| rows::parsed(row, "key")).transpose()?,
            product: rows::parsed(row, "product_id")?,
            sale: rows::parsed(row, "sale")?,
            quantity: rows::small_count(row, "quantity")?,
            amount: rows::money(row, "amount", "currency")?,
            buyer: rows::parsed(row, "buyer")?,
            tier: rows::parsed(row, "tier")?,
            at: rows::time(row, "at")?,
            request: rows::parsed_if_any(row, "request_id")?,
        })
    })
}

pub(super) fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

pub(super) fn collect<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}
