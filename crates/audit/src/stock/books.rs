//! The books as they stand in one snapshot: sums, limits, leases, payments (invariants 1, 2, 3, 6, 9, 10).
//! It recomputes everything from rows of orders and leases; it trusts no running total.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Transaction;

use super::Options;
use crate::{AuditError, Invariant};

type Read<T> = Result<T, AuditError>;

/// A row of `stock` with what its product and sale say.
pub(super) struct StockRow {
    pub total: i64,
    pub free: i64,
    pub leased: i64,
    pub reserved: i64,
    pub sold: i64,
    pub tier: String,
    pub phase: String,
    pub target: Option<String>,
    pub epoch: i64,
    /// Units in leases that are not CLOSED, as the lease rows have it.
    pub lent: i64,
    /// Limit per buyer; `None` if the product row is missing.
    pub limit: Option<i64>,
    /// Whether its sale is over at the audit's moment is decided by this and `sale_closed`.
    pub closes: Option<i64>,
    pub sale_closed: bool,
}

/// Every product's stock.
pub(super) struct Stock(pub BTreeMap<String, StockRow>);

impl Stock {
    pub(super) fn read(snapshot: &Transaction<'_>) -> Read<Self> {
        let mut statement = snapshot.prepare(
            "SELECT s.product_id, s.total, s.free, s.leased, s.reserved, s.sold, s.tier, s.phase, s.target, s.epoch,
                 COALESCE((SELECT SUM(l.granted - l.consumed) FROM lease l
                     WHERE l.product_id = s.product_id AND l.state <> 'CLOSED'), 0),
                 p.buyer_limit, a.closes, COALESCE(a.state = 'closed', 0)
             FROM stock s LEFT JOIN product p ON p.product_id = s.product_id LEFT JOIN sale a ON a.name = p.sale",
        )?;
        let rows = statement.query_map([], |r| {
            Ok((
                r.get(0)?,
                StockRow {
                    total: r.get(1)?,
                    free: r.get(2)?,
                    leased: r.get(3)?,
                    reserved: r.get(4)?,
                    sold: r.get(5)?,
                    tier: r.get(6)?,
                    phase: r.get(7)?,
                    target: r.get(8)?,
                    epoch: r.get(9)?,
                    lent: r.get(10)?,
                    limit: r.get(11)?,
                    closes: r.get(12)?,
                    sale_closed: r.get(13)?,
                },
            ))
        })?;
        Ok(Self(rows.collect::<Result<_, _>>()?))
    }
}

/// A row of `orders`.
pub(super) struct OrderRow {
    pub buyer: String,
    pub key: String,
    pub product: String,
    pub quantity: i64,
    pub amount: i64,
    pub currency: String,
    pub state: String,
    pub lease: Option<(String, i64)>,
    pub expires_at: i64,
}

impl OrderRow {
    /// Holds units: reserved or sold.
    pub(super) fn is_living(&self) -> bool {
        matches!(self.state.as_str(), "accepted" | "paid")
    }
    /// Money came for it.
    fn took_money(&self) -> bool {
        matches!(self.state.as_str(), "paid" | "refund_due" | "refunded")
    }
}

/// Every accepted order, by id.
pub(super) struct Orders(HashMap<String, OrderRow>);

impl Orders {
    pub(super) fn read(snapshot: &Transaction<'_>) -> Read<Self> {
        let mut statement = snapshot.prepare(
            "SELECT order_id, buyer, key, product_id, quantity, amount, currency, state, lease_id, seq, expires_at
             FROM orders",
        )?;
        let rows = statement.query_map([], |r| {
            let lease: Option<String> = r.get(8)?;
            let seq: Option<i64> = r.get(9)?;
            Ok((
                r.get(0)?,
                OrderRow {
                    buyer: r.get(1)?,
                    key: r.get(2)?,
                    product: r.get(3)?,
                    quantity: r.get(4)?,
                    amount: r.get(5)?,
                    currency: r.get(6)?,
                    state: r.get(7)?,
                    lease: lease.zip(seq),
                    expires_at: r.get(10)?,
                },
            ))
        })?;
        Ok(Self(rows.collect::<Result<_, _>>()?))
    }
    pub(super) fn get(&self, id: &str) -> Option<&OrderRow> {
        self.0.get(id)
    }
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &OrderRow)> {
        self.0.iter()
    }
    /// Units of a product's orders in `state`.
    fn units(&self) -> HashMap<(&str, &str), i64> {
        let mut units = HashMap::new();
        for order in self.0.values() {
            *units.entry((order.product.as_str(), order.state.as_str())).or_insert(0) += order.quantity;
        }
        units
    }
}

