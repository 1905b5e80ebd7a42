//! One file, from its first byte to its end: who it is, how far it was read, whether it was overwritten. It
//! must never take another file's bytes for its own.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use product_events::EncodeError;
use sha2::{Digest, Sha256};
use types::{Clock, Timestamp};

use super::content::Content;
use super::lines::{Cut, Lines};
use super::names;
use crate::batch::{Batch, Builder, Place, Press, Timeline};
use crate::decode::{DeadReason, MAX_LINE};
use crate::metrics;
use crate::sanity::Pace;
use crate::store::{Checkpoint, Progress, Remembered, Store, StoreError};

/// Bytes at a file's beginning that tell it from another with the same inode: a line or two, with its time.
pub(crate) const PREFIX: usize = 256;
/// Shortest prefix that alone, without device and inode, names a file: an address and a time.
const MIN_PREFIX: u32 = 40;
/// Most entries of a log's folder that are looked at for rotated files.
const MAX_ENTRIES: usize = 10_000;

/// A hash of a file's first bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    /// How many bytes were hashed: fewer than [`PREFIX`] if the file had no more.
    pub length: u32,
    pub hash: [u8; 32],
}

impl Fingerprint {
    pub fn of(prefix: &[u8]) -> Self {
        let prefix = &prefix[..prefix.len().min(PREFIX)];
        if prefix.is_empty() {
            return Self::default();
        }
        Self { length: prefix.len() as u32, hash: Sha256::digest(prefix).into() }
    }
    pub fn stored(length: u32, hash: &[u8]) -> Option<Self> {
        if length == 0 {
            return Some(Self::default());
        }
        Some(Self { length, hash: hash.try_into().ok()? })
    }
    /// Whether a file that begins with `prefix` can be this one, grown since or not.
    pub fn fits(&self, prefix: &[u8]) -> bool {
        prefix.get(..self.length as usize).is_some_and(|begin| Self::of(begin) == *self)
    }
    /// Whether a file that begins with `prefix` is this one wherever it lies, a copy included.
    pub fn proves(&self, prefix: &[u8]) -> bool {
        self.length >= MIN_PREFIX && self.fits(prefix)
    }
}

/// A file that was found, open.
#[derive(Debug)]
pub(crate) struct Found {
    pub content: Content,
    /// Where it was found.
    pub at: PathBuf,
    pub device: u64,
    pub inode: u64,
    /// Of a gzip'd file, which tells its length only at its end, the largest number.
    pub length: u64,
    pub modified: i64,
    pub prefix: Vec<u8>,
}

impl Found {
    /// Opens the file at `path`; `None` if nothing is there.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        // Asked first, as opening a pipe would wait for its writer.
        match fs::metadata(path) {
            Ok(about) if !about.is_file() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        }
        match File::open(path) {
            Ok(file) => Self::open(file, path).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub fn open(file: File, at: &Path) -> io::Result<Self> {
        let about = file.metadata()?;
        let gzip = at.file_name().and_then(|n| n.to_str()).is_some_and(names::is_gzip);
        let mut content = if gzip { Content::gzip(file)? } else { Content::Plain(file) };
        let prefix = prefix(&mut content)?;
        let length = if gzip { u64::MAX } else { about.len() };
        let (device, inode, modified) = (about.dev(), about.ino(), modified(&about));
        Ok(Self { content, at: at.to_owned(), device, inode, length, modified, prefix })
    }

    /// Whether it has the name that rotation gives to older files of the log `path`.
    pub fn is_named_after(&self, path: &Path) -> bool {
        let name = self.at.file_name().and_then(|n| n.to_str());
        name.and_then(names::log_of).is_some_and(|log| path.file_name().is_some_and(|n| n == log))
    }

    /// What lies beside `path` under its name with `.` or `-` and something behind it, as rotation leaves it.
    pub fn beside(path: &Path) -> io::Result<Vec<Self>> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut found = Vec::new();
        for entry in entries.take(MAX_ENTRIES) {
            let path: PathBuf = entry?.path();
            let rest = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(name));
            let rotated = rest.is_some_and(|r| r.starts_with(['.', '-']) && !names::is_opaque(r));
            // One unreadable neighbour is no reason not to follow the log.
            if rotated && let Ok(Some(file)) = Self::at(&path) {
                found.push(file);
            }
        }
        // While a file is being packed it is there twice: the one that is whole for certain is taken.
        found.sort_by_key(|one| one.content.is_gzip());
        let mut seen: Vec<Vec<u8>> = Vec::new();
        found.retain(|one| {
            let twice =
                one.content.is_gzip() && Fingerprint::of(&one.prefix).proves(&one.prefix) && seen.contains(&one.prefix);
            seen.push(one.prefix.clone());
            !twice
        });
        Ok(found)
    }

    /// Where to begin at the end: behind the last line end, so that the line being written is whole.
    pub fn end(&self) -> io::Result<u64> {
        if self.content.is_gzip() {
            return Ok(self.length);
        }
        let window = self.length.min(MAX_LINE as u64);
        let from = self.length - window;
        let mut tail = vec![0; window as usize];
        self.content.file().read_exact_at(&mut tail, from)?;
        Ok(match memchr::memrchr(b'\n', &tail) {
            Some(at) => from + at as u64 + 1,
            None if from == 0 => 0,
            None => self.length,
        })
    }
}

