//! Administration: an act and its line in the audit log, in one transaction. The acts themselves are those of
//! `sales` and `adjust`; nothing here decides.

use rusqlite::{Connection, OptionalExtension, Row, params};
use types::{RequestId, SaleName, Sku, Timestamp};

use super::fault::Fault;
use super::{adjust, import, read, rows, sales};
use crate::stock::admin_store::{Act, Acted, Actor, AuditLine, SaleDetail};
use crate::stock::db::admin_change::{self, Before, Line};
use crate::stock::store::SaleApplied;

/// Does it and writes down that it was done, or refused.
pub(super) fn administer(tx: &Connection, act: &Act, by: &Actor, now: Timestamp) -> Result<Acted, Fault> {
    let mut before = Before::default();
    let acted = match act {
        Act::Apply(spec) => {
            before.sale = sale(tx, &spec.name)?;
            Acted::Sale(sales::apply(tx, spec, now)?)
        }
        Act::Clone { sale: spec, .. } if sales::state_of(tx, &spec.name)?.is_some() => {
            Acted::Sale(SaleApplied::Refused(admin_change::name_is_taken(&spec.name)))
        }
        Act::Clone { sale: spec, .. } => Acted::Sale(sales::apply(tx, spec, now)?),
        Act::SetState { sale, state, .. } => {
            before.state = sales::state_of(tx, sale)?;
            Acted::State(sales::set_state(tx, sale, *state, now)?)
        }
        Act::Adjust(asked) => Acted::Adjusted(adjust::adjust(tx, asked, now)?),
        Act::ImportCatalogue(asked) => {
            let (imported, specs) = import::catalogue(tx, asked, now)?;
            before.specs = specs;
            Acted::Imported(imported)
        }
        Act::ImportStock(asked) => Acted::Imported(import::stock(tx, asked, now)?),
    };
    if act.is_dry_run() {
        return Ok(acted);
    }
    write(tx, &admin_change::line(act, &before, &acted), by, now)?;
    Ok(acted)
}

/// Writes a line, as part of the transaction of its act.
pub(super) fn write(tx: &Connection, line: &Line, by: &Actor, now: Timestamp) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO admin_audit (at, subject, roles, action, sale, product_id, request_id, outcome, detail) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        now.millis(),
        by.subject.as_str(),
        admin_change::roles_text(by),
        line.action.as_str(),
        line.sale.as_ref().map(SaleName::as_str),
        line.product.as_ref().map(Sku::as_str),
        by.request.as_ref().map(RequestId::as_str),
        line.end.as_str(),
        line.detail,
    ])?;
    Ok(())
}

/// The lines after `since`.
pub(super) fn lines(db: &Connection, since: u64, max: usize) -> Result<Vec<AuditLine>, Fault> {
    let mut find = db.prepare_cached(
        "SELECT seq, at, subject, roles, action, sale, product_id, request_id, outcome, detail FROM admin_audit \
         WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let since = i64::try_from(since).unwrap_or(i64::MAX);
    let mut found = find.query(params![since, i64::try_from(max).unwrap_or(i64::MAX)])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(line(row)?);
    }
    Ok(all)
}

fn line(row: &Row<'_>) -> Result<AuditLine, Fault> {
    let detail: String = row.get("detail")?;
    Ok(AuditLine {
        seq: rows::count(row, "seq")?,
        at: rows::time(row, "at")?,
        subject: row.get("subject")?,
        roles: row.get("roles")?,
        action: row.get("action")?,
        sale: row.get("sale")?,
        product: row.get("product_id")?,
        request: row.get("request_id")?,
        end: rows::parsed(row, "outcome")?,
        detail: serde_json::from_str(&detail).map_err(|e| Fault::broken(format!("a line of the audit log: {e}")))?,
    })
}

/// One sale with its products.
pub(super) fn sale(db: &Connection, sale: &SaleName) -> Result<Option<SaleDetail>, Fault> {
    let head = db
        .prepare_cached("SELECT zone, opens, closes, state, updated_at FROM sale WHERE name = ?1")?
        .query_row([sale.as_str()], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((zone, opens, closes, state, updated_at)) = head else { return Ok(None) };
    let mut products = Vec::new();
    let rows = read::products_of(db, sale)?;
    let mut find = db.prepare_cached("SELECT stock FROM product WHERE product_id = ?1")?;
    for row in rows {
        let brought = find.query_row([row.state.product.as_str()], |found| found.get::<_, i64>(0))?;
        let brought = u64::try_from(brought).map_err(|_| Fault::broken(format!("stock is {brought}")))?;
        products.push((row, brought));
    }
    let time = Timestamp::from_millis;
    Ok(Some(SaleDetail {
        name: sale.clone(),
        zone,
        opens: time(opens),
        closes: time(closes),
        state: rows::sale_state(&state)?,
        updated_at: time(updated_at),
        products,
    }))
}
