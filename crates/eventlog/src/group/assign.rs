//! Who gets which partition: a pure function of the members, what they want and what they have.
//! Never waits, never tells anybody.

use std::collections::BTreeMap;

use crate::{Topic, TopicPartition};

/// A member's number: rises with every join, so that the order of joining decides between equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(pub(crate) u64);

/// The topics that a member wants, with their number of partitions.
pub(crate) type Wanted = BTreeMap<Topic, u32>;

/// Shares the partitions of all wanted topics among the members that want them.
///
/// Of each topic no member has two more than another that wants it; within that the totals are levelled;
/// within that a partition stays where it is.
pub(crate) fn balance(
    members: &BTreeMap<MemberId, Wanted>,
    current: &BTreeMap<TopicPartition, MemberId>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut topics: BTreeMap<Topic, (u32, Vec<MemberId>)> = BTreeMap::new();
    for (id, wanted) in members {
        for (topic, partitions) in wanted {
            let entry = topics.entry(topic.clone()).or_insert((*partitions, Vec::new()));
            entry.0 = entry.0.max(*partitions);
            entry.1.push(*id);
        }
    }
    let mut shares = Shares { topics, owner: BTreeMap::new(), of_topic: BTreeMap::new(), total: BTreeMap::new() };
    shares.keep(current);
    shares.give_the_rest();
    while shares.level() {}
    shares.owner
}

struct Shares {
    topics: BTreeMap<Topic, (u32, Vec<MemberId>)>,
    owner: BTreeMap<TopicPartition, MemberId>,
    of_topic: BTreeMap<(Topic, MemberId), usize>,
    total: BTreeMap<MemberId, usize>,
}

impl Shares {
    fn every_partition(&self) -> Vec<TopicPartition> {
        let of = |(topic, (partitions, _)): (&Topic, &(u32, Vec<MemberId>))| {
            let topic = topic.clone();
            (0..*partitions).map(move |partition| TopicPartition { topic: topic.clone(), partition })
        };
        self.topics.iter().flat_map(of).collect()
    }

    /// How much a member has: of this topic, then of all, then who came first.
    fn load(&self, topic: &Topic, id: MemberId) -> (usize, usize, MemberId) {
        let of_topic = self.of_topic.get(&(topic.clone(), id)).copied().unwrap_or(0);
        (of_topic, self.total.get(&id).copied().unwrap_or(0), id)
    }

    fn give(&mut self, partition: TopicPartition, id: MemberId) {
        *self.of_topic.entry((partition.topic.clone(), id)).or_default() += 1;
        *self.total.entry(id).or_default() += 1;
        if let Some(before) = self.owner.insert(partition.clone(), id) {
            *self.of_topic.entry((partition.topic, before)).or_default() -= 1;
            *self.total.entry(before).or_default() -= 1;
        }
    }

    fn least(&self, topic: &Topic) -> Option<(usize, usize, MemberId)> {
        self.topics.get(topic)?.1.iter().map(|id| self.load(topic, *id)).min()
    }

    fn keep(&mut self, current: &BTreeMap<TopicPartition, MemberId>) {
        for (partition, id) in current {
            let wanted = self.topics.get(&partition.topic);
            if wanted.is_some_and(|(count, who)| partition.partition < *count && who.contains(id)) {
                self.give(partition.clone(), *id);
            }
        }
    }

    fn give_the_rest(&mut self) {
        for partition in self.every_partition() {
            if !self.owner.contains_key(&partition)
                && let Some((_, _, id)) = self.least(&partition.topic)
            {
                self.give(partition, id);
            }
        }
    }

    /// One pass of moves; whether there was one. Each move lowers the sum of squares of the topic's shares,
    /// or leaves it and lowers that of the totals: so the passes end.
    fn level(&mut self) -> bool {
        let mut moved = false;
        for partition in self.every_partition() {
            let Some(owner) = self.owner.get(&partition).copied() else { continue };
            let (of_topic, total, _) = self.load(&partition.topic, owner);
            let Some((least_of_topic, least_total, least)) = self.least(&partition.topic) else { continue };
            let uneven_topic = of_topic >= least_of_topic + 2;
            let uneven_total = of_topic == least_of_topic + 1 && total >= least_total + 2;
            if uneven_topic || uneven_total {
                self.give(partition, least);
                moved = true;
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn topic(i: u8) -> Topic {
        Topic::new(format!("t{i}")).unwrap()
    }

    fn same_wish(members: u64, topics: u8, partitions: u32) -> BTreeMap<MemberId, Wanted> {
        let wanted: Wanted = (0..topics).map(|t| (topic(t), partitions)).collect();
        (0..members).map(|m| (MemberId(m), wanted.clone())).collect()
    }

    #[test]
    fn a_newcomer_takes_only_its_share() {
        let alone = balance(&same_wish(1, 1, 6), &BTreeMap::new());
        let both = balance(&same_wish(2, 1, 6), &alone);
        let moved = both.iter().filter(|(p, id)| alone[p] != **id).count();
        assert_eq!(moved, 3);
    }

    #[test]
    fn more_members_than_partitions_leaves_some_with_none() {
        let shares = balance(&same_wish(5, 1, 2), &BTreeMap::new());
        assert_eq!(shares.len(), 2);
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_that_wants_it_and_no_one_has_two_more(
            wishes in prop::collection::vec(prop::collection::btree_set(0u8..4, 1..4), 1..6),
            counts in prop::array::uniform4(1u32..9),
            stale in prop::collection::vec((0u8..5, 0u32..10, 0u64..7), 0..40),
        ) {
            let members: BTreeMap<MemberId, Wanted> = wishes.iter().enumerate().map(|(m, wish)| {
                (MemberId(m as u64), wish.iter().map(|t| (topic(*t), counts[*t as usize])).collect())
            }).collect();
            let current = stale.iter().map(|(t, partition, m)| {
                (TopicPartition { topic: topic(*t), partition: *partition }, MemberId(*m))
            }).collect();
            let shares = balance(&members, &current);
            let wanted: Wanted = members.values().flat_map(Clone::clone).collect();
            prop_assert_eq!(shares.len() as u32, wanted.values().sum::<u32>());
            for (topic, count) in &wanted {
                let who: Vec<_> = members.iter().filter(|(_, w)| w.contains_key(topic)).map(|(id, _)| *id).collect();
                let share = |id: MemberId| shares.iter().filter(|(p, o)| p.topic == *topic && **o == id).count();
                let (low, high) = (who.iter().map(|m| share(*m)).min().unwrap(), who.iter().map(|m| share(*m)).max().unwrap());
                prop_assert!(high <= low + 1);
                prop_assert_eq!(who.iter().map(|m| share(*m)).sum::<usize>(), *count as usize);
            }
            prop_assert_eq!(balance(&members, &shares), shares.clone(), "what is balanced stays");
        }
    }
}
