//! Admission credits: how many purchase calls each edge may let through, and what it may refuse by itself. They bound
//! load and decide nothing: the store checks every call, so a wrong number costs calls or patience, never a unit.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;
use types::{CoreId, EdgeId, SaleName, Sku, Timestamp};

use crate::admission::{self, Refusal};
use crate::stock::store::ProductRow;

/// An edge that has not asked for so long gets no share: its own credits have ended by then (`edge/lua`, `LIFE`), so
/// nothing is issued twice.
const EDGE_ALIVE: Duration = Duration::from_secs(1);
/// Edges that one core serves: each is remembered with what it was told.
pub(crate) const MAX_EDGES: usize = 64;
/// Cores among which an edge divides: as many as the control plane pushes to.
pub(crate) const MAX_CORES: u64 = 100;

/// Whether a product can be bought, as far as an edge may say so by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Door {
    /// Within the window that stands beside it.
    Open,
    /// Paused.
    Paused,
    /// Over.
    Ended,
}

/// What is left of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Left {
    /// Something is sellable.
    Some,
    /// Nothing, but unpaid orders may give units back.
    AllReserved,
    /// Nothing.
    SoldOut,
}

impl Left {
    fn of(row: &ProductRow) -> Self {
        match (row.state.sellable, row.state.reserved) {
            (0, 0) => Self::SoldOut,
            (0, _) => Self::AllReserved,
            _ => Self::Some,
        }
    }
}

/// One product as an edge needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct ProductCredits {
    /// Which.
    product: Sku,
    /// In which sale.
    sale: SaleName,
    /// Whether it can be bought.
    door: Door,
    /// From when, by the core's clock in milliseconds.
    opens_ms: i64,
    /// Until when, by the core's clock in milliseconds.
    closes_ms: i64,
    /// What is left.
    left: Left,
    /// How many calls this edge may have with this core, those under way included.
    credits: u64,
}

/// What an edge is told: everything, or what has changed since its last answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct CreditsAnswer {
    /// Who answers.
    pub(crate) core: CoreId,
    /// The core's clock, in milliseconds.
    pub(crate) now_ms: i64,
    /// How old the oldest number below may be, in milliseconds.
    pub(crate) age_ms: u64,
    /// Edges that divide with this one, itself included.
    edges: u64,
    /// Names this answer: sent back as `have`, the next one tells only what has changed.
    version: String,
    /// Whether `products` are all; else those that have changed, and `gone` those that are no more.
    whole: bool,
    /// Products.
    products: Vec<ProductCredits>,
    /// Products that are no longer sold.
    gone: Vec<Sku>,
}

/// Who divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Edges that ask.
    pub(crate) edges: u64,
    /// Cores that the edge asks.
    pub(crate) cores: u64,
}

/// Calls that one edge may have with one core: `2 × sellable`, divided among the cores, less what this core has not
/// decided yet, divided among the edges. `room` is the tier's own bound, where it has one. Both divisions round up: the
/// last unit must not be lost between two who would each get half a credit.
pub(crate) fn credits(sellable: u64, undecided: u64, room: Option<u64>, shares: Shares) -> u64 {
    let all = sellable.saturating_mul(2).div_ceil(shares.cores.max(1));
    let all = room.map_or(all, |room| all.min(room));
    all.saturating_sub(undecided).div_ceil(shares.edges.max(1))
}

/// A product as an edge is told of it.
pub(crate) fn entry(
    row: &ProductRow,
    undecided: u64,
    room: Option<u64>,
    shares: Shares,
    now: Timestamp,
) -> ProductCredits {
    let door = match admission::admit(row, now) {
        Ok(()) | Err(Refusal::NotOpen { .. }) => Door::Open,
        Err(Refusal::Ended) => Door::Ended,
        Err(_) => Door::Paused,
    };
    ProductCredits {
        product: row.state.product.clone(),
        sale: row.state.sale.clone(),
        door,
        opens_ms: row.state.opens.millis(),
        closes_ms: row.state.closes.millis(),
        left: Left::of(row),
        credits: if door == Door::Open { credits(row.state.sellable, undecided, room, shares) } else { 0 },
    }
}

/// What one edge was told last.
struct Told {
    asked: Instant,
    number: u64,
    products: BTreeMap<Sku, ProductCredits>,
}

/// The edges that ask.
pub(crate) struct Edges {
    incarnation: u64,
    told: Mutex<BTreeMap<EdgeId, Told>>,
}

