//! Following logs: what changes is heard from the system where that works and looked for where it does not. Logs
//! take turns, chunk by chunk; it must never hold more files open, or more bytes, than its bounds say.
//!
//! What it cannot do, and nobody can who reads beside the writer:
//!
//! - **copytruncate**: what is written between the copy and the truncation is in neither; what was read of the log
//!   and not of its copy is read from the copy if that lies beside the log (gzip'd or not). A log that is truncated
//!   and grows beyond its old length with the same first 256 bytes, between two looks, is taken for grown; the time in
//!   a log line's beginning is what tells them apart. Rotate by rename where there is a choice.
//! - A log that was **closed for others' turn** ([`MAX_OPEN`]) and is deleted, or moved out of its folder, before it is
//!   looked at again, is gone with what stood in it unread. One that is open is read to its end in any case.
//! - A **rotated file** that stays quiet for [`LINGER`] is done with; a writer that wakes up later writes for nobody.
//! - A file is known by device, inode and its first bytes. Two that begin with less than 40 bytes cannot be told apart
//!   once one was moved by copying.

mod content;
mod ears;
mod file;
mod find;
mod lines;
mod log;
mod names;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use types::{Clock, Invalid};

use self::ears::Ears;
pub(crate) use self::file::Fingerprint;
use self::file::{Desk, Trouble};
use self::log::{Begin, Log};
use self::names::Patterns;
use crate::batch::{Batch, Press, Recipe};
use crate::store::Store;

/// How long a rotated file must have been quiet, in real time, before it is done with: a writer may hold it
/// open until it is told to reopen its log. Nothing waits for this, the new file is read meanwhile.
pub const LINGER: Duration = Duration::from_secs(10);
/// How often every log is looked at although nothing was heard of it: some 2 ms for 1,000 logs.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the folders of patterns are looked through for new files.
const SCAN: Duration = Duration::from_secs(2);
/// Most logs that are followed at once: a look at all of them stays below 10 ms.
pub const MAX_LOGS: usize = 4_096;
/// Most lines of one load, but for those of its last chunk: as many as one chunk may have.
const LOAD_LINES: u64 = lines::MAX_CHUNK_LINES as u64;
/// Most chunks of one load. With at most a record for each partition they stay far below what a log takes at once, and
/// a thousand quiet logs that each got a line cost four commits.
const LOAD_CHUNKS: usize = 256;
/// Most files that are open at once, far below the usual limit of 1,024 for a whole process. Logs beyond it are
/// closed while it is others' turn.
pub const MAX_OPEN: usize = 256;

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

/// What to follow, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct TailOptions {
    /// Logs and patterns of logs, absolute.
    pub paths: Vec<PathBuf>,
    /// Patterns of what a pattern shall not find, absolute.
    pub exclude: Vec<PathBuf>,
    /// Whether a log that was never seen is read from its beginning.
    pub from_start: bool,
    /// How often a log is looked at where changes are not heard.
    pub poll: Duration,
    /// Whether to listen for changes at all.
    pub watch: bool,
}

impl TailOptions {
    /// The patterns among the paths.
    pub fn patterns(&self) -> Result<Patterns, Invalid> {
        let named: Vec<_> = self.paths.iter().filter(|path| names::is_pattern(path)).cloned().collect();
        Patterns::new(&named, &self.exclude)
    }
}

/// All logs that are followed.
pub(crate) struct Tail {
    options: TailOptions,
    patterns: Patterns,
    logs: Vec<Log>,
    by_path: HashMap<PathBuf, usize>,
    /// Logs to be looked at, each once.
    queue: VecDeque<usize>,
    ears: Ears,
    swept: Option<Instant>,
    polled: Option<Instant>,
    scanned: Option<Instant>,
    turn: u64,
    /// When it was opened, in files' time: what was there before is subject to `from_start`.
    opened: std::time::SystemTime,
    full: bool,
    /// Whether the logs that the options name are among `logs`.
    followed: bool,
    big: Vec<u8>,
    store: Arc<Store>,
    press: Press,
    clock: Arc<dyn Clock>,
}

