//! Moves of a product between tiers, as decisions: from a product's row and the wanted tier to the next step.
//! Pure: it reads no clock and no store, and it never skips a step.

use std::time::Duration;

use types::{Epoch, LeaseId, Phase, Sku, Tier, Timestamp};

use crate::stock::redis::LeaseLook;
use crate::stock::store::{LeaseRow, ProductRow, SaleState};

/// A lease that has too few units and whose grants stopped becoming orders for this long is settled, so that grants
/// that got lost come back.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(2);
/// A lease counts as lost when its store has not had it for this long: a core that has just won the right to load it
/// needs a moment, and requests that wait for a move have 200 ms.
const LOST_AFTER: Duration = Duration::from_millis(50);
/// How long before its opening a core gives a product its sale's `initial_tier`, if no plan says anything of this
/// opening: late enough for a planner that lives, early enough for a lease store that starts badly.
const START_LEAD: Duration = Duration::from_secs(30);
/// What the planner said up to this long before the opening was not said of the opening (its own lead).
const PLAN_LEAD: Duration = Duration::from_secs(60);
/// How long after its opening a core may still do so; then it leaves the product where it sells.
const START_GRACE: Duration = Duration::from_secs(10);

/// A move that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveDone {
    /// Which product.
    pub product: Sku,
    /// The tier it left.
    pub from: Tier,
    /// The tier it sells on now (the same tier: a new lease).
    pub to: Tier,
    /// Its epoch now.
    pub epoch: Epoch,
    /// When it sold again.
    pub at: Timestamp,
    /// Time from the fence (or the only step) until then: how long requests may have waited.
    pub took: Duration,
}

/// Why a lease must be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its store does not have it.
    Lost,
    /// Its store has granted less than SQL has sold by it: it came back with old data.
    Outdated,
    /// It has too few units for what may be asked, and some of its grants never became orders.
    Leaked,
    /// Its window or limit are no longer the sale's.
    Terms,
    /// An alarm condemned it, or it could not be loaded.
    Condemned,
}

impl Why {
    /// Its name in the log and in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Outdated => "outdated",
            Self::Leaked => "leaked",
            Self::Terms => "terms",
            Self::Condemned => "condemned",
        }
    }
}

/// How the open, loaded lease of a product is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseHealth {
    /// It grants.
    Sound,
    /// It was topped up in SQL and its store has not heard of it: whoever did the first half has died, or the call was
    /// lost.
    Behind,
    /// It must be fenced and settled; a new lease follows.
    Replace(Why),
}

/// The next step of a product's move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// `db ↔ queue` in one step.
    Switch { target: Tier },
    /// A new lease out of `free`: from db or queue, or the end of a move towards redis.
    OpenLease,
    /// Win the right to load the lease, then load it.
    Load { lease: LeaseRow },
    /// Units came back: lend them to the open lease, in SQL first, then in its store.
    TopUp { lease: LeaseRow },
    /// The second half of a top-up.
    Raise { lease: LeaseRow },
    /// H1.
    Fence { target: Tier },
    /// H2 to H4: close the lease in its store, pass the barrier, settle.
    Settle { lease: LeaseId },
    /// H5 towards db or queue.
    Open,
}

impl NextStep {
    /// Whether it takes the product anywhere: requests notice nothing of a top-up.
    pub(crate) const fn moves(self) -> bool {
        !matches!(self, Self::TopUp { .. } | Self::Raise { .. })
    }
}

/// What the plan wishes for a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Where it should sell.
    pub(crate) tier: Tier,
    /// When this core took the entry.
    pub(crate) taken: Timestamp,
    /// Until when an operator insists on it; `None` where no operator has spoken.
    pub(crate) ordered_until: Option<Timestamp>,
}

/// What besides its row and its plan decides where a product should sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// Its sale is being closed.
    pub(crate) closing: bool,
    /// The store of its leases is away.
    pub(crate) away: bool,
    /// The present moment.
    pub(crate) now: Timestamp,
}

/// Orders the tiers by the heat that they are for.
const fn heat(tier: Tier) -> u8 {
    match tier {
        Tier::Db => 0,
        Tier::Redis => 1,
        Tier::Queue => 2,
    }
}

