//! The rules of a lease store, as pure functions over what one atomic step has read. The store in this process asks
//! them; the script inside Redis must rule alike, and the lease store's contract suite holds it to that.

use types::{Epoch, LeaseId, Timestamp};

use super::{GrantReply, GrantRequest, LeaseLook};
use crate::stock::store::BodyHash;

/// A grant that was made under the request's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// What was asked for.
    pub body_hash: BodyHash,
    /// Its number within the lease.
    pub seq: u64,
    /// Units granted.
    pub quantity: u32,
}

/// What the store has of the product that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// The lease that is loaded.
    pub lease: LeaseId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether it was closed here.
    pub closed: bool,
    /// First moment at which it grants.
    pub opens: Timestamp,
    /// First moment at which it no longer does.
    pub closes: Timestamp,
    /// Most units per buyer.
    pub limit: u32,
    /// Units left.
    pub left: u64,
    /// Units that this buyer was granted from this lease.
    pub held: u32,
    /// The grant of this buyer and key, if there is one.
    pub grant: Option<Grant>,
}

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantRuling {
    /// Answer this and change nothing.
    Say(GrantReply),
    /// Take the units, count them for the buyer, give the next number, remember all three under the key.
    Take,
}

/// Rules on a request. `view` is `None` where nothing is loaded for the product.
///
/// - Any doubt about who owns the units fails closed: no lease, another lease, another epoch.
/// - A repeat is answered before window, limit and units: its grant was made when all three allowed it. It gets the
///   same number *and the same quantity*; another body gets neither.
pub fn rule(request: &GrantRequest, view: Option<&LeaseView>) -> GrantRuling {
    let Some(view) = view.filter(|view| view.lease == request.lease && view.epoch == request.epoch) else {
        return GrantRuling::Say(GrantReply::NotOwner);
    };
    if view.closed {
        return GrantRuling::Say(GrantReply::Closed);
    }
    if let Some(Grant { body_hash, seq, quantity }) = view.grant {
        return GrantRuling::Say(if body_hash == request.body_hash {
            GrantReply::Granted { seq, quantity, left: view.left }
        } else {
            GrantReply::OtherBody
        });
    }
    if request.now < view.opens || request.now >= view.closes {
        return GrantRuling::Say(GrantReply::OutsideWindow);
    }
    if view.held.saturating_add(request.quantity) > view.limit {
        return GrantRuling::Say(GrantReply::Limit);
    }
    // A grant of nothing would make the grants of a lease unbounded.
    if request.quantity == 0 || u64::from(request.quantity) > view.left {
        return GrantRuling::Say(GrantReply::Short { left: view.left });
    }
    GrantRuling::Take
}

/// Whether a lease of epoch `new` may be loaded where one of epoch `here` lies: never an older or equal one.
pub fn may_load(here: Option<Epoch>, new: Epoch) -> bool {
    here.is_none_or(|here| new > here)
}

/// What a top-up finds of its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    /// The lease that is loaded.
    pub lease: LeaseId,
    /// Whether it was closed here.
    pub closed: bool,
    /// Its units.
    pub units: LeaseLook,
}

/// Rules on a top-up of `lease` to `granted` units in all: its units afterwards, or `None` where it must do nothing.
///
/// - By max, never by adding: SQL's word may be repeated, and may come after a later one.
/// - It names its lease: in the place of a lease that is closed, lost or replaced there is nothing to raise.
pub fn top_up(here: Option<&Lent>, lease: LeaseId, granted: u64) -> Option<LeaseLook> {
    let Lent { units, .. } = here.filter(|here| here.lease == lease && !here.closed)?;
    let more = granted.saturating_sub(units.granted);
    Some(LeaseLook { granted: units.granted + more, left: units.left + more })
}
