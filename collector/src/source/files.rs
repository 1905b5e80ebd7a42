//! The log files whose lines come through one partition: which of their lines came before, and what their times
//! have been. Must never hold more than its bounds, nor call a line a repeat that is not byte for byte the same.
//!
//! Filebeat sends a line again when it was killed before it had noted the acknowledgement. A repeat has the same
//! file, the same offset in it and the same content; after rotation or truncation offsets begin again at 0 with
//! other content (every line holds its time), so those are no repeats.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use rustc_hash::{FxHashSet, FxHasher};

use crate::batch::Timeline;
use crate::decode::envelope::Envelope;

/// Lines remembered of one file. What Filebeat may send again is what it had sent and not noted as done: its
/// queue (8,192 in our `filebeat.yml`; at most one queue is unacknowledged) and a second of its registry's
/// flushing (25,000 lines at its full speed): 33,192, and some room. It costs 1.5 MB.
pub const LINES_PER_FILE: usize = 32 * 1024 + 8 * 1024;
/// Lines remembered of all files of one partition: some 16 MB. With many files each gets its share of this: a
/// host that shares a partition with many others is a smaller part of its traffic.
const LINES: usize = 512 * 1024;
/// Least share of a file.
const LEAST_LINES: usize = 1024;
/// Files remembered of one partition; the one not heard of for longest goes first.
const FILES: NonZeroUsize = NonZeroUsize::new(LINES / LEAST_LINES).expect("not zero");

/// One file.
#[derive(Debug)]
pub(crate) struct File {
    pub timeline: Timeline,
    /// Host and path, for dead letters.
    pub name: Option<Arc<str>>,
    seen: FxHashSet<u64>,
    order: VecDeque<u64>,
}

/// All files of a partition.
#[derive(Debug)]
pub(crate) struct Files(LruCache<u64, File>);

/// What tells a file from others: 64 bits of a hash, so that nothing is allocated per line. It is quick and not keyed:
/// who writes lines that collide has only his own taken for repeats, as file and offset are in it too.
pub(crate) type Key = u64;

impl Files {
    pub fn new() -> Self {
        // Grows with what is there: `LruCache::new` would reserve for all.
        let mut files = LruCache::unbounded();
        files.resize(FILES);
        Self(files)
    }

    /// Makes sure that the file of a record is known. Answers its key, and the file that had to go for it.
    pub fn admit(&mut self, record: &Envelope<'_>) -> (Key, Option<File>) {
        let key = key(record);
        if self.0.contains(&key) {
            return (key, None);
        }
        let name = record.origin.path.as_deref().map(|path| match record.origin.host.as_deref() {
            Some(host) => Arc::from(format!("{host}:{path}")),
            None => Arc::from(path),
        });
        let file = File { timeline: Timeline::default(), name, seen: FxHashSet::default(), order: VecDeque::new() };
        (key, self.0.push(key, file).map(|(_, gone)| gone))
    }

    pub fn get(&mut self, key: Key) -> Option<&mut File> {
        self.0.get_mut(&key)
    }

    /// Lines that a file may remember now.
    pub fn share(&self) -> usize {
        (LINES / self.0.len().max(1)).clamp(LEAST_LINES, LINES_PER_FILE)
    }
}

impl File {
    /// Whether this line came before; from now on it did. What no offset names is never a repeat.
    pub fn repeats(&mut self, record: &Envelope<'_>, share: usize) -> bool {
        let Some(offset) = record.offset else { return false };
        let mut hasher = FxHasher::default();
        (offset, &*record.message).hash(&mut hasher);
        let line = hasher.finish();
        if !self.seen.insert(line) {
            return true;
        }
        while self.order.len() >= share {
            let Some(oldest) = self.order.pop_front() else { break };
            self.seen.remove(&oldest);
        }
        self.order.push_back(line);
        false
    }
}

/// What tells a file from others: its host, and what names it there. A fingerprint is of content, so that the file
/// is the same under any name and in any copy. Otherwise it keeps its name through rotation by rename, and device
/// and inode, where the shipper says them, tell it from the file that took its place.
fn key(record: &Envelope<'_>) -> Key {
    let origin = &record.origin;
    let mut hasher = FxHasher::default();
    // The agent's id changes when its registry is lost, and then everything is sent again.
    origin.host.as_deref().or(origin.agent.as_deref()).hash(&mut hasher);
    match origin.fingerprint.as_deref() {
        Some(fingerprint) => fingerprint.hash(&mut hasher),
        None => {
            (origin.device.as_deref(), origin.inode.as_deref(), origin.path.as_deref().map(family)).hash(&mut hasher)
        }
    }
    hasher.finish()
}

