//! What the decisions of one transaction share: each product's terms and units, read once, counted in memory, and
//! written back by one conditional `UPDATE` per product and lease. It holds no rule, and nothing of it outlives the
//! transaction.

use hashbrown::HashMap;
use rusqlite::{Connection, params};
use rustc_hash::FxBuildHasher;
use types::{LeaseId, Sku};

use super::fault::Fault;
use super::rows;
use crate::stock::db::ruling::Terms;

/// A living lease: as it was read, and what was taken since.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) lease: LeaseId,
    pub(super) granted: u64,
    pub(super) consumed: u64,
    pub(super) fenced: bool,
    taken: u64,
}

/// A product's terms and units as they are after the decisions so far.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) terms: Terms,
    pub(super) free: u64,
    pub(super) reserved: u64,
    pub(super) leases: Vec<Lent>,
    taken_free: u64,
    taken_leased: u64,
}

impl Page {
    /// `granted − consumed` over its leases that are not CLOSED.
    pub(super) fn leased(&self) -> u64 {
        self.leases.iter().map(|lent| lent.granted.saturating_sub(lent.consumed)).sum()
    }

    /// The lease, if it is alive.
    pub(super) fn lease(&self, lease: LeaseId) -> Option<&Lent> {
        self.leases.iter().find(|lent| lent.lease == lease)
    }

    /// Takes units from `free`; the ruling has seen that they are there.
    pub(super) fn take_free(&mut self, n: u64) -> Result<(), Fault> {
        self.free = self.free.checked_sub(n).ok_or_else(|| missing("units of free"))?;
        self.taken_free += n;
        self.reserved += n;
        Ok(())
    }

    /// Takes units from a lease; the ruling has seen that they are there.
    pub(super) fn take_lease(&mut self, lease: LeaseId, n: u64) -> Result<(), Fault> {
        let lent = self.leases.iter_mut().find(|lent| lent.lease == lease);
        let lent =
            lent.filter(|lent| lent.consumed + n <= lent.granted).ok_or_else(|| missing("units of the lease"))?;
        lent.consumed += n;
        lent.taken += n;
        self.taken_leased += n;
        self.reserved += n;
        Ok(())
    }
}

fn missing(what: &str) -> Fault {
    Fault::broken(format!("{what} that were seen are not there"))
}

/// The pages that a transaction has opened; `None` for a product that there is not.
#[derive(Debug, Default)]
pub(super) struct Ledger(HashMap<Sku, Option<Page>, FxBuildHasher>);

impl Ledger {
    /// The page of a product, read when it is asked for first.
    pub(super) fn page(&mut self, tx: &Connection, product: &Sku) -> Result<Option<&mut Page>, Fault> {
        // Two steps, so that a page that is there costs no copy of its name.
        if !self.0.contains_key(product) {
            self.0.insert(product.clone(), read_page(tx, product)?);
        }
        Ok(self.0.get_mut(product).and_then(Option::as_mut))
    }

    /// Writes what was taken and closes every page: whoever comes next in the transaction sees and changes the rows
    /// themselves. The conditions repeat what was read in the same transaction, so anything but one row is a defect;
    /// if they ever failed, nothing of the transaction would stand.
    pub(super) fn settle(&mut self, tx: &Connection) -> Result<(), Fault> {
        for (product, page) in self.0.drain() {
            let Some(page) = page else { continue };
            for lent in page.leases.iter().filter(|lent| lent.taken > 0) {
                let taken = tx
                    .prepare_cached(
                        "UPDATE lease SET consumed = consumed + ?2 \
                         WHERE lease_id = ?1 AND state <> 'CLOSED' AND consumed + ?2 <= granted",
                    )?
                    .execute(params![lent.lease.to_string(), rows::int(lent.taken)?])?;
                expect_one(taken, "units of the lease")?;
            }
            if page.taken_free + page.taken_leased > 0 {
                let (free, leased) = (rows::int(page.taken_free)?, rows::int(page.taken_leased)?);
                let moved = tx
                    .prepare_cached(
                        "UPDATE stock SET free = free - ?2, leased = leased - ?3, reserved = reserved + ?2 + ?3 \
                         WHERE product_id = ?1 AND free >= ?2 AND leased >= ?3",
                    )?
                    .execute(params![product.as_str(), free, leased])?;
                expect_one(moved, "units of the product")?;
            }
        }
        Ok(())
    }
}

fn expect_one(rows: usize, what: &str) -> Result<(), Fault> {
    if rows == 1 { Ok(()) } else { Err(Fault::broken(format!("{what}: {rows} rows where one was seen"))) }
}

fn read_page(tx: &Connection, product: &Sku) -> Result<Option<Page>, Fault> {
    let Some(terms) = read_terms(tx, product)? else { return Ok(None) };
    let mut find = tx.prepare_cached("SELECT free, reserved FROM stock WHERE product_id = ?1")?;
    let mut found = find.query([product.as_str()])?;
    let row = found.next()?.ok_or_else(|| Fault::broken(format!("product {product} has no stock row")))?;
    let (free, reserved) = (rows::count(row, "free")?, rows::count(row, "reserved")?);
    Ok(Some(Page { terms, free, reserved, leases: read_leases(tx, product)?, taken_free: 0, taken_leased: 0 }))
}

fn read_terms(tx: &Connection, product: &Sku) -> Result<Option<Terms>, Fault> {
    let mut find = tx.prepare_cached(
        "SELECT p.sale, p.price, p.currency, p.buyer_limit, s.opens, s.closes, s.state \
         FROM product p JOIN sale s ON s.name = p.sale WHERE p.product_id = ?1",
    )?;
    let mut found = find.query([product.as_str()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let state: String = row.get("state")?;
    Ok(Some(Terms {
        sale: rows::parsed(row, "sale")?,
        state: rows::sale_state(&state)?,
        opens: rows::time(row, "opens")?,
        closes: rows::time(row, "closes")?,
        price: rows::money(row, "price", "currency")?,
        limit: rows::count(row, "buyer_limit")?,
    }))
}

fn read_leases(tx: &Connection, product: &Sku) -> Result<Vec<Lent>, Fault> {
    let mut find = tx.prepare_cached(
        "SELECT lease_id, granted, consumed, state = 'FENCED' AS fenced FROM lease \
         WHERE product_id = ?1 AND state <> 'CLOSED'",
    )?;
    let mut found = find.query([product.as_str()])?;
    let mut leases = Vec::new();
    while let Some(row) = found.next()? {
        leases.push(Lent {
            lease: rows::parsed(row, "lease_id")?,
            granted: rows::count(row, "granted")?,
            consumed: rows::count(row, "consumed")?,
            fenced: row.get("fenced")?,
            taken: 0,
        });
    }
    Ok(leases)
}
