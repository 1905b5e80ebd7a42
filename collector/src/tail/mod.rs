//! Following logs by polling: rotation by rename, truncation, restart. Every byte of every generation of a log
//! is read once; it must never leave an older file before its end was reached.

mod file;
mod lines;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use types::{Clock, Timestamp};

pub(crate) use file::Fingerprint;
use file::{Followed, Found, Read, Trouble};

use crate::batch::Batch;
use crate::decoder::Decoder;
use crate::metrics;
use crate::store::{Progress, Remembered, Store, StoreError};

/// How long a rotated file must have been quiet, in real time, before it is done with: a writer may hold it
/// open until it is told to reopen its log. Nothing waits for this, the new file is read meanwhile.
pub const LINGER: Duration = Duration::from_secs(10);
/// Most chunks of one line without end that are read before other logs get their turn: 32 MiB.
const MAX_ROUNDS: u32 = 64;
/// Most generations of one log that are open at once; younger ones wait until older ones are read.
const MAX_GENERATIONS: usize = 64;

/// How far a log has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileStatus {
    /// The name the log is written under.
    pub path: PathBuf,
    /// Identity of the present file; `None` until its first byte was read.
    pub source: Option<String>,
    /// First byte of the present file whose line has not had its effect.
    pub position: u64,
    /// Bytes of it that were read: beyond `position` stands half a line.
    pub read: u64,
    /// Its length when it was last looked at.
    pub length: u64,
    /// Bytes that wait to be read, in this and in rotated files.
    pub behind: u64,
    /// Rotated files that are not done with.
    pub rotated: usize,
    /// Why the log cannot be read at present.
    pub trouble: Option<String>,
    #[serde(skip)]
    identity: Option<(u64, u64)>,
}

