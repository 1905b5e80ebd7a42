//! The configurations that are explored: what is sold, who calls, and what may befall whom. The first list must be
//! sound; in the second each has one rule missing.

use types::Tier;
use types::Tier::{Db, Queue, Redis};

use super::mutant::Mutant;
use super::state::{Config, Luck};

/// What the checker must say of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A violation.
    Killed,
    /// Nothing: the rule serves speed, fairness or detection, says the protocol.
    Harmless,
}

const TWO: &[(u8, u8)] = &[(0, 1), (1, 1)];
const THREE: &[(u8, u8)] = &[(0, 1), (1, 1), (2, 1)];
const RETRY: &[(u8, u8)] = &[(0, 1), (0, 1), (1, 1)];
const SIZES: &[(u8, u8)] = &[(0, 1), (1, 2), (2, 1)];
const BODIES: &[(u8, u8)] = &[(0, 1), (0, 2), (1, 2)];

fn base(name: &'static str, total: u8, calls: &[(u8, u8)], buyers: &[u8]) -> Config {
    Config {
        name,
        total,
        limit: 9,
        calls: calls.to_vec(),
        buyers: buyers.to_vec(),
        start: Redis,
        tiers: vec![Db, Redis],
        luck: Luck { moves: 1, ..Luck::default() },
        stale: false,
        deadlines: true,
        skew: false,
        told: false,
        barrier: false,
        expiry: false,
        cancel: false,
        payments: 0,
        refunds: false,
        mutant: Mutant::None,
    }
}

fn all_tiers() -> Vec<Tier> {
    vec![Db, Queue, Redis]
}

/// The sound protocol, within what a test run can explore completely.
pub fn bases() -> Vec<Config> {
    vec![
        Config {
            luck: Luck { moves: 1, resets: 1, zombies: 1, replaces: 1, ..Luck::default() },
            barrier: true,
            deadlines: false,
            ..base("A handover: reset, pause, replacement", 1, TWO, &[0, 1])
        },
        Config {
            luck: Luck { moves: 2, crashes: 1, ..Luck::default() },
            barrier: true,
            deadlines: false,
            ..base("A2 handover: two moves, a crash", 1, TWO, &[0, 1])
        },
        Config {
            start: Queue,
            tiers: all_tiers(),
            luck: Luck { moves: 1, zombies: 1, ..Luck::default() },
            told: true,
            ..base("B three paths, a paused consumer", 1, TWO, &[0, 1])
        },
        Config {
            luck: Luck { moves: 1, crashes: 1, zombies: 1, losses: 1, ..Luck::default() },
            skew: true,
            told: true,
            ..base("C redis: retry, deadline, skew, loss", 1, RETRY, &[0, 1])
        },
        Config {
            start: Queue,
            tiers: vec![Db, Queue],
            luck: Luck { moves: 1, crashes: 1, zombies: 1, losses: 1, ..Luck::default() },
            skew: true,
            told: true,
            ..base("D queue: retry, deadline, skew, loss", 1, RETRY, &[0, 1])
        },
        Config {
            luck: Luck { moves: 1, resets: 1, replaces: 1, ..Luck::default() },
            stale: true,
            calls: vec![(0, 1), (1, 2)],
            ..base("E stale lease store, replaced", 3, TWO, &[0, 1])
        },
        Config {
            start: Db,
            luck: Luck { moves: 1, resets: 1, replaces: 1, ..Luck::default() },
            expiry: true,
            limit: 1,
            ..base("F redis with expiry, lease replaced", 1, TWO, &[0, 1])
        },
        Config {
            start: Db,
            tiers: vec![Db, Redis],
            luck: Luck { moves: 1, ..Luck::default() },
            limit: 1,
            deadlines: false,
            expiry: true,
            cancel: true,
            payments: 1,
            refunds: true,
            ..base("G an order's life, limit", 1, TWO, &[0, 0])
        },
        Config {
            start: Queue,
            tiers: all_tiers(),
            luck: Luck { moves: 1, zombies: 1, ..Luck::default() },
            limit: 1,
            ..base("H limit on three paths", 2, TWO, &[0, 0])
        },
        Config {
            luck: Luck { crashes: 1, moves: 1, ..Luck::default() },
            ..base("K one key, two bodies", 3, BODIES, &[0, 1])
        },
        Config {
            luck: Luck { moves: 2, slow_steps: 1, resets: 1, ..Luck::default() },
            deadlines: false,
            ..base("L several movers, one slow", 1, TWO, &[0, 1])
        },
        Config {
            start: Db,
            tiers: vec![Db],
            luck: Luck::default(),
            limit: 1,
            deadlines: false,
            expiry: true,
            cancel: true,
            payments: 2,
            refunds: true,
            ..base("T two payments", 1, TWO, &[0, 0])
        },
        Config {
            luck: Luck { moves: 1, adjusts: 1, ..Luck::default() },
            deadlines: false,
            ..base("X an adjustment in every phase", 2, TWO, &[0, 1])
        },
        Config {
            luck: Luck { adjusts: 2, ..Luck::default() },
            deadlines: false,
            ..base("X2 two adjustments", 2, TWO, &[0, 1])
        },
        Config {
            start: Db,
            luck: Luck { moves: 1, adjusts: 1, ..Luck::default() },
            expiry: true,
            deadlines: false,
            ..base("Y an adjustment, a move, expiry", 1, TWO, &[0, 1])
        },
        Config {
            luck: Luck { adjusts: 1, zombies: 1, ..Luck::default() },
            barrier: true,
            deadlines: false,
            ..base("Z an adjustment, a paused consumer", 2, TWO, &[0, 1])
        },
        Config {
            start: Db,
            luck: Luck { moves: 1, top_ups: 1, resets: 1, ..Luck::default() },
            expiry: true,
            deadlines: false,
            ..base("V top-up, expiry, reset", 2, TWO, &[0, 1])
        },
        Config {
            start: Queue,
            tiers: all_tiers(),
            luck: Luck { moves: 1, ..Luck::default() },
            ..base("W three buyers for one unit", 1, THREE, &[0, 1, 0])
        },
    ]
}

