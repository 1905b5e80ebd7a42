//! One log: its present file behind its rotated ones, from the oldest to the one that grows. Every byte of every
//! generation is read once; it must never leave an older file before its end was reached.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use types::Timestamp;

use super::file::{Desk, Fingerprint, Followed, Found, Read, Trouble};
use super::names::Patterns;
use super::{FileStatus, LINGER};
use crate::batch::Batch;
use crate::metrics;
use crate::store::{Progress, Remembered, Store, StoreError};

/// Most chunks of one line without end that are read before other logs get their turn: 32 MiB.
const MAX_ROUNDS: u32 = 64;
/// Most older files of a log that are read when it is met: three years of days.
const MAX_HISTORY: usize = 1_000;
/// Most generations of one log that are open at once; younger ones wait until older ones are read.
const MAX_GENERATIONS: usize = 64;

/// Where to begin in a file of which nothing is remembered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    Start,
    End,
}

/// One log: its present file behind its rotated ones.
pub(super) struct Log {
    pub path: PathBuf,
    name: String,
    /// Whether a pattern named it: it comes and goes with its file.
    pub by_pattern: bool,
    /// Whether it waits in the queue of logs to be looked at.
    pub queued: bool,
    /// Whether it changed and nothing was heard of that so far.
    pub unheard: bool,
    /// The turn in which it was last read.
    pub used: u64,
    /// A gzip'd file in its place that was read to its end.
    done: Option<(u64, u64)>,
    /// Oldest first.
    files: VecDeque<Followed>,
    /// Whether the files that the store remembers have been looked for.
    found: bool,
    start: Begin,
    trouble: Option<String>,
}

impl Log {
    pub fn new(path: PathBuf, name: String, by_pattern: bool, start: Begin) -> Self {
        Self {
            path,
            name,
            by_pattern,
            queued: false,
            unheard: false,
            used: 0,
            done: None,
            files: VecDeque::new(),
            found: false,
            start,
            trouble: None,
        }
    }

    /// Whether time alone may bring work: an older file that is to be done with, or trouble that may have passed.
    pub fn is_restless(&self) -> bool {
        self.trouble.is_some() || !self.found || self.files.iter().any(|file| file.rotated.is_some())
    }
    /// Whether it was read and its file is no more. A log that was named as such is waited for.
    pub fn is_over(&self) -> bool {
        self.by_pattern && self.found && self.files.is_empty() && !self.path.exists()
    }
    /// Whether its name stands for another file than before, or that file changed. Opens nothing.
    pub fn has_changed(&self) -> bool {
        let present = self.files.back().filter(|file| file.rotated.is_none());
        match (fs::metadata(&self.path), present) {
            (Ok(about), Some(file)) => !file.is(about.dev(), about.ino()) || !file.is_quiet(),
            (Ok(about), None) => self.done != Some((about.dev(), about.ino())),
            (Err(_), present) => present.is_some(),
        }
    }
    pub fn open_files(&self) -> usize {
        self.files.iter().filter(|file| file.is_open()).count()
    }
    pub fn put_aside(&mut self) {
        self.files.iter_mut().for_each(Followed::put_aside);
    }

    /// Notes what keeps the log from being read, and says so when it changes.
    pub fn say(&mut self, trouble: Option<String>) {
        if self.trouble != trouble {
            match &trouble {
                Some(why) => tracing::warn!(log = %self.name, why, "log cannot be read; trying again"),
                None => tracing::info!(log = %self.name, "log can be read again"),
            }
            self.trouble = trouble;
        }
    }

    /// Looks whether the log's name now stands for another file.
    pub fn attend(&mut self, desk: &Desk<'_>, patterns: &Patterns) -> Result<(), Trouble> {
        if self.found { self.look(desk) } else { self.recover(desk, patterns) }
    }

