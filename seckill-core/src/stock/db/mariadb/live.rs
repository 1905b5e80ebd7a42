//! What live updates read and keep on the server: events behind a sequence, a buyer's standing, passes. Each is one
//! round trip; passes are single statements of their own, so that no purchase waits for them.

use async_trait::async_trait;
use types::{BuyerId, Timestamp};

use super::MariaStore;
use super::fault::Fault;
use super::read::{EVENT, event, limit};
use super::rows;
use super::text::Script;
use crate::stock::live_store::{LiveStore, PassDigest, Standing, Told};
use crate::stock::store::StoreError;

fn clamped(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[async_trait]
impl LiveStore for MariaStore {
    async fn told(&self, after: u64, max: usize) -> Result<Told, StoreError> {
        let mut script = Script::default();
        // The end first: what the second statement sees is never less.
        script.add("end", "SELECT last FROM outbox_head WHERE one = 1");
        script.add("events", EVENT).int(clamped(after)).sql(" ORDER BY b.id LIMIT ").int(limit(max));
        let mut replies = self.readers.ask(&script).await?;
        let end = replies.row("end").ok_or_else(|| Fault::broken("the outbox has no head"))?;
        let end = rows::count(&end, 0)?;
        let events = replies.rows("events").map(|row| event(&row)).collect::<Result<Vec<_>, _>>()?;
        let through = match events.last() {
            Some(last) if events.len() >= max => last.sequence,
            Some(last) => end.max(last.sequence),
            None => end,
        };
        Ok(Told { through, events })
    }

    async fn standing(&self, buyer: &BuyerId, max: usize) -> Result<Standing, StoreError> {
        let mut script = Script::default();
        // One statement, so both are of one moment.
        script.add("standing", "SELECT o.*, h.last FROM outbox_head h LEFT JOIN (SELECT ").sql(rows::ORDER).sql(
            " FROM orders WHERE order_id IN (SELECT order_id FROM decision WHERE order_id IS NOT NULL AND buyer = ",
        );
        script.text(buyer.as_str()).sql(") ORDER BY accepted_at DESC, order_id LIMIT ").int(limit(max));
        script.sql(") o ON TRUE WHERE h.one = 1 ORDER BY o.accepted_at DESC, o.order_id");
        let mut standing = Standing { through: 0, orders: Vec::new() };
        for row in self.readers.ask(&script).await?.rows("standing") {
            standing.through = rows::count(&row, 11)?;
            if rows::text_if_any(&row, 0)?.is_some() {
                standing.orders.push(rows::order(&row)?);
            }
        }
        Ok(standing)
    }

    async fn issue_pass(&self, pass: &PassDigest, buyer: &BuyerId, until: Timestamp) -> Result<(), StoreError> {
        let mut script = Script::default();
        // IGNORE: the statement is run again if its answer was lost.
        script.add("issue pass", "INSERT IGNORE INTO live_pass (digest, buyer, until) VALUES (");
        script.text(pass.as_str()).sql(", ").text(buyer.as_str()).sql(", ").time(until).sql(")");
        self.readers.ask(&script).await?;
        Ok(())
    }

    async fn use_pass(&self, pass: &PassDigest, now: Timestamp) -> Result<Option<BuyerId>, StoreError> {
        let mut script = Script::default();
        script.add("pass", "SELECT buyer FROM live_pass WHERE until > ").time(now);
        script.sql(" AND digest = ").text(pass.as_str());
        // Whoever deletes the row has used the pass. If the answer to that is lost, nobody has it: the shopper takes
        // another.
        script.add("use pass", "DELETE FROM live_pass WHERE digest = ").text(pass.as_str());
        let mut replies = self.readers.ask(&script).await?;
        let used = replies.touched("use pass") == 1;
        let buyer = replies.row("pass").map(|row| rows::parsed(&row, 0)).transpose()?;
        Ok(buyer.filter(|_| used))
    }

    async fn forget_passes(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        let mut script = Script::default();
        script.add("forget passes", "DELETE FROM live_pass WHERE until <= ").time(now).sql(" LIMIT ").int(limit(max));
        Ok(usize::try_from(self.readers.ask(&script).await?.touched("forget passes")).unwrap_or(usize::MAX))
    }
}