fn prefix(content: &mut Content) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; PREFIX];
    let mut length = 0;
    while length < PREFIX {
        match content.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn modified(about: &Metadata) -> i64 {
    about.mtime().saturating_mul(1000).saturating_add(about.mtime_nsec() / 1_000_000)
}

/// What reading brought.
#[derive(Debug)]
pub(crate) enum Read {
    Chunk(Box<Batch>),
    /// No whole line more.
    Nothing,
    /// The file was truncated or overwritten: what was read is another generation's.
    Overwritten,
    /// The file was put aside and is not to be found any more.
    Lost,
}

/// Why reading did not work.
#[derive(Debug)]
pub(crate) enum Trouble {
    File(io::Error),
    Store(StoreError),
    Encode(EncodeError),
}
impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Self {
        Self::File(e)
    }
}
impl From<StoreError> for Trouble {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}
impl From<EncodeError> for Trouble {
    fn from(e: EncodeError) -> Self {
        Self::Encode(e)
    }
}

/// What reading takes besides the file.
pub(crate) struct Desk<'a> {
    pub store: &'a Store,
    pub press: &'a mut Press,
    pub clock: &'a dyn Clock,
    /// The clock's present moment.
    pub now: Timestamp,
    /// The one big buffer that all files are read through.
    pub big: &'a mut Vec<u8>,
}

/// The length to reckon with: of a gzip'd file no more is known than that there is something more.
fn length_of(length: u64, read: u64) -> u64 {
    if length == u64::MAX { read + 1 } else { length }
}

/// A file that is being followed.
#[derive(Debug)]
pub(crate) struct Followed {
    pub id: i64,
    pub name: Option<Arc<str>>,
    /// `None` while it is put aside: there may be more files than may be open.
    content: Option<Content>,
    /// Where it was last found.
    at: PathBuf,
    /// Whether it is gzip'd: it has an end, and that is its last line's.
    gzip: bool,
    /// Whether there may be whole lines among the bytes that were read and not cut.
    more: bool,
    /// Since when a gzip'd file cannot be unpacked any further.
    broken: Option<Timestamp>,
    pub device: u64,
    pub inode: u64,
    pub prefix: Vec<u8>,
    pub lines: Lines,
    pub length: u64,
    pub modified: i64,
    /// When another file took its place, or later, when it last grew since.
    pub rotated: Option<Timestamp>,
    /// The times of the log so far.
    pub pace: Pace,
    /// Its bytes were overwritten; what was read of them before is still to be cut.
    pub gone: bool,
}

