//! Reads what a group's commands ask for, in two round trips at most: takes the locks first, in one order for every
//! core, and reads all else under them. It decides nothing.
//!
//! The row of `stock` is the lock of all that belongs to its product: lease, limits, orders, payments. Every writer
//! takes it before it reads, so that under READ COMMITTED each later read sees what the last holder committed.

use std::collections::BTreeSet;

use types::{OrderId, PaymentId, Sku, Timestamp};

use super::book::{Book, KeyOf, Lent, Page, Units};
use super::command::Command;
use super::fault::Fault;
use super::session::{Replies, Session};
use super::text::{ROWS, Script};
use super::{payment_books, rows};
use crate::stock::db::ruling::Terms;
use crate::stock::db::words;
use crate::stock::store::Claim;

/// What a group asks about, each once and sorted.
#[derive(Debug, Default)]
struct Wanted<'a> {
    products: BTreeSet<Sku>,
    keys: BTreeSet<(&'a str, &'a str)>,
    holders: BTreeSet<(String, Sku)>,
    tokens: BTreeSet<&'a str>,
    grants: BTreeSet<(types::LeaseId, i64)>,
    orders: BTreeSet<OrderId>,
    payments: BTreeSet<PaymentId>,
    /// How many due orders, and due when.
    due: Option<(usize, Timestamp)>,
}

