//! Where to read on in a partition that was just assigned. Pure; it must never go past a record whose effect
//! nobody has recorded.

/// What is known of a partition when it is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// How far this collector's own store says it came.
    pub own: Option<u64>,
    /// What the group has committed.
    pub committed: Option<u64>,
    /// Where the partition ends.
    pub end: u64,
}

/// Where to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// At this record, as the same log.
    At(u64),
    /// Nothing is known of the partition; at this record.
    Fresh(u64),
    /// What is known is of another topic of the same name, as it lies behind this one's end: at its beginning.
    Recreated,
}

pub(crate) fn resume(known: Known, from_start: bool) -> Resume {
    let Known { own, committed, end } = known;
    match own.max(committed) {
        None => Resume::Fresh(if from_start { 0 } else { end }),
        // What another member has done in the new topic since is done again under the same names.
        Some(furthest) if furthest > end => Resume::Recreated,
        // The store is ahead of the group after a crash between the two; the group is ahead of the store when
        // another member had the partition meanwhile.
        Some(furthest) => Resume::At(furthest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_of_what_is_known_has_its_place() {
        let at = |own, committed, end| resume(Known { own, committed, end }, true);
        assert_eq!(at(None, None, 9), Resume::Fresh(0));
        assert_eq!(resume(Known { own: None, committed: None, end: 9 }, false), Resume::Fresh(9));
        assert_eq!(at(Some(7), Some(5), 9), Resume::At(7), "died between store and group");
        assert_eq!(at(Some(5), Some(7), 9), Resume::At(7), "another member went on");
        assert_eq!(at(None, Some(7), 9), Resume::At(7), "another machine");
        assert_eq!(at(Some(9), Some(9), 9), Resume::At(9));
        assert_eq!(at(Some(9), None, 3), Resume::Recreated);
        assert_eq!(at(Some(2), Some(9), 3), Resume::Recreated);
    }
}