/// The tier that a product should have.
///
/// - Once its sale is over nothing may stay lent.
/// - While the lease store is away, the plan's redis is db: sales go on.
/// - Else the plan's wish; but one from before its opening drew near (the control plane died, or there never was a
///   plan) does not keep a product from its sale's `initial_tier`, unless it is for a hotter tier. Such a wish is not
///   obeyed after the opening either: without a control plane tiers freeze.
pub(crate) fn wanted(row: &ProductRow, wish: Option<Wish>, around: Circumstances) -> Tier {
    let Circumstances { closing, away, now } = around;
    let state = &row.state;
    if closing || row.sale_state == SaleState::Closed || now >= state.closes {
        return Tier::Db;
    }
    let wished = match state.initial_tier {
        Some(initial) if now >= state.opens.minus(START_LEAD) => {
            let of_this_opening = |wish: &Wish| {
                wish.taken >= state.opens.minus(PLAN_LEAD)
                    || wish.ordered_until.is_some_and(|until| now < until)
                    || heat(wish.tier) >= heat(initial)
            };
            match wish.filter(of_this_opening) {
                Some(wish) => wish.tier,
                None if now < state.opens.plus(START_GRACE) => initial,
                None => state.tier,
            }
        }
        _ => wish.map_or(state.tier, |wish| wish.tier),
    };
    if away && wished == Tier::Redis { Tier::Db } else { wished }
}

/// The next step from `row` towards `wanted`; `None` when there is nothing to do. A move that has begun is first
/// brought to its own end, whatever is wanted by now. `queued` units stay in `free` for attempts that are queued.
pub(crate) fn next_step(row: &ProductRow, wanted: Tier, health: LeaseHealth, queued: u64) -> Option<NextStep> {
    match (row.state.phase, row.lease) {
        (Phase::Draining, Some(lease)) => Some(NextStep::Settle { lease: lease.lease }),
        (Phase::Draining, None) if row.state.target == Some(Tier::Redis) => Some(NextStep::OpenLease),
        (Phase::Draining, None) => Some(NextStep::Open),
        (Phase::Active, lease) => match (row.state.tier, lease) {
            // The store makes neither: redis without a lease, or an active product whose lease is fenced. A fence
            // leads out of both.
            (Tier::Redis, None) => Some(NextStep::Fence { target: wanted }),
            (Tier::Redis, Some(lease)) if wanted != Tier::Redis || lease.fenced => {
                Some(NextStep::Fence { target: wanted })
            }
            (Tier::Redis, Some(lease)) if !lease.loaded => Some(NextStep::Load { lease }),
            (Tier::Redis, Some(lease)) => match health {
                LeaseHealth::Replace(_) => Some(NextStep::Fence { target: Tier::Redis }),
                LeaseHealth::Behind => Some(NextStep::Raise { lease }),
                LeaseHealth::Sound if row.free > queued => Some(NextStep::TopUp { lease }),
                LeaseHealth::Sound => None,
            },
            (from, _) if from == wanted => None,
            (_, _) if wanted == Tier::Redis => Some(NextStep::OpenLease),
            (_, _) => Some(NextStep::Switch { target: wanted }),
        },
    }
}

/// What was seen of one loaded lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseWatch {
    lease: LeaseId,
    consumed: u64,
    unchanged_since: Timestamp,
    missing_since: Option<Timestamp>,
    terms: (Timestamp, Timestamp, u32),
}

impl LeaseWatch {
    /// A watch over the lease that was seen in `row` at `now`.
    pub(crate) fn new(row: &ProductRow, lease: &LeaseRow, now: Timestamp) -> Self {
        Self {
            lease: lease.lease,
            consumed: lease.consumed,
            unchanged_since: now,
            missing_since: None,
            terms: terms(row),
        }
    }

    /// Whether this is the watch of that lease.
    pub(crate) fn is_of(&self, lease: LeaseId) -> bool {
        self.lease == lease
    }