/// Invariant 1.
pub(super) fn sums(stock: &Stock, found: &mut Invariant) {
    for (product, s) in &stock.0 {
        found.check(s.free + s.leased + s.reserved + s.sold == s.total, || {
            format!(
                "{product}: free {} + leased {} + reserved {} + sold {} is not total {}",
                s.free, s.leased, s.reserved, s.sold, s.total
            )
        });
        found.check([s.free, s.leased, s.reserved, s.sold, s.total].iter().all(|n| *n >= 0), || {
            format!("{product}: a count is below zero")
        });
        found.check(s.leased == s.lent, || {
            format!("{product}: leased {} but its living leases hold {}", s.leased, s.lent)
        });
    }
}

/// Invariant 2 as of now; its history is checked with the events.
pub(super) fn totals(stock: &Stock, orders: &Orders, found: &mut Invariant) {
    let units = orders.units();
    for (product, s) in &stock.0 {
        let of = |state| units.get(&(product.as_str(), state)).copied().unwrap_or(0);
        let living = of("accepted") + of("paid");
        found.check(living <= s.total, || format!("{product}: {living} units in living orders, total {}", s.total));
    }
    for (id, order) in orders.iter() {
        if !stock.0.contains_key(&order.product) {
            found.check(false, || format!("order {id} is of {}, which has no stock row", order.product));
        }
    }
}

/// Invariant 3: leases, grants, keys.
pub(super) fn leases_and_keys(snapshot: &Transaction<'_>, orders: &Orders, found: &mut Invariant) -> Read<()> {
    let mut taken: HashMap<&str, i64> = HashMap::new();
    let mut grants: HashMap<(&str, i64), &str> = HashMap::new();
    let mut keys: HashMap<(&str, &str), &str> = HashMap::new();
    for (id, order) in orders.iter() {
        if let Some((lease, seq)) = &order.lease {
            *taken.entry(lease).or_insert(0) += order.quantity;
            let other = grants.insert((lease, *seq), id);
            found.check(other.is_none(), || format!("grant {seq} of lease {lease} made orders {other:?} and {id}"));
        }
        let other = keys.insert((&order.buyer, &order.key), id);
        found.check(other.is_none(), || format!("one key of one buyer made orders {other:?} and {id}"));
    }

    let mut statement = snapshot.prepare("SELECT lease_id, product_id, granted, consumed FROM lease")?;
    let leases = statement.query_map([], |r| {
        Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?, r.get::<_, i64>(3)?))
    })?;
    for lease in leases {
        let (lease, product, granted, consumed) = lease?;
        found.check((0..=granted).contains(&consumed), || {
            format!("lease {lease} of {product}: consumed {consumed} of {granted} granted")
        });
        let ordered = taken.remove(lease.as_str()).unwrap_or(0);
        found.check(ordered == consumed, || {
            format!("lease {lease} of {product}: consumed {consumed}, but its orders took {ordered}")
        });
    }
    for (lease, units) in taken {
        found.break_with(format!("{units} units were ordered from lease {lease}, which does not exist"));
    }

    let repeated: Vec<(String, i64)> = snapshot
        .prepare("SELECT product_id, COUNT(*) FROM decision GROUP BY buyer, key HAVING COUNT(*) > 1")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<_, _>>()?;
    found.examined += snapshot.query_row("SELECT COUNT(*) FROM decision", [], |r| r.get::<_, i64>(0))? as u64;
    for (product, times) in repeated {
        found.break_with(format!("{product}: one key of one buyer was decided {times} times"));
    }
    Ok(())
}

/// Invariant 3: nobody holds more than his limit, and the counter that guards it is true.
///
/// A limit that was lowered after orders were taken shows here as a violation; the present limits are all
/// that SQL knows.
pub(super) fn limits(snapshot: &Transaction<'_>, orders: &Orders, found: &mut Invariant) -> Read<()> {
    let mut living: HashMap<(String, String), i64> = HashMap::new();
    for (_, order) in orders.iter().filter(|(_, o)| o.is_living()) {
        *living.entry((order.buyer.clone(), order.product.clone())).or_insert(0) += order.quantity;
    }
    let limit_of: HashMap<String, i64> = snapshot
        .prepare("SELECT product_id, buyer_limit FROM product")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for ((_, product), held) in &living {
        let limit = limit_of.get(product).copied().unwrap_or(0);
        found.check(*held <= limit, || format!("{product}: a buyer holds {held} units, his limit is {limit}"));
    }

    let mut statement =
        snapshot.prepare("SELECT buyer, product_id, SUM(held) FROM buyer_limit GROUP BY buyer, product_id")?;
    let counters = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get::<_, i64>(2)?)))?;
    for counter in counters {
        let (buyer, product, held): (String, String, i64) = counter?;
        let real = living.remove(&(buyer, product.clone())).unwrap_or(0);
        found.check(held == real, || format!("{product}: a buyer's counter says {held}, his orders hold {real}"));
    }
    for ((_, product), held) in living {
        found.break_with(format!("{product}: a buyer's orders hold {held} units, but no counter says so"));
    }
    Ok(())
}