    fn look(&mut self, desk: &Desk<'_>) -> Result<(), Trouble> {
        let about = match fs::metadata(&self.path) {
            Ok(about) => about,
            // Moved away, and the new one is not there yet: its writer still writes to the old one.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if self.by_pattern
                    && let Some(present) = self.files.back_mut().filter(|file| file.is_deleted())
                {
                    present.rotated.get_or_insert(desk.now);
                }
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        let here = (about.dev(), about.ino());
        if self.files.back().is_some_and(|file| file.rotated.is_none() && file.is(here.0, here.1))
            || self.done == Some(here)
            || self.files.len() >= MAX_GENERATIONS
        {
            return Ok(());
        }
        let Some(found) = Found::at(&self.path)? else { return Ok(()) };
        let known = self.files.iter().position(|file| file.is(found.device, found.inode));
        let mut present = match known.and_then(|at| self.files.remove(at)) {
            // Moved away and back.
            Some(file) => file,
            None => match self.read_before(desk.store, &found)? {
                Some(row) if row.finished && found.content.is_gzip() => {
                    self.done = Some(here);
                    return Ok(());
                }
                Some(row) => Followed::resume(&row, found),
                None => Followed::new(desk.store, &self.name, found, 0)?,
            },
        };
        if let Some(old) = self.files.back() {
            metrics::rotation();
            tracing::info!(log = %self.name, source = old.name.as_deref(), "log was rotated");
            for between in self.between(desk.store, &present)? {
                self.files.push_back(Followed::new(desk.store, &self.name, between, 0)?);
            }
        }
        for old in &mut self.files {
            old.rotated.get_or_insert(desk.now);
        }
        present.rotated = None;
        self.files.push_back(present);
        Ok(())
    }

    /// Files that were the log after the one that was last followed and before `present`: it was rotated twice or
    /// more since it was looked at.
    fn between(&self, store: &Store, present: &Followed) -> Result<Vec<Found>, Trouble> {
        let Some(last) = self.files.back() else { return Ok(Vec::new()) };
        let rows = store.files(&self.name)?;
        let mut between = Found::beside(&self.path)?;
        between.retain(|c| {
            let followed =
                |file: &Followed| file.is(c.device, c.inode) || Fingerprint::of(&file.prefix).proves(&c.prefix);
            c.modified > last.modified
                && c.is_named_after(&self.path)
                && !followed(present)
                && !self.files.iter().any(followed)
                && !rows.iter().any(|row| row.fingerprint.proves(&c.prefix))
        });
        between.sort_by_key(|found| found.modified);
        Ok(between)
    }

    /// What the store knows of a file that was followed before under this name.
    fn read_before(&self, store: &Store, found: &Found) -> Result<Option<Remembered>, StoreError> {
        let same = |row: &Remembered| {
            (row.device, row.inode) == (found.device, found.inode)
                && row.fingerprint.proves(&found.prefix)
                && row.position <= found.length
        };
        Ok(store.files(&self.name)?.into_iter().rfind(same))
    }

    /// After a start: finds the files whose reading was not finished, wherever rotation has moved them, then
    /// those that were rotated since, then the present one.
    fn recover(&mut self, desk: &Desk<'_>, patterns: &Patterns) -> Result<(), Trouble> {
        let store = desk.store;
        let present = Found::at(&self.path)?;
        let present_at = present.as_ref().map(|found| (found.device, found.inode));
        let rows = store.files(&self.name)?;
        let mut unfinished: Vec<_> = rows.iter().filter(|row| !row.finished).collect();
        let mut candidates: Vec<_> = present.into_iter().collect();
        // Older files are only read where a pattern names them, and only once.
        let with_history = rows.is_empty() && matches!(self.start, Begin::Start) && !patterns.is_empty();
        let settled = !with_history
            && match (unfinished.as_slice(), candidates.as_slice()) {
                ([], _) => true,
                ([row], [found]) => is_same(row, found),
                _ => false,
            };
        if !settled {
            candidates.extend(Found::beside(&self.path)?);
        }
        let mut files = VecDeque::new();
        let mut lost = Vec::new();
        for row in &unfinished {
            let at = candidates.iter().position(|found| is_same(row, found)).or_else(|| {
                candidates.iter().position(|c| row.fingerprint.proves(&c.prefix) && c.length >= row.position)
            });
            match at {
                Some(at) => files.push_back(Followed::resume(row, candidates.remove(at))),
                None => lost.push(*row),
            }
        }
        if !lost.is_empty() && present_at.is_none() {
            // Nothing is there at all: a folder that is not mounted yet, perhaps. Forgetting would be wrong.
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file that was read before is not there").into());
        }
        for row in lost {
            let (source, position) = (row.name.as_deref(), row.position);
            tracing::warn!(log = %self.name, source, position, "file is gone; what stood behind this position, if anything, is lost");
            metrics::lost_file();
            store.give_up(row.id)?;
        }
        let is_present = |found: &Found| present_at == Some((found.device, found.inode));
        let newest_known = unfinished.pop().map(|row| row.modified);
        if let Some(newest_known) = newest_known
            && !settled
        {
            let mut newer: Vec<_> = candidates
                .extract_if(.., |c| {
                    !is_present(c)
                        && c.modified > newest_known
                        && c.is_named_after(&self.path)
                        && !rows.iter().any(|r| r.fingerprint.proves(&c.prefix))
                })
                .collect();
            newer.sort_by_key(|found| found.modified);
            for found in newer {
                files.push_back(Followed::new(store, &self.name, found, 0)?);
            }
        }
        if with_history {
            let mut older: Vec<_> = candidates
                .extract_if(.., |c| !is_present(c) && c.is_named_after(&self.path) && patterns.name(&c.at))
                .collect();
            older.sort_by_key(|found| found.modified);
            for found in older.drain(older.len().saturating_sub(MAX_HISTORY)..) {
                let mut file = Followed::new(store, &self.name, found, 0)?;
                file.put_aside();
                files.push_back(file);
            }
        }
        let read_before =
            |c: &Found| c.content.is_gzip() && rows.iter().any(|row| row.finished && row.fingerprint.proves(&c.prefix));
        if let Some(found) = candidates.into_iter().find(|found| is_present(found) && !read_before(found)) {
            let position = match self.start {
                Begin::Start => 0,
                Begin::End => found.end()?,
            };
            files.push_back(Followed::new(store, &self.name, found, position)?);
        }
        let last = files.len().saturating_sub(1);
        for (at, file) in files.iter_mut().enumerate() {
            let present = present_at.is_some_and(|(device, inode)| file.is(device, inode));
            // Without a present file the youngest may still be written to.
            if !present && (present_at.is_some() || at < last) {
                file.rotated = Some(desk.now);
            }
        }
        self.files = files;
        self.found = true;
        self.start = Begin::Start;
        Ok(())
    }

    /// The next chunk of the oldest file that has one.
    pub fn read(&mut self, desk: &mut Desk<'_>) -> Result<Option<Box<Batch>>, Trouble> {
        let mut at = 0;
        let mut rounds = 0;
        while let Some(file) = self.files.get_mut(at) {
            let over = file.rotated.is_some_and(|since| lingered(desk, since));
            if file.is_quiet() && !over {
                at += 1;
                continue;
            }
            let before = file.length;
            let mut read = file.read(desk, &self.path, false)?;
            if let Some(since) = file.rotated {
                if file.length != before {
                    file.rotated = Some(desk.now);
                } else if matches!(read, Read::Nothing) && file.at_end() && lingered(desk, since) {
                    read = file.read(desk, &self.path, true)?;
                }
            }
            match read {
                Read::Chunk(chunk) => {
                    if matches!(&chunk.progress, Progress::File(checkpoint) if checkpoint.finished) {
                        self.done = file.is_gzip().then_some((file.device, file.inode));
                        self.files.remove(at);
                    }
                    return Ok(Some(chunk));
                }
                Read::Nothing if file.at_end() => at += 1,
                Read::Nothing if rounds < MAX_ROUNDS => rounds += 1,
                Read::Nothing => return Ok(None),
                Read::Overwritten => self.overwritten(at, desk)?,
                Read::Lost => self.lost(at, desk)?,
            }
        }
        Ok(None)
    }

    /// A file that was put aside is not to be found any more.
    fn lost(&mut self, at: usize, desk: &Desk<'_>) -> Result<(), Trouble> {
        let Some(file) = self.files.remove(at) else { return Ok(()) };
        let (source, position) = (file.name.as_deref(), file.lines.position());
        if file.at_end() {
            tracing::info!(log = %self.name, source, position, "file is gone; it was read as far as it was seen");
        } else {
            tracing::warn!(log = %self.name, source, position, "file is gone; what stood behind this position is lost");
            metrics::lost_file();
        }
        Ok(desk.store.give_up(file.id)?)
    }

    /// The file was truncated. If rotation copied it first, the rest is read from the copy.
    fn overwritten(&mut self, at: usize, desk: &Desk<'_>) -> Result<(), Trouble> {
        let file = &self.files[at];
        let fingerprint = Fingerprint::of(&file.prefix);
        let copy = Found::beside(&self.path)?.into_iter().find(|c| {
            !file.is(c.device, c.inode) && fingerprint.proves(&c.prefix) && c.length >= file.lines.read_end()
        });
        metrics::truncation();
        tracing::info!(log = %self.name, source = file.name.as_deref(), copy = copy.is_some(), "log was truncated");
        if file.rotated.is_none()
            && let Some(again) = file.again()?
        {
            self.files.push_back(Followed::new(desk.store, &self.name, again, 0)?);
        }
        let file = &mut self.files[at];
        match copy {
            Some(copy) => file.move_to(copy),
            None => file.let_go(),
        }
        file.rotated = Some(desk.now);
        Ok(())
    }

    pub fn status(&self) -> FileStatus {
        let present = self.files.back().filter(|file| file.rotated.is_none());
        let older = self.files.len() - usize::from(present.is_some());
        FileStatus {
            path: self.path.clone(),
            source: present.and_then(|file| file.name.as_deref().map(str::to_owned)),
            position: present.map_or(0, |file| file.lines.position()),
            read: present.map_or(0, |file| file.lines.read_end()),
            length: present.map_or(0, |file| file.length),
            behind: self.files.iter().map(|file| file.length.saturating_sub(file.lines.read_end())).sum(),
            rotated: older,
            trouble: self.trouble.clone(),
            identity: present.map(|file| (file.device, file.inode)),
        }
    }
}

fn is_same(row: &Remembered, found: &Found) -> bool {
    (row.device, row.inode) == (found.device, found.inode)
        && row.fingerprint.fits(&found.prefix)
        && found.length >= row.position
}

fn lingered(desk: &Desk<'_>, since: Timestamp) -> bool {
    desk.clock.real(desk.now.since(since)) >= LINGER
}