impl Tail {
    /// Finds each log's files again, or where to begin. Reads nothing yet.
    pub fn open(
        options: TailOptions,
        store: Arc<Store>,
        recipe: &Recipe,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, crate::Error> {
        let mut tail = Self {
            patterns: options.patterns()?,
            logs: Vec::new(),
            by_path: HashMap::new(),
            queue: VecDeque::new(),
            ears: Ears::new(options.watch),
            swept: None,
            polled: None,
            scanned: None,
            turn: 0,
            opened: std::time::SystemTime::now(),
            full: false,
            followed: false,
            big: Vec::new(),
            store,
            press: Press::new(recipe),
            clock,
            options,
        };
        let store = Arc::clone(&tail.store);
        store.together(|| tail.follow_all())?;
        Ok(tail)
    }

    /// The next chunks of the logs, each in its turn, to be published and committed together; none if there is no whole
    /// line more. What the store is told of the files meanwhile is durable before this answers, so that no event can be
    /// published under a name that a restart would not find.
    pub fn next_load(&mut self) -> Result<Vec<Batch>, crate::Error> {
        let store = Arc::clone(&self.store);
        let load = store.together(|| self.load());
        if load.is_err() {
            // Of what was read since, nothing is remembered and nothing was published: from what is remembered on.
            self.logs.clear();
            self.by_path.clear();
            self.queue.clear();
            self.full = false;
            self.followed = false;
        }
        load
    }

    /// Follows what the options name, unless it does already.
    fn follow_all(&mut self) -> Result<(), crate::Error> {
        if self.followed {
            return Ok(());
        }
        for path in self.options.paths.clone() {
            if !names::is_pattern(&path) {
                self.follow(path, false)?;
            }
        }
        self.scan()?;
        self.followed = true;
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Batch>, crate::Error> {
        self.follow_all()?;
        self.hear()?;
        self.sweep()?;
        let (mut load, mut lines) = (Vec::new(), 0);
        while lines < LOAD_LINES
            && load.len() < LOAD_CHUNKS
            && let Some(at) = self.queue.pop_front()
        {
            let Some(log) = self.logs.get_mut(at) else { continue };
            log.queued = false;
            self.turn += 1;
            log.used = self.turn;
            self.make_room(at);
            if let Some(batch) = self.look(at, true)? {
                self.enqueue(at);
                lines += batch.tally.lines;
                load.push(*batch);
            }
        }
        Ok(load)
    }

    /// How far each log has been read.
    pub fn status(&self) -> Vec<FileStatus> {
        self.logs.iter().map(Log::status).collect()
    }

    /// Rings when there may be something to read.
    pub fn bell(&self) -> Arc<Notify> {
        self.ears.bell()
    }

    /// How long to wait for the bell before looking nevertheless.
    pub fn patience(&self) -> Duration {
        let polled = self.logs.iter().any(|log| log.is_restless() || !self.hears(log));
        if polled { self.options.poll } else { self.options.poll.max(SWEEP) }
    }

    fn hears(&self, log: &Log) -> bool {
        log.path.parent().is_some_and(|folder| self.ears.hears(folder))
    }

    fn enqueue(&mut self, at: usize) {
        if let Some(log) = self.logs.get_mut(at)
            && !std::mem::replace(&mut log.queued, true)
        {
            self.queue.push_back(at);
        }
    }

    /// Attends to a log and, with `read`, answers its next chunk.
    fn look(&mut self, at: usize, read: bool) -> Result<Option<Box<Batch>>, crate::Error> {
        let mut desk = Desk {
            store: &self.store,
            press: &mut self.press,
            clock: &*self.clock,
            now: self.clock.now(),
            big: &mut self.big,
        };
        let log = &mut self.logs[at];
        // What is open is read on even while the log's name cannot be looked at.
        let attended = filed(log.attend(&desk, &self.patterns))?;
        let chunk = if read { filed(log.read(&mut desk))? } else { Ok(None) };
        log.say(attended.as_ref().err().or(chunk.as_ref().err()).map(ToString::to_string));
        Ok(chunk.unwrap_or(None))
    }

    /// Closes the files of the logs that were read longest ago, if too many are open.
    fn make_room(&mut self, but: usize) {
        let mut open: usize = self.logs.iter().map(Log::open_files).sum();
        if open < MAX_OPEN {
            return;
        }
        let mut oldest: Vec<usize> =
            (0..self.logs.len()).filter(|at| *at != but && self.logs[*at].open_files() > 0).collect();
        oldest.sort_by_key(|at| self.logs[*at].used);
        // A quarter at once, so that this is not done for each file.
        for at in oldest {
            if open <= MAX_OPEN / 4 * 3 {
                break;
            }
            open -= self.logs[at].open_files();
            self.logs[at].put_aside();
        }
    }

    /// Queues the logs of which something was heard.
    fn hear(&mut self) -> Result<(), crate::Error> {
        let heard = self.ears.take();
        let mut news = heard.folder;
        for path in &heard.paths {
            match self.log_of(path) {
                Some(at) => {
                    self.logs[at].unheard = false;
                    self.enqueue(at);
                }
                None => news |= !self.patterns.is_empty() && self.patterns.name(path),
            }
        }
        if heard.all {
            (0..self.logs.len()).for_each(|at| self.enqueue(at));
            news = true;
        }
        if news && !self.patterns.is_empty() {
            self.scan()?;
        }
        Ok(())
    }

    /// The log whose file this is or was.
    fn log_of(&self, path: &Path) -> Option<usize> {
        self.by_path.get(path).copied().or_else(|| {
            let log = names::log_of(path.file_name()?.to_str()?)?;
            self.by_path.get(&path.with_file_name(log)).copied()
        })
    }

    /// Looks at logs of which nothing was heard: at those of deaf folders at each poll, at all every [`SWEEP`].
    fn sweep(&mut self) -> Result<(), crate::Error> {
        let due = |since: Option<Instant>, every: Duration| since.is_none_or(|since| since.elapsed() >= every);
        if !self.patterns.is_empty() && due(self.scanned, SCAN) {
            self.scan()?;
        }
        let all = due(self.swept, SWEEP);
        if !all && !due(self.polled, self.options.poll) {
            return Ok(());
        }
        self.polled = Some(Instant::now());
        let mut missed = Vec::new();
        for at in 0..self.logs.len() {
            let log = &self.logs[at];
            let hears = self.hears(log);
            if log.queued || !(all || !hears || log.is_restless()) {
                continue;
            }
            let changed = log.has_changed();
            if all && hears {
                // Of a log in trouble, or away, no word is to be expected.
                let telling = changed && !log.is_restless() && log.path.is_file();
                let folder = log.path.parent().map(Path::to_owned);
                let log = &mut self.logs[at];
                // Not at once: the word may be on its way. Two looks apart it is not.
                if telling && log.unheard {
                    missed.extend(folder);
                }
                log.unheard = telling;
            }
            if changed || self.logs[at].is_restless() {
                self.enqueue(at);
            }
        }
        for folder in missed {
            self.ears.missed(&folder);
        }
        if all {
            self.swept = Some(Instant::now());
            self.forget();
            let folders: Vec<_> = self.logs.iter().filter_map(|log| log.path.parent().map(Path::to_owned)).collect();
            for folder in folders {
                self.ears.attend(&folder);
            }
        }
        Ok(())
    }

    /// Drops logs that came by a pattern and are gone.
    fn forget(&mut self) {
        if !self.queue.is_empty() || !self.logs.iter().any(Log::is_over) {
            return;
        }
        self.logs.retain(|log| !log.is_over());
        self.by_path = self.logs.iter().enumerate().map(|(at, log)| (log.path.clone(), at)).collect();
        self.full = false;
    }

    /// Looks for files that patterns name and nobody follows yet.
    fn scan(&mut self) -> Result<(), crate::Error> {
        if self.patterns.is_empty() {
            return Ok(());
        }
        let harvest = find::look(&self.patterns);
        for folder in &harvest.folders {
            self.ears.attend(folder);
        }
        if harvest.cut_short {
            tracing::warn!("the folders of the logs' patterns hold too many files; not all were looked at");
        }
        // A log comes before its rotated files in the order of names, so it is known when they are met.
        for path in harvest.files {
            if self.by_path.contains_key(&path) || self.is_generation(&path) {
                continue;
            }
            self.follow(path, true)?;
        }
        self.scanned = Some(Instant::now());
        Ok(())
    }

    /// Whether a file that a pattern names is an older one of a log that is followed or could be.
    fn is_generation(&self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return true };
        if names::is_opaque(name) {
            return true;
        }
        // Without `from_start` nothing old is read, and nothing is added to what is packed.
        if names::is_gzip(name) && !self.options.from_start {
            return true;
        }
        names::log_of(name).is_some_and(|log| {
            let log = path.with_file_name(log);
            self.by_path.contains_key(&log) || (log.is_file() && self.patterns.name(&log))
        })
    }

    fn follow(&mut self, path: PathBuf, by_pattern: bool) -> Result<(), crate::Error> {
        if self.logs.len() >= MAX_LOGS {
            if !std::mem::replace(&mut self.full, true) {
                tracing::error!(most = MAX_LOGS, path = %path.display(), "too many logs; this one and later ones are not followed");
            }
            return Ok(());
        }
        let Some(name) = path.to_str().map(str::to_owned) else {
            tracing::warn!(path = %path.display(), "a log's name is not UTF-8; it is not followed");
            return Ok(());
        };
        let born = by_pattern
            && self.scanned.is_some()
            && fs::metadata(&path).and_then(|about| about.modified()).is_ok_and(|at| at >= self.opened);
        let met = self.store.meet(&name, self.clock.now())?;
        let start = if met || self.options.from_start || born { Begin::Start } else { Begin::End };
        if let Some(folder) = path.parent() {
            self.ears.attend(folder);
        }
        let at = self.logs.len();
        self.by_path.insert(path.clone(), at);
        self.logs.push(Log::new(path, name, by_pattern, start));
        self.make_room(at);
        self.look(at, false)?;
        self.enqueue(at);
        Ok(())
    }
}

/// Tells a file's trouble, which is waited out, from the store's, which is not.
fn filed<T>(result: Result<T, Trouble>) -> Result<Result<T, io::Error>, crate::Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Trouble::File(error)) => Ok(Err(error)),
        Err(Trouble::Store(error)) => Err(error.into()),
        Err(Trouble::Encode(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