    /// Looks again: `look` is what the lease store said (`None`: it does not have the lease), after `row` was read.
    pub(crate) fn look(
        &mut self,
        row: &ProductRow,
        lease: &LeaseRow,
        look: Option<LeaseLook>,
        now: Timestamp,
    ) -> LeaseHealth {
        if lease.consumed != self.consumed {
            self.consumed = lease.consumed;
            self.unchanged_since = now;
        }
        let Some(look) = look else {
            // Another core may be loading it just now.
            let since = *self.missing_since.get_or_insert(now);
            let lost = now.since(since) >= LOST_AFTER;
            return if lost { LeaseHealth::Replace(Why::Lost) } else { LeaseHealth::Sound };
        };
        self.missing_since = None;
        let taken = look.granted.saturating_sub(look.left);
        if taken < lease.consumed {
            return LeaseHealth::Replace(Why::Outdated);
        }
        if self.terms != terms(row) {
            return LeaseHealth::Replace(Why::Terms);
        }
        // Fewer than one buyer may ask for: somebody may be told "short" though units are to be had. While grants
        // still become orders, they may be on their way.
        let too_few = look.left < u64::from(row.limit);
        if too_few && taken > lease.consumed && now.since(self.unchanged_since) >= STUCK_AFTER {
            return LeaseHealth::Replace(Why::Leaked);
        }
        if look.granted < lease.granted { LeaseHealth::Behind } else { LeaseHealth::Sound }
    }
}

