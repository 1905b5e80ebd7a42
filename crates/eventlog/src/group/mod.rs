//! Who is in which group and holds which partition, within this process. Coordinates only: it never
//! reads a record nor stores an offset.
//!
//! A partition moves gracefully: the holder keeps it, and may commit, until its next poll tells it
//! `Revoked`; only then does the next one get it. A holder that does not poll for [`PATIENCE`] loses it.

mod assign;
mod consumer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Group, Topic, TopicPartition};
use assign::{MemberId, Wanted};
pub(crate) use consumer::{GroupConsumer, Portion, Shelf, Wish};

/// How long a member may work on what it polled while another waits for its partitions. After that it
/// is taken for stuck. Kafka waits five minutes; in one process 30 s is more than any effect takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// All groups of one log.
#[derive(Default)]
pub(crate) struct Groups {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    groups: BTreeMap<Group, State>,
    joined: u64,
}

#[derive(Default)]
struct State {
    members: BTreeMap<MemberId, Member>,
    /// Who shall have it.
    target: BTreeMap<TopicPartition, MemberId>,
    /// Who has it and may commit.
    held: BTreeMap<TopicPartition, Held>,
    /// Where this group began a partition from its end, as long as it has members: so that a partition
    /// that moves before its first commit does not skip what came meanwhile.
    began: BTreeMap<TopicPartition, u64>,
}

struct Member {
    wanted: Wanted,
    wake: Arc<Notify>,
}

#[derive(Clone, Copy)]
struct Held {
    by: MemberId,
    /// Since when another is waiting for it.
    asked: Option<Instant>,
}

impl State {
    fn rebalance(&mut self, now: Instant) {
        let wanted = self.members.iter().map(|(id, m)| (*id, m.wanted.clone())).collect();
        self.target = assign::balance(&wanted, &self.target);
        for (partition, held) in &mut self.held {
            let stays = self.target.get(partition) == Some(&held.by);
            held.asked = if stays { None } else { held.asked.or(Some(now)) };
        }
        self.wake_all();
    }

    fn wake_all(&self) {
        for member in self.members.values() {
            member.wake.notify_one();
        }
    }
}

/// What a member has to be told next.
pub(crate) enum Change {
    /// It lost these.
    Revoked(Vec<TopicPartition>),
    /// It got these.
    Assigned(Vec<TopicPartition>),
    /// Nothing. Look again at this moment, if any: then another's patience ends.
    Nothing(Option<Instant>),
}

impl Groups {
    pub(crate) fn join(self: &Arc<Self>, group: Group, wanted: Wanted) -> Membership {
        let wake = Arc::new(Notify::new());
        let mut inner = self.inner.lock();
        inner.joined += 1;
        let id = MemberId(inner.joined);
        let state = inner.groups.entry(group.clone()).or_default();
        state.members.insert(id, Member { wanted, wake: wake.clone() });
        state.rebalance(Instant::now());
        drop(inner);
        Membership { groups: self.clone(), group, id, wake }
    }

    /// Wakes every consumer of this topic.
    pub(crate) fn wake_topic(&self, topic: &Topic) {
        let inner = self.inner.lock();
        let members = inner.groups.values().flat_map(|state| state.members.values());
        for member in members.filter(|m| m.wanted.contains_key(topic)) {
            member.wake.notify_one();
        }
    }

    /// Wakes everybody: the log has closed.
    pub(crate) fn wake_all(&self) {
        self.inner.lock().groups.values().for_each(State::wake_all);
    }
}

/// A place in a group; dropping it leaves the group.
pub(crate) struct Membership {
    groups: Arc<Groups>,
    group: Group,
    id: MemberId,
    wake: Arc<Notify>,
}

