//! Expiry: releases unpaid orders when they are due, within a second. The store's compare-and-set decides
//! between expiry and payment; this only asks often enough.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use types::Sku;

use crate::metrics;
use crate::shared::Shared;

/// How often due orders are looked for: a tenth of the second that the protocol allows; a look that finds nothing reads
/// one index and costs a millisecond (`docs/adr/0016`).
const EVERY: Duration = Duration::from_millis(100);
/// Orders in one transaction: shares the writer with purchases.
const BATCH: usize = 500;
/// Products read again at once: as many as a store has readers, and a few that wait.
const REREADS_AT_ONCE: usize = 8;

/// Runs until `stop`.
pub(crate) async fn run(shared: &Shared, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match shared.store.expire_due(shared.now(), BATCH).await {
            Ok(expired) if expired.orders == 0 => {}
            Ok(expired) => {
                metrics::expired(expired.orders as u64);
                tracing::debug!(orders = expired.orders, "unpaid orders expired");
                shared.wake_outbox.notify_one();
                sell_again(shared, &expired.products).await;
                if expired.orders >= BATCH {
                    // More may be due: catch up without a pause.
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no orders were expired; trying again");
                metrics::retry("expiry");
            }
        }
        tokio::select! {
            biased;
            () = shared.sleep(EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// What was sold out is available at once. Of a product that has more to sell nobody notices half a second.
async fn sell_again(shared: &Shared, products: &BTreeSet<Sku>) {
    let sold_out = |product: &&Sku| shared.table.get(product).is_some_and(|slot| slot.row().state.sellable == 0);
    futures::stream::iter(products.iter().filter(sold_out))
        .for_each_concurrent(REREADS_AT_ONCE, |product| shared.units_came_back(product))
        .await;
}