impl Edges {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self { incarnation, told: Mutex::default() }
    }

    /// Takes note that an edge asks. Answers how many do; `None` if they are too many.
    pub(crate) fn asks(&self, edge: &EdgeId, now: Instant) -> Option<u64> {
        let mut told = self.told.lock();
        told.retain(|_, last| now.duration_since(last.asked) <= EDGE_ALIVE);
        if !told.contains_key(edge) && told.len() >= MAX_EDGES {
            return None;
        }
        let fresh = || Told { asked: now, number: 0, products: BTreeMap::new() };
        told.entry(edge.clone()).or_insert_with(fresh).asked = now;
        Some(told.len() as u64)
    }

    /// Edges that have asked lately.
    pub(crate) fn len(&self) -> usize {
        self.told.lock().len()
    }

    /// The answer to an edge that has the answer `have`.
    pub(crate) fn answer(
        &self,
        edge: &EdgeId,
        have: Option<&str>,
        core: &CoreId,
        now: Timestamp,
        age: Duration,
        products: Vec<ProductCredits>,
    ) -> CreditsAnswer {
        let mut told = self.told.lock();
        let edges = told.len() as u64;
        let fresh = || Told { asked: Instant::now(), number: 0, products: BTreeMap::new() };
        let last = told.entry(edge.clone()).or_insert_with(fresh);
        let name = |number: u64| format!("{:x}-{number}", self.incarnation);
        let whole = last.number == 0 || have != Some(&name(last.number));
        let new: BTreeMap<Sku, ProductCredits> = products.into_iter().map(|p| (p.product.clone(), p)).collect();
        let changed = |(sku, entry): &(&Sku, &ProductCredits)| whole || last.products.get(*sku) != Some(*entry);
        let changed: Vec<_> = new.iter().filter(changed).map(|(_, entry)| entry.clone()).collect();
        let gone = if whole {
            Vec::new()
        } else {
            last.products.keys().filter(|sku| !new.contains_key(*sku)).cloned().collect()
        };
        last.products = new;
        last.number += 1;
        CreditsAnswer {
            core: core.clone(),
            now_ms: now.millis(),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            edges,
            version: name(last.number),
            whole,
            products: changed,
            gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(edges: u64, cores: u64) -> Shares {
        Shares { edges, cores }
    }

    #[test]
    fn two_calls_for_each_unit_and_never_none_while_something_is_left() {
        assert_eq!(credits(1_000, 0, None, shares(1, 1)), 2_000);
        assert_eq!(credits(1_000, 500, None, shares(2, 1)), 750);
        assert_eq!(credits(1, 0, None, shares(3, 5)), 1, "the last unit is not lost in a division");
        assert_eq!(credits(1, 2, None, shares(1, 1)), 0, "it is being asked for");
        assert_eq!(credits(0, 0, None, shares(1, 1)), 0);
        assert_eq!(credits(1_000, 10, Some(100), shares(1, 1)), 90, "the queue's own bound");
        assert_eq!(credits(u64::MAX, 0, None, shares(1, 1)), u64::MAX);
    }

    proptest! {
        #[test]
        fn all_edges_together_get_what_there_is_and_hardly_more(
            sellable in 0u64..10_000, undecided in 0u64..20_000, edges in 1u64..16, cores in 1u64..16,
        ) {
            // Every core has the same view of stock; what is not decided lies at one of them.
            let at_one = credits(sellable, undecided, None, shares(edges, cores)) * edges;
            let at_others = credits(sellable, 0, None, shares(edges, cores)) * edges * (cores - 1);
            let all = at_one + at_others;
            prop_assert!(all <= sellable * 2 + cores * edges, "rounding is all that comes on top");
            prop_assert!(all + undecided + cores * edges >= sellable * 2 || sellable == 0, "nothing is lost");
            prop_assert!(sellable == 0 || undecided >= sellable * 2 || all > 0);
            prop_assert!(sellable > 0 || all == 0);
        }
    }

    fn product(name: &str, credits: u64) -> ProductCredits {
        ProductCredits {
            product: Sku::new(name).expect("a sku"),
            sale: SaleName::new("friday").expect("a sale"),
            door: Door::Open,
            opens_ms: 0,
            closes_ms: 10,
            left: Left::Some,
            credits,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_is_told_what_changed_and_everything_when_in_doubt() {
        let (edges, core) = (Edges::new(0xab), CoreId::new("core-1").expect("a core"));
        let (one, two) = (EdgeId::new("one").expect("an edge"), EdgeId::new("two").expect("an edge"));
        let ask = |edge: &EdgeId, have: Option<&str>, products: Vec<ProductCredits>| {
            edges.asks(edge, Instant::now()).expect("room");
            edges.answer(edge, have, &core, Timestamp::default(), Duration::ZERO, products)
        };
        let names = |answer: &CreditsAnswer| answer.products.iter().map(|p| p.product.to_string()).collect::<Vec<_>>();
        let first = ask(&one, None, vec![product("lamp", 2), product("vase", 4)]);
        assert_eq!((first.whole, names(&first).len(), first.edges), (true, 2, 1));
        let second = ask(&one, Some(&first.version), vec![product("lamp", 1)]);
        assert_eq!((second.whole, names(&second)), (false, vec!["lamp".to_owned()]));
        assert_eq!(second.gone, [Sku::new("vase").expect("a sku")]);
        let third = ask(&one, Some(&second.version), vec![product("lamp", 1)]);
        assert_eq!((third.whole, names(&third).len(), third.gone.len()), (false, 0, 0));
        // An answer that was lost, one of another process, and another edge: everything.
        for have in [Some(second.version.as_str()), Some("ff-3"), None] {
            assert!(ask(&one, have, vec![product("lamp", 1)]).whole);
        }
        let other = ask(&two, Some(&third.version), vec![product("lamp", 1)]);
        assert_eq!((other.whole, other.edges), (true, 2));
        tokio::time::advance(Duration::from_millis(1_100)).await;
        assert_eq!(ask(&two, None, vec![]).edges, 1, "who does not ask gets no share");
    }

    #[tokio::test]
    async fn edges_are_bounded() {
        let edges = Edges::new(1);
        let name = |n: usize| EdgeId::new(format!("e{n}")).expect("an edge");
        for n in 0..MAX_EDGES {
            assert_eq!(edges.asks(&name(n), Instant::now()), Some(n as u64 + 1));
        }
        assert_eq!(edges.asks(&name(MAX_EDGES), Instant::now()), None);
        assert_eq!(edges.asks(&name(3), Instant::now()), Some(MAX_EDGES as u64), "who is known may ask on");
    }
}