impl Membership {
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Resolves when there may be something new; a wake-up between two calls is not lost.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Compares what the member was told (`known`) with what is, and settles the difference.
    pub(crate) fn change(&self, known: &BTreeSet<TopicPartition>, now: Instant) -> Change {
        let mut inner = self.groups.inner.lock();
        let Some(state) = inner.groups.get_mut(&self.group) else { return Change::Nothing(None) };
        let mine = |id: Option<MemberId>| id == Some(self.id);
        let lost: Vec<_> = known
            .iter()
            .filter(|p| !mine(state.held.get(p).map(|h| h.by)) || !mine(state.target.get(p).copied()))
            .cloned()
            .collect();
        if !lost.is_empty() {
            for partition in &lost {
                if mine(state.held.get(partition).map(|h| h.by)) {
                    state.held.remove(partition);
                }
            }
            state.wake_all();
            return Change::Revoked(lost);
        }
        let mut got = Vec::new();
        let mut again: Option<Instant> = None;
        for (partition, _) in state.target.iter().filter(|(p, id)| **id == self.id && !known.contains(p)) {
            let free_at =
                state.held.get(partition).filter(|h| h.by != self.id).map(|h| h.asked.unwrap_or(now) + PATIENCE);
            match free_at {
                Some(at) if at > now => again = Some(again.map_or(at, |a| a.min(at))),
                taken => {
                    if taken.is_some() {
                        tracing::warn!(group = %self.group, topic = %partition.topic, partition = partition.partition,
                            "took a partition from a member that does not poll");
                    }
                    got.push(partition.clone());
                }
            }
        }
        for partition in &got {
            state.held.insert(partition.clone(), Held { by: self.id, asked: None });
        }
        if got.is_empty() { Change::Nothing(again) } else { Change::Assigned(got) }
    }

    /// Whether this member may commit the partition.
    pub(crate) fn holds(&self, partition: &TopicPartition) -> bool {
        let inner = self.groups.inner.lock();
        let held = inner.groups.get(&self.group).and_then(|state| state.held.get(partition));
        held.is_some_and(|h| h.by == self.id)
    }

    /// Where the group began this partition, `end` if it begins now.
    pub(crate) fn began(&self, partition: &TopicPartition, end: u64) -> u64 {
        let mut inner = self.groups.inner.lock();
        match inner.groups.get_mut(&self.group) {
            Some(state) => *state.began.entry(partition.clone()).or_insert(end),
            None => end,
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut inner = self.groups.inner.lock();
        let Some(state) = inner.groups.get_mut(&self.group) else { return };
        state.members.remove(&self.id);
        state.held.retain(|_, held| held.by != self.id);
        if state.members.is_empty() {
            inner.groups.remove(&self.group);
        } else {
            state.rebalance(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn join(groups: &Arc<Groups>) -> Membership {
        groups.join(Group::new("g").unwrap(), BTreeMap::from([(Topic::new("t").unwrap(), 2)]))
    }

    fn assigned(change: Change) -> BTreeSet<TopicPartition> {
        if let Change::Assigned(got) = change { got.into_iter().collect() } else { panic!("not assigned") }
    }

    #[test]
    fn a_member_that_does_not_poll_loses_its_partition_when_the_others_patience_ends() {
        let groups = Arc::new(Groups::default());
        let stuck = join(&groups);
        let known = assigned(stuck.change(&BTreeSet::new(), Instant::now()));
        assert_eq!(known.len(), 2);
        let other = join(&groups);
        let Change::Nothing(Some(until)) = other.change(&BTreeSet::new(), Instant::now()) else { panic!("a wait") };
        assert!(known.iter().all(|p| stuck.holds(p)), "until then it may commit");
        let taken = assigned(other.change(&BTreeSet::new(), until));
        assert_eq!(taken.len(), 1);
        for partition in &known {
            assert_eq!(
                (stuck.holds(partition), other.holds(partition)),
                (!taken.contains(partition), taken.contains(partition))
            );
        }
        let Change::Revoked(lost) = stuck.change(&known, until) else { panic!("it learns of it") };
        assert_eq!(lost.into_iter().collect::<BTreeSet<_>>(), taken);
    }

    #[test]
    fn a_partition_that_comes_back_before_it_went_stays() {
        let groups = Arc::new(Groups::default());
        let a = join(&groups);
        let known = assigned(a.change(&BTreeSet::new(), Instant::now()));
        drop(join(&groups));
        assert!(matches!(a.change(&known, Instant::now()), Change::Nothing(None)));
        assert!(known.iter().all(|p| a.holds(p)));
    }

    #[test]
    fn a_group_without_members_leaves_nothing_behind() {
        let groups = Arc::new(Groups::default());
        drop((join(&groups), join(&groups)));
        assert!(groups.inner.lock().groups.is_empty());
    }
}