impl Followed {
    /// Follows a file that was never seen, from `position`.
    pub fn new(store: &Store, path: &str, found: Found, position: u64) -> Result<Self, StoreError> {
        let fingerprint = Fingerprint::of(&found.prefix);
        let id = store.add(path, found.device, found.inode, &fingerprint, position, found.modified)?;
        Ok(Self::following(id, None, found, position, store.pace(path)?))
    }
    /// Follows on where the store says.
    pub fn resume(row: &Remembered, found: Found) -> Self {
        Self::following(row.id, row.name.clone(), found, row.position, row.pace)
    }
    fn following(id: i64, name: Option<Arc<str>>, found: Found, position: u64, pace: Pace) -> Self {
        Self {
            id,
            name,
            gzip: found.content.is_gzip(),
            content: Some(found.content),
            at: found.at,
            more: true,
            broken: None,
            device: found.device,
            inode: found.inode,
            prefix: found.prefix,
            lines: Lines::starting_at(position),
            length: length_of(found.length, position),
            modified: found.modified,
            rotated: None,
            pace,
            gone: false,
        }
    }
    pub fn is(&self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }
    /// Whether every byte was read.
    pub fn at_end(&self) -> bool {
        self.gone || self.lines.read_end() == self.length
    }
    /// Takes no more bytes from the file.
    pub fn let_go(&mut self) {
        self.gone = true;
        self.length = self.lines.read_end();
    }
    /// Reads on in a copy of this file, which has the same bytes at the same offsets.
    pub fn move_to(&mut self, copy: Found) {
        self.gzip = copy.content.is_gzip();
        self.content = Some(copy.content);
        self.at = copy.at;
        self.device = copy.device;
        self.inode = copy.inode;
        self.length = length_of(copy.length, self.lines.read_end());
        self.modified = copy.modified;
    }
    /// The same file again, from its first byte.
    pub fn again(&self) -> io::Result<Option<Found>> {
        match &self.content {
            Some(content) => Found::open(content.file().try_clone()?, &self.at).map(Some),
            None => Ok(None),
        }
    }
    /// Whether it holds a descriptor.
    pub fn is_open(&self) -> bool {
        self.content.is_some()
    }
    /// Closes it. It is found again by its place, by device and inode beside `log`, or by its first bytes.
    pub fn put_aside(&mut self) {
        if !self.gone {
            self.content = None;
        }
    }
    /// Whether there is nothing new in it, as far as that can be said without opening it.
    pub fn is_quiet(&self) -> bool {
        if self.gone || self.more || !self.at_end() {
            return false;
        }
        let about = match &self.content {
            Some(content) => content.file().metadata(),
            None => fs::metadata(&self.at),
        };
        about.is_ok_and(|about| {
            self.is(about.dev(), about.ino()) && about.len() == self.length && modified(&about) == self.modified
        })
    }
    /// Whether it is gzip'd.
    pub fn is_gzip(&self) -> bool {
        self.gzip
    }
    /// Whether it is open and has no name any more, anywhere.
    pub fn is_deleted(&self) -> bool {
        let about = self.content.as_ref().map(|content| content.file().metadata());
        about.is_some_and(|about| about.is_ok_and(|about| about.nlink() == 0))
    }
    /// Opens it again; `false` if it is not to be found.
    fn take_up(&mut self, log: &Path) -> io::Result<bool> {
        let same = |found: &Found| (found.device, found.inode) == (self.device, self.inode);
        let mut found = Found::at(&self.at)?.filter(same);
        if found.is_none() {
            let mut beside = Found::beside(log)?;
            let fingerprint = Fingerprint::of(&self.prefix);
            let at = beside.iter().position(|f| same(f) && f.prefix.starts_with(&self.prefix)).or_else(|| {
                beside.iter().position(|f| fingerprint.proves(&f.prefix) && f.length >= self.lines.read_end())
            });
            found = at.map(|at| beside.swap_remove(at));
        }
        let Some(found) = found else { return Ok(false) };
        self.gzip = found.content.is_gzip();
        (self.device, self.inode) = (found.device, found.inode);
        self.at = found.at;
        self.content = Some(found.content);
        Ok(true)
    }