/// The same with more of everything: for a long run by hand.
pub fn wide() -> Vec<Config> {
    vec![
        Config {
            luck: Luck { moves: 2, resets: 1, crashes: 1, zombies: 1, ..Luck::default() },
            barrier: true,
            deadlines: false,
            ..base("A+ handover, every fault", 1, TWO, &[0, 1])
        },
        Config {
            start: Queue,
            tiers: all_tiers(),
            luck: Luck { moves: 2, zombies: 1, ..Luck::default() },
            told: true,
            ..base("B+ three paths, two moves", 1, TWO, &[0, 1])
        },
        Config {
            luck: Luck { moves: 1, resets: 1, ..Luck::default() },
            stale: true,
            ..base("E+ stale lease store, three sizes", 2, SIZES, &[0, 1, 0])
        },
        Config {
            start: Queue,
            tiers: all_tiers(),
            luck: Luck { moves: 1, zombies: 1, crashes: 1, ..Luck::default() },
            limit: 1,
            ..base("H+ limit on three paths, a crash", 2, TWO, &[0, 0])
        },
        Config {
            luck: Luck { moves: 2, resets: 1, replaces: 1, slow_steps: 1, ..Luck::default() },
            deadlines: false,
            ..base("L+ several movers, one slow, replaced", 1, TWO, &[0, 1])
        },
        Config {
            tiers: all_tiers(),
            luck: Luck { moves: 1, resets: 1, ..Luck::default() },
            ..base("U+ three paths, retry, reset", 1, RETRY, &[0, 1])
        },
    ]
}

