//! Administration: an act and its line in the audit log, in one transaction. The acts themselves are those of
//! `sales` and `adjust`; nothing here decides.

use hashbrown::HashMap;
use sqlx::mysql::MySqlRow;
use types::{RequestId, SaleName, Sku, Timestamp};

use super::fault::Fault;
use super::session::{Replies, Session};
use super::text::Script;
use super::{adjust, import, rows, sales};
use crate::stock::admin_store::{Act, Acted, Actor, AuditLine, SaleDetail};
use crate::stock::db::admin_change::{self, Before, Line};
use crate::stock::db::words;
use crate::stock::store::SaleApplied;

/// Does it and writes down that it was done, or refused, in a transaction that has begun.
pub(super) async fn administer(session: &mut Session, act: &Act, by: &Actor, now: Timestamp) -> Result<Acted, Fault> {
    let mut before = Before::default();
    let acted = match act {
        Act::Apply(spec) => {
            before.sale = locked_sale(session, &spec.name).await?;
            Acted::Sale(sales::apply(session, spec, now).await?)
        }
        Act::Clone { sale: spec, .. } => match locked_sale(session, &spec.name).await? {
            Some(_) => Acted::Sale(SaleApplied::Refused(admin_change::name_is_taken(&spec.name))),
            None => Acted::Sale(sales::apply(session, spec, now).await?),
        },
        Act::SetState { sale, state, .. } => {
            let mut script = Script::default();
            script.add("state", "SELECT state FROM sale WHERE name = ").text(sale.as_str()).sql(" FOR UPDATE");
            let row = session.run(&script).await?.row("state");
            let word = row.as_ref().map(|row| rows::text(row, 0)).transpose()?;
            before.state = word.map(words::sale_state).transpose().map_err(Fault::Broken)?;
            Acted::State(sales::set_state(session, sale, *state, now).await?)
        }
        Act::Adjust(asked) => Acted::Adjusted(adjust::adjust(session, asked, now).await?),
        Act::ImportCatalogue(asked) => {
            let (imported, specs) = import::catalogue(session, asked, now).await?;
            before.specs = specs;
            Acted::Imported(imported)
        }
        Act::ImportStock(asked) => Acted::Imported(import::stock(session, asked, now).await?),
    };
    if act.is_dry_run() {
        return Ok(acted);
    }
    write(session, &admin_change::line(act, &before, &acted), by, now).await?;
    Ok(acted)
}

/// The sale as it is while no other file is applied: `meta.sales` is the lock of all files.
async fn locked_sale(session: &mut Session, sale: &SaleName) -> Result<Option<SaleDetail>, Fault> {
    let mut script = Script::default();
    script.add("one at a time", "SELECT value FROM meta WHERE `key` = 'sales' FOR UPDATE");
    session.run(&script).await?;
    let mut script = Script::default();
    ask_sale(&mut script, sale);
    sale_of(&mut session.run(&script).await?, sale)
}

/// The line's number is handed out under a lock that is held until the commit, and taken last: whoever waits for it
/// holds nothing that its holder still wants.
pub(super) async fn write(session: &mut Session, line: &Line, by: &Actor, now: Timestamp) -> Result<(), Fault> {
    let mut script = Script::default();
    script
        .add("number", "UPDATE meta SET value = LAST_INSERT_ID(CAST(value AS SIGNED) + 1) WHERE `key` = 'admin_audit'");
    script.add(
        "line",
        "INSERT INTO admin_audit (seq, at, subject, roles, action, sale, product_id, request_id, outcome, detail) \
         VALUES (LAST_INSERT_ID(), ",
    );
    script.time(now).sql(", ").text(by.subject.as_str()).sql(", ").text(&admin_change::roles_text(by));
    script.sql(", ").text(line.action.as_str()).sql(", ").text_if_any(line.sale.as_ref().map(SaleName::as_str));
    script.sql(", ").text_if_any(line.product.as_ref().map(Sku::as_str));
    script.sql(", ").text_if_any(by.request.as_ref().map(RequestId::as_str));
    script.sql(", ").text(line.end.as_str()).sql(", ").text(&line.detail).sql(")");
    let replies = session.run(&script).await?;
    match (replies.touched("number"), replies.touched("line")) {
        (1, 1) => Ok(()),
        touched => Err(Fault::broken(format!("the audit log took {touched:?} rows"))),
    }
}

/// Asks for the lines after `since`.
pub(super) fn ask_lines(script: &mut Script, since: u64, max: usize) {
    script.add(
        "lines",
        "SELECT seq, at, subject, roles, action, sale, product_id, request_id, outcome, detail FROM admin_audit \
         WHERE seq > ",
    );
    script.int(i64::try_from(since).unwrap_or(i64::MAX)).sql(" ORDER BY seq LIMIT ");
    script.int(i64::try_from(max).unwrap_or(i64::MAX));
}

/// A row of [`ask_lines`].
pub(super) fn line(row: &MySqlRow) -> Result<AuditLine, Fault> {
    let owned = |column| Ok::<_, Fault>(rows::text_if_any(row, column)?.map(str::to_owned));
    Ok(AuditLine {
        seq: rows::count(row, 0)?,
        at: rows::time(row, 1)?,
        subject: rows::text(row, 2)?.to_owned(),
        roles: rows::text(row, 3)?.to_owned(),
        action: rows::text(row, 4)?.to_owned(),
        sale: owned(5)?,
        product: owned(6)?,
        request: owned(7)?,
        end: rows::parsed(row, 8)?,
        detail: serde_json::from_str(rows::text(row, 9)?)
            .map_err(|e| Fault::broken(format!("a line of the audit log: {e}")))?,
    })
}

/// Asks for one sale with its products.
pub(super) fn ask_sale(script: &mut Script, sale: &SaleName) {
    script.add("sale", "SELECT zone, opens, closes, state, updated_at FROM sale WHERE name = ").text(sale.as_str());
    script.add("of sale", rows::PRODUCT).sql("p.sale = ").text(sale.as_str()).sql(" ORDER BY p.product_id");
    script.add("brought", "SELECT product_id, stock FROM product WHERE sale = ").text(sale.as_str());
}

/// The answer to [`ask_sale`].
pub(super) fn sale_of(replies: &mut Replies, sale: &SaleName) -> Result<Option<SaleDetail>, Fault> {
    let Some(head) = replies.row("sale") else { return Ok(None) };
    let mut brought: HashMap<Sku, u64> = HashMap::new();
    for row in replies.rows("brought") {
        brought.insert(rows::parsed(&row, 0)?, rows::count(&row, 1)?);
    }
    let mut products = Vec::new();
    for row in replies.rows("of sale") {
        let row = rows::product(&row)?;
        // Between the two statements of a plain read a file may have been applied: whoever asks asks again.
        let stock = brought.get(&row.state.product).copied();
        products.push((row, stock.ok_or_else(|| Fault::Lost("the sale changed while it was read".into()))?));
    }
    Ok(Some(SaleDetail {
        name: sale.clone(),
        zone: rows::text(&head, 0)?.to_owned(),
        opens: rows::time(&head, 1)?,
        closes: rows::time(&head, 2)?,
        state: words::sale_state(rows::text(&head, 3)?).map_err(Fault::Broken)?,
        updated_at: rows::time(&head, 4)?,
        products,
    }))
}