impl FileStatus {
    /// Whether everything that now stands in the log was read. Asks the file system.
    pub(crate) fn caught_up(&self) -> bool {
        if self.rotated > 0 || self.behind > 0 {
            return false;
        }
        match fs::metadata(&self.path) {
            Ok(about) => self.identity == Some((about.dev(), about.ino())) && about.len() == self.read,
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// All logs that are followed.
pub(crate) struct Tail {
    logs: Vec<Log>,
    next: usize,
    store: Arc<Store>,
    decoder: Arc<Decoder>,
    clock: Arc<dyn Clock>,
}

impl Tail {
    /// Finds each log's files again, or where to begin. Reads nothing yet.
    pub fn open(
        paths: Vec<PathBuf>,
        from_start: bool,
        store: Arc<Store>,
        decoder: Arc<Decoder>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let mut tail = Self { logs: Vec::new(), next: 0, store, decoder, clock };
        for path in paths {
            let name = path.to_string_lossy().into_owned();
            let start = match (tail.store.meet(&name, tail.clock.now())?, from_start) {
                (false, false) => Begin::End,
                _ => Begin::Start,
            };
            let mut log = Log { path, name, files: VecDeque::new(), found: false, start, trouble: None };
            match log.attend(&tail.store, &*tail.clock) {
                Ok(()) => {}
                Err(Trouble::File(error)) => log.say(Some(error.to_string())),
                Err(Trouble::Store(error)) => return Err(error),
            }
            tail.logs.push(log);
        }
        Ok(tail)
    }

    /// The next chunk of any log, each in its turn; `None` if there is no whole line more.
    pub fn next_chunk(&mut self) -> Result<Option<Box<Batch>>, StoreError> {
        for _ in 0..self.logs.len() {
            let at = self.next % self.logs.len();
            self.next = at + 1;
            let log = &mut self.logs[at];
            // What is open is read on even while the log's name cannot be looked at.
            let attended = filed(log.attend(&self.store, &*self.clock))?;
            let read = filed(log.read(&self.store, &self.decoder, &*self.clock))?;
            log.say(attended.as_ref().err().or(read.as_ref().err()).map(ToString::to_string));
            if let Ok(Some(chunk)) = read {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    pub fn status(&self) -> Vec<FileStatus> {
        self.logs.iter().map(Log::status).collect()
    }
}

/// Where to begin in a file of which nothing is remembered.
#[derive(Debug, Clone, Copy)]
enum Begin {
    Start,
    End,
}

/// One log: its present file behind its rotated ones.
struct Log {
    path: PathBuf,
    name: String,
    /// Oldest first.
    files: VecDeque<Followed>,
    /// Whether the files that the store remembers have been looked for.
    found: bool,
    start: Begin,
    trouble: Option<String>,
}

impl Log {
    /// Notes what keeps the log from being read, and says so when it changes.
    fn say(&mut self, trouble: Option<String>) {
        if self.trouble != trouble {
            match &trouble {
                Some(why) => tracing::warn!(log = %self.name, why, "log cannot be read; trying again"),
                None => tracing::info!(log = %self.name, "log can be read again"),
            }
            self.trouble = trouble;
        }
    }

    /// Looks whether the log's name now stands for another file.
    fn attend(&mut self, store: &Store, clock: &dyn Clock) -> Result<(), Trouble> {
        if self.found { self.look(store, clock) } else { self.recover(store, clock) }
    }

    fn look(&mut self, store: &Store, clock: &dyn Clock) -> Result<(), Trouble> {
        let about = match fs::metadata(&self.path) {
            Ok(about) => about,
            // Moved away, and the new one is not there yet: its writer still writes to the old one.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        if self.files.back().is_some_and(|file| file.rotated.is_none() && file.is(about.dev(), about.ino())) {
            return Ok(());
        }
        if self.files.len() >= MAX_GENERATIONS {
            return Ok(());
        }
        let Some(found) = Found::at(&self.path)? else { return Ok(()) };
        let known = self.files.iter().position(|file| file.is(found.device, found.inode));
        let mut present = match known.and_then(|at| self.files.remove(at)) {
            // Moved away and back.
            Some(file) => file,
            None => match self.read_before(store, &found)? {
                Some(row) => Followed::resume(&row, found),
                None => Followed::new(store, &self.name, found, 0)?,
            },
        };
        if let Some(old) = self.files.back_mut() {
            metrics::rotation();
            tracing::info!(log = %self.name, source = old.name.as_deref(), "log was rotated");
        }
        for old in &mut self.files {
            old.rotated.get_or_insert(clock.now());
        }
        present.rotated = None;
        self.files.push_back(present);
        Ok(())
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
    fn recover(&mut self, store: &Store, clock: &dyn Clock) -> Result<(), Trouble> {
        let present = Found::at(&self.path)?;
        let present_at = present.as_ref().map(|found| (found.device, found.inode));
        let rows = store.files(&self.name)?;
        let mut unfinished: Vec<_> = rows.iter().filter(|row| !row.finished).collect();
        let mut candidates: Vec<_> = present.into_iter().collect();
        let settled = match (unfinished.as_slice(), candidates.as_slice()) {
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
                    !is_present(c) && c.modified > newest_known && !rows.iter().any(|r| r.fingerprint.proves(&c.prefix))
                })
                .collect();
            newer.sort_by_key(|found| found.modified);
            for found in newer {
                files.push_back(Followed::new(store, &self.name, found, 0)?);
            }
        }
        if let Some(found) = candidates.into_iter().find(|found| is_present(found)) {
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
                file.rotated = Some(clock.now());
            }
        }
        self.files = files;
        self.found = true;
        self.start = Begin::Start;
        Ok(())
    }

    /// The next chunk of the oldest file that has one.
    fn read(&mut self, store: &Store, decoder: &Decoder, clock: &dyn Clock) -> Result<Option<Box<Batch>>, Trouble> {
        let mut at = 0;
        let mut rounds = 0;
        while let Some(file) = self.files.get_mut(at) {
            let before = file.length;
            let mut read = file.read(store, decoder, clock.now(), false)?;
            if let Some(since) = file.rotated {
                if file.length != before {
                    file.rotated = Some(clock.now());
                } else if matches!(read, Read::Nothing) && file.at_end() && lingered(clock, since) {
                    read = file.read(store, decoder, clock.now(), true)?;
                }
            }
            match read {
                Read::Chunk(chunk) => {
                    if matches!(&chunk.progress, Progress::File(checkpoint) if checkpoint.finished) {
                        self.files.remove(at);
                    }
                    return Ok(Some(chunk));
                }
                Read::Nothing if file.at_end() => at += 1,
                Read::Nothing if rounds < MAX_ROUNDS => rounds += 1,
                Read::Nothing => return Ok(None),
                Read::Overwritten => self.overwritten(at, store, clock)?,
            }
        }
        Ok(None)
    }

    /// The file was truncated. If rotation copied it first, the rest is read from the copy.
    fn overwritten(&mut self, at: usize, store: &Store, clock: &dyn Clock) -> Result<(), Trouble> {
        let file = &self.files[at];
        let fingerprint = Fingerprint::of(&file.prefix);
        let copy = Found::beside(&self.path)?.into_iter().find(|c| {
            !file.is(c.device, c.inode) && fingerprint.proves(&c.prefix) && c.length >= file.lines.read_end()
        });
        metrics::truncation();
        tracing::info!(log = %self.name, source = file.name.as_deref(), copy = copy.is_some(), "log was truncated");
        if file.rotated.is_none() {
            let again = Found::open(file.file.try_clone()?)?;
            self.files.push_back(Followed::new(store, &self.name, again, 0)?);
        }
        let file = &mut self.files[at];
        match copy {
            Some(copy) => file.move_to(copy),
            None => file.let_go(),
        }
        file.rotated = Some(clock.now());
        Ok(())
    }

    fn status(&self) -> FileStatus {
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

/// Tells a file's trouble, which is waited out, from the store's, which is not.
fn filed<T>(result: Result<T, Trouble>) -> Result<Result<T, io::Error>, StoreError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Trouble::File(error)) => Ok(Err(error)),
        Err(Trouble::Store(error)) => Err(error),
    }
}

fn lingered(clock: &dyn Clock, since: Timestamp) -> bool {
    clock.real(clock.now().since(since)) >= LINGER
}