/// One rule missing in each.
pub fn mutants() -> Vec<(Config, Expected)> {
    use Expected::{Harmless, Killed};
    let m1 = || Config {
        luck: Luck { moves: 2, resets: 1, zombies: 1, trick: 1, ..Luck::default() },
        barrier: true,
        deadlines: false,
        ..base("m1 handover", 1, TWO, &[0, 1])
    };
    let m2 = || Config {
        luck: Luck { moves: 1, zombies: 1, ..Luck::default() },
        skew: true,
        told: true,
        ..base("m2 deadline", 1, RETRY, &[0, 1])
    };
    let m4 = || Config {
        luck: Luck { moves: 1, resets: 1, ..Luck::default() },
        stale: true,
        ..base("m4 stale lease store", 2, SIZES, &[0, 1, 0])
    };
    let m5 = || Config {
        start: Db,
        luck: Luck { moves: 2, top_ups: 2, resets: 1, trick: 1, ..Luck::default() },
        expiry: true,
        deadlines: false,
        ..base("m5 top-up", 1, TWO, &[0, 1])
    };
    let m20 = || Config {
        luck: Luck { moves: 1, adjusts: 1, ..Luck::default() },
        deadlines: false,
        ..base("m20 an adjustment", 2, TWO, &[0, 1])
    };
    let m5c = || Config {
        luck: Luck { moves: 2, top_ups: 1, resets: 1, trick: 1, ..Luck::default() },
        expiry: true,
        deadlines: false,
        buyers: vec![0, 1, 0],
        ..base("m5 top-up, three calls", 1, THREE, &[0, 1, 0])
    };
    let m6 = || Config {
        start: Db,
        luck: Luck { moves: 1, ..Luck::default() },
        limit: 1,
        deadlines: false,
        expiry: true,
        cancel: true,
        payments: 1,
        refunds: true,
        ..base("m6 an order's life", 1, TWO, &[0, 0])
    };
    let m7 = || Config {
        start: Queue,
        tiers: all_tiers(),
        luck: Luck { moves: 1, zombies: 1, ..Luck::default() },
        limit: 1,
        ..base("m7 limit", 2, TWO, &[0, 0])
    };
    let m8 = || Config {
        start: Db,
        tiers: vec![Db],
        luck: Luck::default(),
        limit: 1,
        deadlines: false,
        expiry: true,
        payments: 2,
        refunds: true,
        ..base("m8 two payments", 2, TWO, &[0, 0])
    };
    let m9 = || Config {
        start: Queue,
        tiers: all_tiers(),
        luck: Luck { moves: 2, ..Luck::default() },
        ..base("m9 queue", 1, THREE, &[0, 1, 0])
    };
    let m10 = || Config {
        luck: Luck { moves: 1, crashes: 1, ..Luck::default() },
        ..base("m10 one key, two bodies", 3, BODIES, &[0, 1])
    };
    let m11 = || Config {
        luck: Luck { moves: 1, crashes: 1, losses: 1, ..Luck::default() },
        ..base("m11 lossy log", 1, RETRY, &[0, 1])
    };
    let m12 = || Config {
        start: Db,
        tiers: vec![Db],
        luck: Luck { crashes: 1, trick: 1, ..Luck::default() },
        told: true,
        deadlines: false,
        ..base("m12 lost answers", 2, TWO, &[0, 1])
    };
    let of = |config: Config, mutant, expected| (Config { mutant, ..config }, expected);
    vec![
        of(m2(), Mutant::DecisionIsNotInsertedFirst, Killed),
        of(m12(), Mutant::RetryIsDecidedBlind, Killed),
        of(m2(), Mutant::ReaderConcludesFromAbsence, Killed),
        of(m2(), Mutant::ConsumerDropsByTheClock, Killed),
        of(m11(), Mutant::NobodyDecidesAtTheDeadline, Killed),
        of(m2(), Mutant::QueuedCountsAsAccepted, Killed),
        of(m12(), Mutant::AnswerBeforeCommit, Killed),
        of(Config { total: 2, ..m1() }, Mutant::ResubmittedUnderANewKey, Killed),
        of(m9(), Mutant::FencedGrantIsRefused, Killed),
        of(m1(), Mutant::ClosedLeaseStillGrants, Killed),
        of(m4(), Mutant::NoConsumedGuard, Killed),
        of(m4(), Mutant::NoGuardAndNoUnique, Killed),
        of(m1(), Mutant::SettleByRedisCount, Killed),
        of(m1(), Mutant::SettleTwice, Killed),
        of(m1(), Mutant::OpenBeforeSettle, Killed),
        of(Config { barrier: false, ..m1() }, Mutant::OnlyTheConsumerSettles, Killed),
        of(m1(), Mutant::LeaseIsLoadedAgain, Killed),
        of(m1(), Mutant::NoLeakRecovery, Killed),
        of(Config { total: 3, ..m11() }, Mutant::LeakRecoveryOfDrainedLeasesOnly, Killed),
        of(m1(), Mutant::LeakReturnsUnitsOfAnOpenLease, Killed),
        of(m5(), Mutant::TopUpInRedisFirst, Killed),
        of(m5c(), Mutant::TopUpByIncrement, Killed),
        of(m5c(), Mutant::TopUpOfAnyLease, Killed),
        of(m5(), Mutant::TopUpCreatesTheKey, Killed),
        of(m5(), Mutant::TopUpOfAClosedLease, Killed),
        of(m20(), Mutant::RemovalLeavesTheLeaseItsUnits, Killed),
        of(m20(), Mutant::RemovalDoesNotFence, Killed),
        of(m20(), Mutant::ShortageOfAFencedLeaseIsAnAlarm, Killed),
        of(m20(), Mutant::RemovalOfReservedUnits, Killed),
        of(m20(), Mutant::AdjustmentTakesEffectTwice, Killed),
        of(m7(), Mutant::LimitInItsOwnTransaction, Killed),
        of(m6(), Mutant::LimitIsNotGivenBack, Killed),
        of(m6(), Mutant::ReleaseWithoutCas, Killed),
        of(Config { start: Redis, ..m5() }, Mutant::ReleaseByRedisIncrement, Killed),
        of(m6(), Mutant::LatePaymentTakesNoUnit, Killed),
        of(m8(), Mutant::LatePaymentTakesNoLimit, Killed),
        of(m6(), Mutant::RefundMovesUnits, Killed),
        of(m8(), Mutant::SecondPaymentIsDropped, Killed),
        of(m10(), Mutant::LeaseStoreIgnoresTheBody, Killed),
        of(m7(), Mutant::SnapshotReads, Killed),
        of(m9(), Mutant::NoBacklogBound, Killed),
        of(Config { calls: TWO.to_vec(), buyers: vec![0, 1], ..m4() }, Mutant::SequenceNotUnique, Harmless),
        of(m2(), Mutant::NoSkew, Harmless),
        of(m1(), Mutant::OlderLeaseMayBeLoaded, Harmless),
        of(m11(), Mutant::LeaseStoreForgetsRepeats, Harmless),
    ]
}
