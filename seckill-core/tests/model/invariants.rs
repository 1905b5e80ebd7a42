//! The protocol's invariants over one state, one step and the states of rest. Written from the document: nothing
//! here asks a rule of the production code.

use types::Tier;

use super::books::{BUYERS, Books, End, KEYS, LeaseState, Money3, Order};
use super::state::{Config, World};

fn living(b: &Books) -> u8 {
    b.keys.iter().map(|k| if k.order.lives() { k.quantity } else { 0 } + k.extra).sum()
}

/// What is broken in a state.
pub fn broken(c: &Config, w: &World) -> Option<&'static str> {
    if w.wrong.is_some() {
        return w.wrong;
    }
    let b = &w.b;
    for key in 0..KEYS {
        let (row, told) = (&b.keys[key], w.told[key]);
        if row.extra > 0 {
            return Some("3: two orders under one key");
        }
        if told == 3
            || (told == 1 && !matches!(row.end, End::Accepted | End::None))
            || (told == 2 && row.end == End::Accepted)
        {
            return Some("7: two answers for one ticket");
        }
        if row.end != End::Accepted && row.order != Order::None {
            return Some("7: an order under a refusal");
        }
        if row.end == End::Accepted && row.order == Order::None {
            return Some("4: accepted without an order");
        }
        if row.dropped > 0 {
            return Some("10: a payment left no trace");
        }
        let stands = row.payments.iter().filter(|p| **p == Money3::Paid).count();
        if stands != usize::from(row.order == Order::Paid) {
            return Some("10: paid payments are not the paid orders");
        }
    }
    if b.total != w.expected {
        return Some("2: the total is not what was brought and adjusted");
    }
    if living(b) > b.total {
        return Some("2: OVERSOLD");
    }
    if b.leases.iter().any(|l| l.consumed > l.granted) {
        return Some("3: more consumed than granted");
    }
    let lent: u8 = b.leases.iter().filter(|l| l.alive()).map(|l| l.granted.saturating_sub(l.consumed)).sum();
    if b.free + lent + living(b) != b.total {
        return Some("1: units are not conserved");
    }
    if b.leased != lent || b.free + b.leased + b.reserved + b.sold != b.total {
        return Some("1: the sums of the stock row do not hold");
    }
    if b.leases.iter().filter(|l| l.alive()).count() > 1 {
        return Some("6: two living leases");
    }
    for buyer in 0..BUYERS {
        let holds: u8 = (0..c.buyers.len())
            .filter(|k| c.buyers[*k] as usize == buyer && b.keys[*k].order.lives())
            .map(|k| b.keys[k].quantity)
            .sum();
        if holds > b.limit {
            return Some("3: a buyer is over the limit");
        }
        if holds != b.held[buyer] {
            return Some("3: the limit row is not what the buyer holds");
        }
    }
    None
}

/// What is broken in a step.
pub fn broken_step(before: &World, after: &World) -> Option<&'static str> {
    let (old, new) = (&before.b, &after.b);
    if new.epoch < old.epoch {
        return Some("5: an epoch fell");
    }
    let fenced = |b: &Books| b.leases.iter().filter(|l| l.state == LeaseState::Fenced).count();
    if fenced(new) > fenced(old) && new.epoch == old.epoch {
        return Some("5: a second fence in one epoch");
    }
    let sellable: u8 = old.free + old.leases.iter().filter(|l| l.alive()).map(|l| l.granted - l.consumed).sum::<u8>();
    for key in 0..KEYS {
        let (was, is) = (&old.keys[key], &new.keys[key]);
        if was.end != End::None && (was.end != is.end || was.body != is.body) {
            return Some("3: a decision changed");
        }
        if was.end == End::None && matches!(is.end, End::SoldOut | End::AllReserved) && sellable >= is.body {
            return Some("12: decided sold out while it could be sold");
        }
        if was.end == End::None && is.end == End::SoldOut && old.reserved > 0 {
            return Some("12: decided sold out while units may come back");
        }
        let legal = match was.order {
            Order::None => matches!(is.order, Order::None | Order::Accepted),
            Order::Accepted => !matches!(is.order, Order::None | Order::RefundDue | Order::Refunded),
            Order::Paid => matches!(is.order, Order::Paid | Order::RefundDue),
            Order::Expired => matches!(is.order, Order::Expired | Order::Paid | Order::RefundDue),
            Order::Cancelled => matches!(is.order, Order::Cancelled | Order::RefundDue),
            Order::RefundDue => matches!(is.order, Order::RefundDue | Order::Refunded),
            Order::Refunded => is.order == Order::Refunded,
        };
        if !legal {
            return Some("8: an order took an illegal step");
        }
    }
    None
}

/// What is broken in a state from which nothing more happens.
pub fn broken_rest(c: &Config, w: &World) -> Option<&'static str> {
    let b = &w.b;
    if b.tier == Tier::Redis || b.draining || b.lent() > 0 || b.alive().is_some() {
        return Some("9 at rest: a lease is still out");
    }
    if b.free + living(b) != b.total {
        return Some("9 at rest: a unit is stranded");
    }
    if w.grants.len + w.queue.len > 0 {
        return Some("at rest: a record is stuck in its topic");
    }
    for key in 0..c.buyers.len() {
        let row = &b.keys[key];
        if c.deadlines && w.tickets & (1 << key) != 0 && row.end == End::None {
            return Some("7 at rest: a ticket has no end");
        }
        if w.told[key] == 1 && row.order == Order::None {
            return Some("4 at rest: told accepted, and there is no order");
        }
        if w.told[key] == 2 && row.end == End::None {
            return Some("7 at rest: told an end that nobody has written");
        }
        if c.expiry && row.order == Order::Accepted {
            return Some("9 at rest: an unpaid order was not expired");
        }
        if w.applied[key] != w.captured[key] || row.payments.contains(&Money3::RefundDue) {
            return Some("10 at rest: money is under way");
        }
    }
    None
}