impl<'a> Wanted<'a> {
    fn of(commands: &[&'a Command]) -> Self {
        let mut wanted = Self::default();
        for command in commands {
            wanted.add(command);
        }
        wanted
    }

    fn add(&mut self, command: &'a Command) {
        match command {
            Command::Decide { attempts, .. } => {
                for a in attempts {
                    self.products.insert(a.product.clone());
                    self.keys.insert((a.buyer.as_str(), a.key.as_str()));
                    self.holders.insert((a.buyer.as_str().to_owned(), a.product.clone()));
                    self.tokens.extend(a.token.as_deref());
                    if let Claim::Grant { lease, seq } = a.claim
                        && let Ok(seq) = i64::try_from(seq)
                    {
                        self.grants.insert((lease, seq));
                    }
                }
            }
            Command::Conclude { buyer, key, product, .. } => {
                self.products.insert(product.clone());
                self.keys.insert((buyer.as_str(), key.as_str()));
            }
            Command::Pay { payment, .. } => {
                self.payments.insert(payment.payment);
                self.orders.insert(payment.order);
            }
            Command::Cancel { order, .. } | Command::ShopStep { order, .. } => {
                self.orders.insert(*order);
            }
            Command::Refunded { payment, .. } => {
                self.payments.insert(*payment);
            }
            Command::ExpireDue { max, now } => {
                let (most, latest) = self.due.unwrap_or((0, *now));
                self.due = Some((most.saturating_add(*max), latest.max(*now)));
            }
            Command::Relayed { .. }
            | Command::Step { .. }
            | Command::ApplySale { .. }
            | Command::Adjust { .. }
            | Command::SetSaleState { .. }
            | Command::Administer { .. } => {}
        }
    }

    fn asks_for_orders(&self) -> bool {
        !self.orders.is_empty() || !self.payments.is_empty() || self.due.is_some()
    }
}

/// Begins the transaction and reads.
pub(super) async fn load(session: &mut Session, commands: &[&Command]) -> Result<Book, Fault> {
    let mut wanted = Wanted::of(commands);
    let mut book = Book::default();
    let mut script = Script::default();
    script.add("begin", "START TRANSACTION");
    if wanted.asks_for_orders() {
        find_products(&mut script, &wanted);
        note_products(&mut session.run(&script).await?, &mut wanted, &mut book)?;
        script = Script::default();
    }
    lock(&mut script, &wanted.products);
    read(&mut script, &wanted);
    if !script.is_empty() {
        fill(&mut session.run(&script).await?, &mut book)?;
    }
    Ok(book)
}

/// Of which products the orders are: asked before the locks, since an order never changes its product.
fn find_products(script: &mut Script, wanted: &Wanted<'_>) {
    for part in chunks(&wanted.orders) {
        script.add("places", "SELECT order_id, product_id, buyer FROM orders WHERE order_id IN ").list(
            part,
            |s, id| {
                s.id(id);
            },
        );
    }
    for part in chunks(&wanted.payments) {
        script
            .add(
                "places",
                "SELECT o.order_id, o.product_id, o.buyer FROM payment p STRAIGHT_JOIN orders o \
                 ON o.order_id = p.order_id WHERE p.payment_id IN ",
            )
            .list(part, |s, id| {
                s.id(id);
            });
    }
    if let Some((most, latest)) = wanted.due {
        script
            .add("due", "SELECT order_id, product_id, buyer FROM orders WHERE state = 'accepted' AND expires_at <= ")
            .time(latest)
            .sql(" ORDER BY expires_at LIMIT ")
            .int(i64::try_from(most).unwrap_or(i64::MAX));
    }
}

fn note_products(replies: &mut Replies, wanted: &mut Wanted<'_>, book: &mut Book) -> Result<(), Fault> {
    for label in ["places", "due"] {
        for row in replies.rows(label) {
            let (order, product): (OrderId, Sku) = (rows::parsed(&row, 0)?, rows::parsed(&row, 1)?);
            wanted.holders.insert((rows::text(&row, 2)?.to_owned(), product.clone()));
            wanted.products.insert(product);
            wanted.orders.insert(order);
            if label == "due" {
                book.due.push(order);
            }
        }
    }
    Ok(())
}

/// Shared locks on the products and their sales, so that price and window stay, then each product's own lock.
pub(super) fn lock(script: &mut Script, products: &BTreeSet<Sku>) {
    for part in chunks(products) {
        script
            .add(
                "terms",
                "SELECT p.product_id, p.sale, p.price, p.currency, p.buyer_limit, s.opens, s.closes, s.state \
                 FROM product p FORCE INDEX (PRIMARY) STRAIGHT_JOIN sale s ON s.name = p.sale WHERE p.product_id IN ",
            )
            .list(part, |s, sku: &Sku| {
                s.text(sku.as_str());
            })
            .sql(" ORDER BY p.product_id LOCK IN SHARE MODE");
    }
    for part in chunks(products) {
        script
            .add(
                "stock",
                "SELECT product_id, free, leased, reserved, sold FROM stock FORCE INDEX (PRIMARY) WHERE product_id IN ",
            )
            .list(part, |s, sku: &Sku| {
                s.text(sku.as_str());
            })
            .sql(" ORDER BY product_id FOR UPDATE");
    }
}

fn read(script: &mut Script, wanted: &Wanted<'_>) {
    for part in chunks(&wanted.products) {
        script
            .add(
                "leases",
                "SELECT lease_id, product_id, granted, consumed, state = 'FENCED' FROM lease WHERE alive IN ",
            )
            .list(part, |s, sku: &Sku| {
                s.text(sku.as_str());
            });
    }
    for part in chunks(&wanted.keys) {
        script
            .add("decisions", "SELECT ")
            .sql(rows::DECISION)
            .sql(" FROM decision FORCE INDEX (PRIMARY) WHERE (buyer, `key`) IN ")
            .list(part, |s, (buyer, key)| {
                s.sql("(").text(buyer).sql(", ").text(key).sql(")");
            });
    }
    for part in chunks(&wanted.holders) {
        script
            .add(
                "limits",
                "SELECT buyer, sale, product_id, held FROM buyer_limit FORCE INDEX (PRIMARY) \
                 WHERE (buyer, product_id) IN ",
            )
            .list(part, |s, (buyer, sku)| {
                s.sql("(").text(buyer).sql(", ").text(sku.as_str()).sql(")");
            });
    }
    for part in chunks(&wanted.tokens) {
        script.add("tokens", "SELECT token_id, buyer, `key` FROM used_token WHERE token_id IN ").list(
            part,
            |s, token| {
                s.text(token);
            },
        );
    }
    for part in chunks(&wanted.grants) {
        script
            .add("grants", "SELECT lease_id, seq FROM orders FORCE INDEX (orders_grant) WHERE (lease_id, seq) IN ")
            .list(part, |s, (lease, seq)| {
                s.sql("(").id(lease).sql(", ").int(*seq).sql(")");
            });
    }
    for part in chunks(&wanted.orders) {
        script.add("orders", "SELECT ").sql(rows::ORDER).sql(" FROM orders WHERE order_id IN ").list(part, |s, id| {
            s.id(id);
        });
    }
    const PAYMENT: &str = "SELECT payment_id, order_id, amount, currency, state, moved_order, at FROM payment WHERE ";
    for part in chunks(&wanted.payments) {
        script.add("payments", PAYMENT).sql("payment_id IN ").list(part, |s, id| {
            s.id(id);
        });
    }
    for part in chunks(&wanted.orders) {
        script.add("payments", PAYMENT).sql("order_id IN ").list(part, |s, id| {
            s.id(id);
        });
    }
}

fn fill(replies: &mut Replies, book: &mut Book) -> Result<(), Fault> {
    let mut terms = hashbrown::HashMap::new();
    for row in replies.rows("terms") {
        terms.insert(rows::parsed::<Sku>(&row, 0)?, terms_of(&row)?);
    }
    for row in replies.rows("stock") {
        let product: Sku = rows::parsed(&row, 0)?;
        let units = Units {
            free: rows::count(&row, 1)?,
            leased: rows::count(&row, 2)?,
            reserved: rows::count(&row, 3)?,
            sold: rows::count(&row, 4)?,
        };
        let terms = terms.remove(&product).ok_or_else(|| Fault::broken(format!("product {product} has no sale")))?;
        let page = Page { terms, was: units, now: units, leases: hashbrown::HashMap::new() };
        book.products.insert(product, page);
    }
    if let Some(product) = terms.keys().next() {
        return Err(Fault::broken(format!("product {product} has no stock row")));
    }
    for row in replies.rows("leases") {
        let consumed = rows::count(&row, 3)?;
        let (granted, fenced) = (rows::count(&row, 2)?, rows::flag(&row, 4)?);
        let lent = Lent { granted, was_consumed: consumed, consumed, fenced };
        if let Some(page) = book.products.get_mut(&rows::parsed::<Sku>(&row, 1)?) {
            page.leases.insert(rows::parsed(&row, 0)?, lent);
        }
    }
    for row in replies.rows("decisions") {
        book.decisions.insert(key_of(&row, 0)?, rows::decision(&row)?);
    }
    for row in replies.rows("limits") {
        let holder = (rows::parsed(&row, 0)?, rows::parsed(&row, 1)?, rows::parsed(&row, 2)?);
        book.held.insert(holder, rows::count(&row, 3)?);
    }
    for row in replies.rows("tokens") {
        book.tokens.insert(rows::text(&row, 0)?.to_owned(), key_of(&row, 1)?);
    }
    for row in replies.rows("grants") {
        book.grants.insert((rows::parsed(&row, 0)?, rows::count(&row, 1)?));
    }
    for row in replies.rows("orders") {
        let order = rows::order(&row)?;
        // One that came into being after the places were read is not under our locks: we were there before it.
        if book.products.contains_key(&order.product) {
            book.orders.insert(order.order, order);
        }
    }
    for row in replies.rows("payments") {
        let payment = payment_books::payment_row(&row)?;
        book.payments.insert(payment.payment, payment);
    }
    Ok(())
}

fn terms_of(row: &sqlx::mysql::MySqlRow) -> Result<Terms, Fault> {
    Ok(Terms {
        sale: rows::parsed(row, 1)?,
        price: rows::money(row, 2)?,
        limit: rows::count(row, 4)?,
        opens: rows::time(row, 5)?,
        closes: rows::time(row, 6)?,
        state: words::sale_state(rows::text(row, 7)?).map_err(Fault::Broken)?,
    })
}

fn key_of(row: &sqlx::mysql::MySqlRow, column: usize) -> Result<KeyOf, Fault> {
    Ok((rows::parsed(row, column)?, rows::parsed(row, column + 1)?))
}

/// A set in parts of as many as one statement takes; no part is empty.
/// Parts of at most [`ROWS`], in order.
pub(super) fn chunks<T>(set: &BTreeSet<T>) -> impl Iterator<Item = Vec<&T>> {
    let mut rest = set.iter();
    std::iter::from_fn(move || {
        let part: Vec<_> = rest.by_ref().take(ROWS).collect();
        (!part.is_empty()).then_some(part)
    })
}