    /// The next chunk. With `last` the bytes behind the last line end are a line, and the file is done with.
    pub fn read(&mut self, desk: &mut Desk<'_>, log: &Path, last: bool) -> Result<Read, Trouble> {
        if self.gone {
            return self.cut(desk, true);
        }
        if self.content.is_none() && !self.take_up(log)? {
            return Ok(Read::Lost);
        }
        let Some(content) = &mut self.content else { return Ok(Read::Lost) };
        let about = content.file().metadata()?;
        if self.gzip {
            return self.unpack(desk);
        }
        let length = about.len();
        if length < self.lines.read_end() {
            return Ok(Read::Overwritten);
        }
        self.lines.borrow(desk.big);
        let came = match length.saturating_sub(self.lines.read_end()) {
            0 => 0,
            more => self.lines.fill(more, |buffer, at| content.read_at(buffer, at))?,
        };
        // Looked at after the bytes were read, so that they are known to be this generation's.
        let prefix = prefix(content)?;
        if !prefix.starts_with(&self.prefix) {
            self.lines.unread(came);
            return Ok(Read::Overwritten);
        }
        self.prefix = prefix;
        self.length = length.max(self.lines.read_end());
        self.modified = modified(&about);
        let read = self.cut(desk, last);
        self.lines.give_back(desk.big);
        read
    }

    /// As [`Self::read`], of a file that will not grow: its end is its last line's, whatever is asked.
    fn unpack(&mut self, desk: &mut Desk<'_>) -> Result<Read, Trouble> {
        let Some(content) = &mut self.content else { return Ok(Read::Lost) };
        self.lines.borrow(desk.big);
        let came = self.lines.fill(u64::MAX, |buffer, at| content.read_at(buffer, at));
        let mut ended = content.ended();
        if let Err(error) = came {
            // Perhaps it is still being packed; if not, there is no more to be had of it.
            let since = *self.broken.get_or_insert(desk.now);
            if desk.clock.real(desk.now.since(since)) < super::LINGER {
                self.lines.give_back(desk.big);
                return Err(error.into());
            }
            tracing::warn!(file = %self.at.display(), %error, read = self.lines.read_end(),
                "gzip'd file is broken; what stands behind its readable part is lost");
            metrics::lost_file();
            ended = true;
        } else {
            self.broken = None;
        }
        self.length = self.lines.read_end() + u64::from(!ended);
        let read = self.cut(desk, ended);
        self.lines.give_back(desk.big);
        read
    }

    fn cut(&mut self, desk: &mut Desk<'_>, last: bool) -> Result<Read, Trouble> {
        let source = match &self.name {
            Some(name) => Arc::clone(name),
            None if self.prefix.is_empty() => Arc::from(""),
            None => self.christen(desk.store)?,
        };
        let mut builder = Builder::new(desk.press, &source, desk.now);
        let mut timeline = Timeline::at(self.pace);
        self.lines.cut(last, |offset, cut| match cut {
            Cut::Line(bytes) => builder.line(&mut timeline, offset, bytes, Place::default),
            Cut::TooLong(head) => builder.unreadable(offset, DeadReason::TooLong, head, false),
        });
        builder.settle(&mut timeline);
        self.more = builder.lines() > 0;
        if !self.more && !last {
            return Ok(Read::Nothing);
        }
        self.pace = timeline.pace();
        let checkpoint = Checkpoint {
            id: self.id,
            device: self.device,
            inode: self.inode,
            fingerprint: Fingerprint::of(&self.prefix),
            position: self.lines.position(),
            modified: self.modified,
            finished: last && self.lines.position() == self.lines.read_end(),
            pace: self.pace,
        };
        Ok(Read::Chunk(builder.finish(source, Progress::File(checkpoint))?))
    }

    /// Device, inode and fingerprint say which file it is; the number that the store gave it tells it from a
    /// later one that happens to agree in all three.
    fn christen(&mut self, store: &Store) -> Result<Arc<str>, StoreError> {
        let fingerprint = Fingerprint::of(&self.prefix);
        let [a, b, c, d, e, f, g, h, ..] = fingerprint.hash;
        let short = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let name = format!("{:x}-{:x}-{short:016x}-{}", self.device, self.inode, self.id);
        store.name(self.id, &name, &fingerprint)?;
        Ok(Arc::clone(self.name.insert(Arc::from(name))))
    }
}
