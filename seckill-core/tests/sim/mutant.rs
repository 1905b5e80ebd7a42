//! The protocol with a rule taken out behind a port: the simulation must notice within a few seeds.

/// Which rule is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The protocol as it is.
    None,
    /// A reader past the deadline says `deadline` and writes nothing.
    ReaderConcludesFromAbsence,
    /// Nobody decides at the deadline.
    NobodyDecidesAtTheDeadline,
    /// A retry is decided as if it were the first.
    FirstDecisionDoesNotCount,
    /// The group is answered, then rolled back.
    AnswerBeforeCommit,
    /// A lease counts as closed before its units are back.
    OpenBeforeSettle,
    /// Expiry gives units back and not the buyer's limit.
    LimitIsNotGivenBack,
    /// A lease is raised in its store before SQL has lent anything.
    TopUpInRedisFirst,
    /// A lease is raised by what is new, not to what there is in all.
    TopUpByIncrement,
    /// Whatever lease lies there is raised.
    TopUpOfAnyLease,
    /// A top-up makes the lease where it is lost.
    TopUpCreatesTheKey,
}

impl Mutant {
    pub const ALL: [Self; 10] = [
        Self::ReaderConcludesFromAbsence,
        Self::NobodyDecidesAtTheDeadline,
        Self::FirstDecisionDoesNotCount,
        Self::AnswerBeforeCommit,
        Self::OpenBeforeSettle,
        Self::LimitIsNotGivenBack,
        Self::TopUpInRedisFirst,
        Self::TopUpByIncrement,
        Self::TopUpOfAnyLease,
        Self::TopUpCreatesTheKey,
    ];
}