/// Invariant 6.
pub(super) fn living_leases(snapshot: &Transaction<'_>, found: &mut Invariant) -> Read<()> {
    let mut statement = snapshot.prepare(
        "SELECT s.product_id, (SELECT COUNT(*) FROM lease l WHERE l.product_id = s.product_id AND l.state <> 'CLOSED')
         FROM stock s",
    )?;
    for row in statement.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?)))? {
        let (product, leases) = row?;
        found.check(leases <= 1, || format!("{product} has {leases} leases that are not CLOSED"));
    }
    Ok(())
}

/// Invariant 9. What is reserved or sold must always have its orders; at rest, what is leased must have an
/// open lease that still sells, and nothing may stay half moved or unpaid beyond its time.
pub(super) fn stranded(
    snapshot: &Transaction<'_>,
    stock: &Stock,
    orders: &Orders,
    options: &Options,
    found: &mut Invariant,
) -> Read<()> {
    let units = orders.units();
    for (product, s) in &stock.0 {
        let of = |state| units.get(&(product.as_str(), state)).copied().unwrap_or(0);
        let (accepted, paid) = (of("accepted"), of("paid"));
        found.check(s.reserved == accepted, || {
            format!("{product}: reserved {}, but unpaid orders hold {accepted}", s.reserved)
        });
        found.check(s.sold == paid, || format!("{product}: sold {}, but paid orders hold {paid}", s.sold));
        if options.at_rest {
            found.check(s.phase == "active" && s.target.is_none(), || {
                format!("{product} is still {} towards {:?}", s.phase, s.target)
            });
            let over = s.sale_closed || s.closes.is_some_and(|closes| closes <= options.now_ms);
            found.check(s.leased == 0 || (s.tier == "redis" && !over), || {
                format!("{product}: {} units stay leased on tier {} (sale over: {over})", s.leased, s.tier)
            });
        }
    }
    if options.at_rest {
        let fenced: Vec<(String, String)> = snapshot
            .prepare("SELECT product_id, lease_id FROM lease WHERE state = 'FENCED'")?
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (product, lease) in fenced {
            found.break_with(format!("{product}: lease {lease} was fenced and never settled"));
        }
        for (id, order) in orders.iter().filter(|(_, o)| o.state == "accepted") {
            found.check(order.expires_at + options.expiry_grace_ms >= options.now_ms, || {
                let late = options.now_ms - order.expires_at;
                format!("order {id} of {} was due {late} ms ago and still holds its units", order.product)
            });
        }
    }
    Ok(())
}

/// Invariant 10: in all, and order by order.
pub(super) fn payments(snapshot: &Transaction<'_>, orders: &Orders, found: &mut Invariant) -> Read<()> {
    let mut statement =
        snapshot.prepare("SELECT payment_id, order_id, amount, currency, state, moved_order FROM payment")?;
    let mut moved: HashMap<String, i64> = HashMap::new();
    let mut sum_paid: i128 = 0;
    let rows = statement.query_map([], |r| {
        Ok((
            r.get::<_, String>(0)?,
            r.get::<_, String>(1)?,
            r.get::<_, i64>(2)?,
            r.get::<_, String>(3)?,
            r.get::<_, String>(4)?,
            r.get::<_, bool>(5)?,
        ))
    })?;
    for row in rows {
        let (payment, id, amount, currency, state, moves) = row?;
        let Some(order) = orders.get(&id) else {
            found.check(false, || format!("payment {payment} is for order {id}, which does not exist"));
            continue;
        };
        if !moves {
            // A second payment or a wrong amount: its money goes back by its own row.
            found.check(state != "paid", || format!("payment {payment} moved no order, yet is {state}"));
            continue;
        }
        sum_paid += i128::from(amount);
        *moved.entry(id.clone()).or_insert(0) += 1;
        found.check(amount == order.amount && currency == order.currency, || {
            format!(
                "payment {payment} brought {amount} {currency}, order {id} asks {} {}",
                order.amount, order.currency
            )
        });
    }
    let mut sum_orders: i128 = 0;
    for (id, order) in orders.iter() {
        let payments = moved.get(id).copied().unwrap_or(0);
        let expected = i64::from(order.took_money());
        sum_orders += if order.took_money() { i128::from(order.amount) } else { 0 };
        found.check(payments == expected, || {
            format!("order {id} is {} with {payments} payments that moved it, expected {expected}", order.state)
        });
    }
    found.check(sum_paid == sum_orders, || format!("payments sum to {sum_paid}, orders to {sum_orders}"));
    Ok(())
}
