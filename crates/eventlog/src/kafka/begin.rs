//! Where a member starts to read a partition that it was given. Pure.

use crate::Start;

/// A partition as the broker knows it when it is given to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What the group has committed.
    pub(super) committed: Option<u64>,
    /// The oldest record kept.
    pub(super) low: u64,
    /// Behind the newest.
    pub(super) high: u64,
}

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Here.
    At(u64),
    /// Here, and the group has to remember it: else, if the partition moves before its first commit, what came
    /// meanwhile would be skipped.
    Pinned(u64),
    /// The committed offset is not there any more: at the oldest that is.
    Reset {
        /// What was committed.
        from: u64,
        /// Where reading goes on.
        to: u64,
    },
}

impl Begin {
    pub(super) const fn next(self) -> u64 {
        match self {
            Self::At(next) | Self::Pinned(next) | Self::Reset { to: next, .. } => next,
        }
    }
}

pub(super) fn begin(found: Found, start: Start) -> Begin {
    let Found { committed, low, high } = found;
    match (committed, start) {
        (Some(from), _) if from < low || from > high => Begin::Reset { from, to: low },
        (Some(next), _) => Begin::At(next),
        (None, Start::Earliest) => Begin::At(low),
        (None, Start::Latest) => Begin::Pinned(high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_goes_before_the_wish_and_what_is_gone_is_said() {
        let found = |committed| Found { committed, low: 10, high: 20 };
        assert_eq!(begin(found(Some(15)), Start::Latest), Begin::At(15));
        assert_eq!(begin(found(Some(10)), Start::Latest), Begin::At(10));
        assert_eq!(begin(found(Some(20)), Start::Earliest), Begin::At(20));
        assert_eq!(begin(found(None), Start::Earliest), Begin::At(10));
        assert_eq!(begin(found(None), Start::Latest), Begin::Pinned(20));
        assert_eq!(begin(found(Some(9)), Start::Latest), Begin::Reset { from: 9, to: 10 }, "retention overtook it");
        assert_eq!(begin(found(Some(21)), Start::Latest), Begin::Reset { from: 21, to: 10 }, "the topic is another");
    }
}
