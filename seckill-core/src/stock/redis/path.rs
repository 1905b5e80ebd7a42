//! The redis path: a grant from the lease store, then its record to the topic `purchase-grants`. A grant is
//! permission to ask; the order comes from the store.

use crate::shared::Shared;
use crate::stock::queue::record::{AttemptRecord, GrantName, PurchaseRecord};
use crate::stock::redis::{GrantReply, GrantRequest};
use crate::stock::store::ProductRow;

/// What became of an attempt on the redis path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Granted and appended: it will be decided.
    Appended,
    /// The key was granted with another body.
    OtherBody,
    /// The lease has too few units left.
    Short,
    /// The buyer has all that he may have of this lease.
    Limit,
    /// The lease is not what the core believed: read the product again.
    Stale,
    /// Outside the sale's window.
    OutsideWindow,
    /// A port failed. If a grant was made, a repeat gets the same one.
    Failed,
}

/// What the lease store's answer means for an attempt of `quantity` units: the number of its grant, or its end here.
pub(crate) fn after_grant(reply: GrantReply, quantity: u32) -> Result<u64, Sent> {
    match reply {
        GrantReply::Granted { seq, quantity: granted, .. } if granted == quantity => Ok(seq),
        // The body hash covers the quantity, so this store contradicts itself.
        GrantReply::Granted { .. } => {
            crate::metrics::alarm("grant_of_another_quantity");
            Err(Sent::OtherBody)
        }
        GrantReply::OtherBody => Err(Sent::OtherBody),
        GrantReply::Short { .. } => Err(Sent::Short),
        GrantReply::Limit => Err(Sent::Limit),
        GrantReply::Closed | GrantReply::NotOwner => Err(Sent::Stale),
        GrantReply::OutsideWindow => Err(Sent::OutsideWindow),
    }
}

/// Sends an attempt on the redis path.
pub(crate) async fn send(shared: &Shared, row: &ProductRow, mut attempt: AttemptRecord) -> Sent {
    let Some(lease) = row.lease.filter(|lease| lease.loaded && !lease.fenced) else {
        return Sent::Stale;
    };
    let now = shared.now();
    let request = GrantRequest {
        product: attempt.product.clone(),
        lease: lease.lease,
        epoch: lease.epoch,
        buyer: attempt.buyer.clone(),
        key: attempt.key.clone(),
        body_hash: attempt.body_hash,
        quantity: attempt.quantity,
        now,
    };
    let seq = match shared.leases.grant(request).await {
        Ok(reply) => match after_grant(reply, attempt.quantity) {
            Ok(seq) => seq,
            Err(sent) => return sent,
        },
        Err(error) => {
            tracing::warn!(%error, product = %attempt.product, "no grant");
            crate::metrics::retry("leases");
            return Sent::Failed;
        }
    };
    attempt.grant = Some(GrantName { lease: lease.lease, seq });
    let product = attempt.product.clone();
    let appended = match PurchaseRecord::Attempt(attempt.clone()).encode(now) {
        Ok(record) => shared.append_purchase(&shared.topics.grants, record).await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match appended {
        Ok(at) => {
            shared.granted.note(&attempt, at);
            Sent::Appended
        }
        Err(error) => {
            tracing::warn!(%error, %product, "a grant was not appended");
            crate::metrics::retry("log");
            Sent::Failed
        }
    }
}