/// A log's name without what rotation adds behind it: `access.log.1` and `access.log-20261123` are `access.log`.
fn family(path: &str) -> &str {
    let mut rest = path;
    while let Some(at) = rest.rfind(['.', '-']) {
        let ending = &rest[at + 1..];
        if ending.is_empty() || !ending.bytes().all(|b| b.is_ascii_digit()) || rest[..at].ends_with('/') {
            break;
        }
        rest = &rest[..at];
    }
    rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::decode::envelope::Origin;

    fn line(path: &'static str, offset: u64, text: String) -> Envelope<'static> {
        Envelope {
            message: Cow::Owned(text.into_bytes()),
            clean: false,
            offset: Some(offset),
            origin: Origin { host: Some(Cow::Borrowed("web-1")), path: Some(Cow::Borrowed(path)), ..Origin::default() },
        }
    }

    fn repeats(files: &mut Files, record: &Envelope<'_>) -> bool {
        let share = files.share();
        let (key, _) = files.admit(record);
        files.get(key).unwrap().repeats(record, share)
    }

    #[test]
    fn a_repeat_is_the_same_line_at_the_same_place_of_the_same_file() {
        let mut files = Files::new();
        let mut is_repeat = |path, offset, text: &str| repeats(&mut files, &line(path, offset, text.to_owned()));
        assert!(!is_repeat("/log/access.log", 0, "a"));
        assert!(is_repeat("/log/access.log", 0, "a"), "sent again");
        assert!(!is_repeat("/log/access.log", 0, "b"), "truncated and written again");
        assert!(is_repeat("/log/access.log.1", 0, "a"), "sent again after rotation");
        assert!(is_repeat("/log/access.log-20261123", 0, "b"));
        assert!(!is_repeat("/log/other.log", 0, "a"));
        assert!(!is_repeat("/log/access.log", 2, "a"));
        let mut bare = line("/log/access.log", 0, "a".to_owned());
        bare.offset = None;
        assert!(!repeats(&mut files, &bare), "no offset, no repeat");
        for (path, name) in [("/log/2026/11", "/log/2026/11"), ("/a/x-1.2", "/a/x"), ("/a/x.log.gz", "/a/x.log.gz")] {
            assert_eq!(family(path), name);
        }
    }

    #[test]
    fn identity_of_content_is_the_same_in_a_copy_and_an_inode_is_not() {
        let mut files = Files::new();
        let named = |path, identity, by_content| {
            let mut record = line(path, 0, "a".to_owned());
            let identity = Some(Cow::Borrowed(identity));
            *(if by_content { &mut record.origin.fingerprint } else { &mut record.origin.inode }) = identity;
            record
        };
        assert!(!repeats(&mut files, &named("/log/a.log", "f1", true)));
        assert!(repeats(&mut files, &named("/elsewhere/b", "f1", true)));
        assert!(!repeats(&mut files, &named("/log/a.log", "8:17", false)));
        assert!(!repeats(&mut files, &named("/log/a.log", "8:18", false)));
    }

    #[test]
    fn memory_is_bounded_by_lines_and_by_files() {
        let mut files = Files::new();
        for offset in 0..LINES_PER_FILE as u64 + 10 {
            assert!(!repeats(&mut files, &line("/a", offset, "x".to_owned())));
        }
        let (key, _) = files.admit(&line("/a", 0, String::new()));
        assert_eq!(files.get(key).unwrap().order.len(), LINES_PER_FILE);
        assert!(!repeats(&mut files, &line("/a", 0, "x".to_owned())), "forgotten");
        assert!(repeats(&mut files, &line("/a", 20, "x".to_owned())), "not yet forgotten");
        for host in 0..FILES.get() + 5 {
            let mut record = line("/a", 0, "x".to_owned());
            record.origin.host = Some(Cow::Owned(host.to_string()));
            repeats(&mut files, &record);
        }
        assert_eq!(files.0.len(), FILES.get());
        assert_eq!(files.share(), LEAST_LINES);
    }

    proptest! {
        /// A shipper that goes back by less than its queue, any number of times: each line passes once.
        #[test]
        fn going_back_never_doubles_nor_loses_a_line(
            back in proptest::collection::vec((1..200u64, 0..150u64), 1..30),
        ) {
            let mut files = Files::new();
            let (mut passed, mut at, mut written) = (Vec::new(), 0, 0);
            for (forward, rewind) in back {
                for number in at..at + forward {
                    let record = line("/a", number * 10, format!("line {number}"));
                    if !repeats(&mut files, &record) {
                        passed.push(number);
                    }
                }
                written = written.max(at + forward);
                at = (at + forward).saturating_sub(rewind);
            }
            prop_assert_eq!(passed, (0..written).collect::<Vec<_>>());
        }
    }
}