/// What a lease was loaded with and cannot learn later.
fn terms(row: &ProductRow) -> (Timestamp, Timestamp, u32) {
    (row.state.opens, row.state.closes, row.limit)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use types::plan::ProductState;
    use types::{Currency, Money, SaleName};

    use super::*;

    pub(crate) fn row(tier: Tier) -> ProductRow {
        ProductRow {
            policy: types::SalePolicy::default(),
            state: ProductState {
                product: Sku::new("lamp").expect("sku"),
                sale: SaleName::new("s").expect("name"),
                pages: Vec::new(),
                tier,
                phase: Phase::Active,
                target: None,
                epoch: Epoch::new(4),
                sellable: 10,
                reserved: 0,
                total: 10,
                opens: Timestamp::from_seconds(0),
                closes: Timestamp::from_seconds(1_000),
                initial_tier: None,
            },
            sale_state: SaleState::Active,
            name: "Lamp".into(),
            price: Money::new(100, "EUR".parse::<Currency>().expect("a currency")).expect("money"),
            limit: 2,
            free: 10,
            sold: 0,
            told: 0,
            lease: None,
        }
    }
    fn lease(loaded: bool, fenced: bool) -> LeaseRow {
        LeaseRow { lease: LeaseId::from_bits(1), epoch: Epoch::new(4), granted: 10, consumed: 0, fenced, loaded }
    }

    /// What the store does, so that the steps can be run to their end.
    fn take(row: &mut ProductRow, step: NextStep) {
        match step {
            NextStep::Switch { target } => {
                row.state.tier = target;
                row.state.epoch = row.state.epoch.next();
            }
            NextStep::OpenLease => {
                if row.state.phase == Phase::Active {
                    row.state.epoch = row.state.epoch.next();
                }
                let bits = u128::from(row.state.epoch.get());
                let epoch = row.state.epoch;
                row.lease =
                    Some(LeaseRow { lease: LeaseId::from_bits(bits), epoch, granted: row.free, ..lease(false, false) });
                row.free = 0;
                (row.state.tier, row.state.phase, row.state.target) = (Tier::Redis, Phase::Active, None);
            }
            NextStep::Load { .. } => row.lease.as_mut().expect("a lease").loaded = true,
            NextStep::TopUp { .. } => row.lease.as_mut().expect("a lease").granted += std::mem::take(&mut row.free),
            NextStep::Raise { .. } => {}
            NextStep::Fence { target } => {
                if let Some(lease) = row.lease.as_mut() {
                    lease.fenced = true;
                }
                row.state.epoch = row.state.epoch.next();
                (row.state.phase, row.state.target) = (Phase::Draining, Some(target));
            }
            NextStep::Settle { .. } => {
                let lease = row.lease.take().expect("a lease");
                row.free += lease.granted - lease.consumed;
            }
            NextStep::Open => {
                row.state.tier = row.state.target.take().expect("a target");
                row.state.phase = Phase::Active;
            }
        }
    }

    proptest! {
        /// From every state that the store can be in, the steps end at the wanted tier, with every unit in place.
        #[test]
        fn every_move_comes_to_its_end(
            from in 0usize..3, to in 0usize..3, state in 0u8..5, target in 0usize..3, health in 0usize..3, back in 0u64..3,
        ) {
            let wanted = Tier::ALL[to];
            let mut row = row(Tier::ALL[from]);
            if row.state.tier == Tier::Redis {
                row.free = back;
                row.lease = Some(LeaseRow { granted: 10 - back, ..lease(state > 0, state > 1) });
                if state > 1 {
                    row.state.phase = Phase::Draining;
                    row.state.target = Some(Tier::ALL[target]);
                }
                if state > 2 {
                    row.lease = None;
                    row.free = 10;
                }
            }
            let mut health = [LeaseHealth::Sound, LeaseHealth::Behind, LeaseHealth::Replace(Why::Lost)][health];
            let mut epochs = vec![row.state.epoch];
            for _ in 0..12 {
                let Some(step) = next_step(&row, wanted, health, 0) else { break };
                if matches!(step, NextStep::Load { .. } | NextStep::Raise { .. }) {
                    health = LeaseHealth::Sound;
                }
                take(&mut row, step);
                epochs.push(row.state.epoch);
            }
            prop_assert_eq!(next_step(&row, wanted, health, 0), None);
            prop_assert!(row.state.tier != Tier::Redis || row.free == 0, "what came back is lent again");
            prop_assert_eq!((row.state.tier, row.state.phase), (wanted, Phase::Active));
            prop_assert_eq!(row.free + row.lease.map_or(0, |l| l.granted - l.consumed), 10);
            prop_assert!(epochs.is_sorted());
        }
    }

    #[test]
    fn queued_attempts_keep_their_units() {
        let redis = ProductRow { free: 3, lease: Some(lease(true, false)), ..row(Tier::Redis) };
        assert_eq!(next_step(&redis, Tier::Redis, LeaseHealth::Sound, 3), None);
        let top_up = Some(NextStep::TopUp { lease: lease(true, false) });
        assert_eq!(next_step(&redis, Tier::Redis, LeaseHealth::Sound, 2), top_up);
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }
    fn around(seconds: i64) -> Circumstances {
        Circumstances { closing: false, away: false, now: at(seconds) }
    }
    fn wish(tier: Tier, taken: i64) -> Option<Wish> {
        Some(Wish { tier, taken: at(taken), ordered_until: None })
    }

    #[test]
    fn a_sale_that_is_over_lends_nothing() {
        let row = row(Tier::Redis);
        assert_eq!(wanted(&row, wish(Tier::Redis, 0), around(999)), Tier::Redis);
        assert_eq!(wanted(&row, wish(Tier::Redis, 0), around(1_000)), Tier::Db);
        assert_eq!(wanted(&row, wish(Tier::Queue, 0), Circumstances { closing: true, ..around(1) }), Tier::Db);
        assert_eq!(wanted(&row, None, around(1)), Tier::Redis);
    }

    #[test]
    fn a_mover_who_slept_over_the_close_lends_nothing_either() {
        use crate::stock::db::move_ruling::{StepRuling, rule_on_step};
        use crate::stock::store::MoveStep;
        let mut lamp = row(Tier::Db);
        let epoch = lamp.state.epoch;
        let open =
            MoveStep::OpenLease { product: lamp.state.product.clone(), epoch, lease: LeaseId::from_bits(9), keep: 0 };
        let lent = |granted, epoch, in_one_step| StepRuling::Lend { epoch, granted, in_one_step };
        assert_eq!(rule_on_step(&open, &lamp), lent(10, epoch.next(), true));
        lamp.sale_state = SaleState::Closed;
        assert_eq!(rule_on_step(&open, &lamp), StepRuling::Stale);
        // A move that had begun comes to its end all the same, else the product would drain for ever.
        (lamp.state.phase, lamp.state.target) = (Phase::Draining, Some(Tier::Redis));
        assert_eq!(rule_on_step(&open, &lamp), lent(0, epoch, false));
    }

    #[test]
    fn while_the_lease_store_is_away_redis_is_db() {
        let away = |seconds| Circumstances { away: true, ..around(seconds) };
        assert_eq!(wanted(&row(Tier::Redis), wish(Tier::Redis, 0), away(1)), Tier::Db);
        assert_eq!(wanted(&row(Tier::Redis), None, away(1)), Tier::Db);
        assert_eq!(wanted(&row(Tier::Redis), wish(Tier::Queue, 0), away(1)), Tier::Queue);
    }

    #[test]
    fn the_opening_second_finds_the_initial_tier_whoever_has_died() {
        let mut lamp = row(Tier::Db);
        (lamp.state.opens, lamp.state.initial_tier) = (at(500), Some(Tier::Redis));
        assert_eq!(wanted(&lamp, None, around(469)), Tier::Db, "not yet: a planner may speak");
        assert_eq!(wanted(&lamp, None, around(470)), Tier::Redis, "nobody has spoken");
        assert_eq!(wanted(&lamp, wish(Tier::Db, 439), around(470)), Tier::Redis, "nobody has spoken of this opening");
        assert_eq!(wanted(&lamp, wish(Tier::Db, 440), around(470)), Tier::Db, "somebody has");
        assert_eq!(wanted(&lamp, wish(Tier::Queue, 3), around(470)), Tier::Queue, "heat that is higher stays");
        let ordered = wish(Tier::Db, 3).map(|wish| Wish { ordered_until: Some(at(480)), ..wish });
        assert_eq!(wanted(&lamp, ordered, around(479)), Tier::Db, "an operator insists");
        assert_eq!(wanted(&lamp, ordered, around(480)), Tier::Redis);
        assert_eq!(wanted(&lamp, None, around(509)), Tier::Redis);
        assert_eq!(wanted(&lamp, None, around(510)), Tier::Db, "too late: where it sells it stays");
        lamp.state.tier = Tier::Redis;
        assert_eq!(
            wanted(&lamp, wish(Tier::Db, 439), around(700)),
            Tier::Redis,
            "without a control plane tiers freeze"
        );
        assert_eq!(wanted(&lamp, wish(Tier::Db, 600), around(700)), Tier::Db);
    }

    #[test]
    fn a_lease_is_replaced_when_lost_leaked_old_or_outdated() {
        let open = LeaseRow { consumed: 7, ..lease(true, false) };
        let mut redis = ProductRow { free: 0, lease: Some(open), ..row(Tier::Redis) };
        let watch = LeaseWatch::new(&redis, &open, at(0));
        let seen = |granted, left| Some(LeaseLook { granted, left });
        let look = |left, now| watch.clone().look(&redis, &open, seen(10, left), now);
        assert_eq!(look(3, at(60)), LeaseHealth::Sound, "idle, but nothing is missing");
        assert_eq!(look(1, at(1)), LeaseHealth::Sound, "grants may be on their way");
        assert_eq!(look(1, at(2)), LeaseHealth::Replace(Why::Leaked), "two grants never became orders");
        assert_eq!(look(4, at(0)), LeaseHealth::Replace(Why::Outdated), "sold more than was granted");
        let mut missing = watch.clone();
        let ms = Timestamp::from_millis;
        assert_eq!(missing.look(&redis, &open, None, ms(10)), LeaseHealth::Sound, "it may be being loaded");
        assert_eq!(missing.look(&redis, &open, None, ms(11)), LeaseHealth::Sound);
        assert_eq!(missing.look(&redis, &open, None, ms(60)), LeaseHealth::Replace(Why::Lost));
        assert_eq!(missing.look(&redis, &open, seen(10, 3), ms(61)), LeaseHealth::Sound, "there it is");
        assert_eq!(missing.look(&redis, &open, None, ms(62)), LeaseHealth::Sound);
        let more = LeaseRow { granted: 12, ..open };
        assert_eq!(watch.clone().look(&redis, &more, seen(10, 3), at(0)), LeaseHealth::Behind, "a top-up half done");
        assert_eq!(watch.clone().look(&redis, &open, seen(12, 5), at(0)), LeaseHealth::Sound, "our row is older");
        redis.limit = 3;
        assert_eq!(watch.clone().look(&redis, &open, seen(10, 3), at(0)), LeaseHealth::Replace(Why::Terms));
    }
}
