//! The protocol with one of its rules taken out: each must be found by the checker or by the simulation.
//! Chosen by tests only; production code knows none of them.

/// Which rule is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The protocol as it is.
    None,
    // Decisions and tickets.
    DecisionIsNotInsertedFirst,
    RetryIsDecidedBlind,
    ReaderConcludesFromAbsence,
    ConsumerDropsByTheClock,
    NobodyDecidesAtTheDeadline,
    QueuedCountsAsAccepted,
    AnswerBeforeCommit,
    ResubmittedUnderANewKey,
    FencedGrantIsRefused,
    // Units.
    ClosedLeaseStillGrants,
    NoConsumedGuard,
    NoGuardAndNoUnique,
    SettleByRedisCount,
    SettleTwice,
    OpenBeforeSettle,
    OnlyTheConsumerSettles,
    LeaseIsLoadedAgain,
    NoLeakRecovery,
    LeakRecoveryOfDrainedLeasesOnly,
    LeakReturnsUnitsOfAnOpenLease,
    // Top-up.
    TopUpInRedisFirst,
    TopUpByIncrement,
    TopUpOfAnyLease,
    TopUpCreatesTheKey,
    TopUpOfAClosedLease,
    // Adjustments.
    RemovalLeavesTheLeaseItsUnits,
    RemovalDoesNotFence,
    ShortageOfAFencedLeaseIsAnAlarm,
    RemovalOfReservedUnits,
    AdjustmentTakesEffectTwice,
    // Buyers and orders.
    LimitInItsOwnTransaction,
    LimitIsNotGivenBack,
    ReleaseWithoutCas,
    ReleaseByRedisIncrement,
    LatePaymentTakesNoUnit,
    LatePaymentTakesNoLimit,
    RefundMovesUnits,
    SecondPaymentIsDropped,
    LeaseStoreIgnoresTheBody,
    // Isolation, group commit, backlog.
    SnapshotReads,
    NoBacklogBound,
    // Not needed for safety, says the protocol; the checker agrees.
    SequenceNotUnique,
    NoSkew,
    OlderLeaseMayBeLoaded,
    LeaseStoreForgetsRepeats,
}
