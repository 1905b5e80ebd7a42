//! Our own way through a file, whole or only as far as a stage, so that the stages' shares can be told apart.

use std::collections::HashMap;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use collector::{ClassifierOptions, Decoder, Format, Opener, Outcome, Reader};
use eventlog::partition_for;
use product_events::Columns;

use crate::machine;

/// Read at once from a file: what stays near the core until it is looked at.
const CHUNK: usize = 256 << 10;
/// Bytes of lines whose events go into one record for each partition.
const BATCH: u64 = 4 << 20;
/// Partitions of `product-events`, as by default.
const PARTITIONS: u32 = 8;
/// Looks at the memory during a long run.
const LOOKS: u64 = 100;

/// How far each line is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Read and cut into lines.
    Cut,
    /// The envelope opened.
    Envelope,
    /// The line decoded.
    Line,
    /// Its meaning found, its visitor hashed.
    Classify,
    /// Its event encoded into the record of its partition.
    Encode,
}

impl Depth {
    pub const ALL: [Self; 5] = [Self::Cut, Self::Envelope, Self::Line, Self::Classify, Self::Encode];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "reading and cutting",
            Self::Envelope => "the envelope",
            Self::Line => "the line",
            Self::Classify => "classifying",
            Self::Encode => "encoding",
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Done {
    pub seconds: f64,
    pub bytes: u64,
}

fn key() -> &'static str {
    "a key only for measuring"
}

/// Takes each line of the file so far.
pub fn run(path: &Path, depth: Depth) -> anyhow::Result<Done> {
    let mut opener = Opener::default();
    let mut whole = Whole::new()?;
    let (mut bytes, mut lines) = (0, 0u64);
    let started = machine::computed();
    each_chunk(path, |chunk| {
        for (offset, line) in cut(chunk, bytes) {
            lines += 1;
            match depth {
                Depth::Cut => drop(black_box(line)),
                Depth::Envelope => drop(black_box(opener.open_any(line).is_ok())),
                Depth::Line => {
                    let opened = opener
                        .open_any(line)
                        .map_err(|reason| anyhow::anyhow!("an envelope does not open: {reason}"))?;
                    black_box(opened.line(&Format::Auto).is_ok());
                }
                Depth::Classify => {
                    let outcome = whole.reader.line(line, offset, |event| {
                        black_box(event);
                    });
                    black_box(outcome);
                }
                Depth::Encode => whole.line(line, offset),
            }
        }
        bytes += chunk.len() as u64;
        if depth == Depth::Encode && bytes / BATCH > (bytes - chunk.len() as u64) / BATCH {
            whole.encode()?;
        }
        Ok(())
    })?;
    whole.encode()?;
    Ok(Done { seconds: (machine::computed() - started).as_secs_f64(), bytes })
}

/// The whole way, over and over, until so many lines are through; `look` is called a hundred times on the way.
pub fn stream(path: &Path, lines: u64, mut look: impl FnMut(u64)) -> anyhow::Result<Done> {
    let mut whole = Whole::new()?;
    let (mut bytes, mut through, mut next) = (0, 0, lines / LOOKS);
    let started = machine::computed();
    while through < lines {
        each_chunk(path, |chunk| {
            for (offset, line) in cut(chunk, bytes) {
                if through == lines {
                    break;
                }
                whole.line(line, offset);
                through += 1;
            }
            bytes += chunk.len() as u64;
            if bytes / BATCH > (bytes - chunk.len() as u64) / BATCH {
                whole.encode()?;
            }
            if through >= next {
                look(through);
                next += lines / LOOKS;
            }
            Ok(())
        })?;
    }
    Ok(Done { seconds: (machine::computed() - started).as_secs_f64(), bytes })
}

/// The whole way: reader and one batch for each partition.
struct Whole {
    reader: Reader,
    columns: Vec<Columns>,
    dead: u64,
}

impl Whole {
    fn new() -> anyhow::Result<Self> {
        let decoder = Decoder::keyed(&ClassifierOptions::default(), &key().into())?;
        let columns = (0..PARTITIONS).map(|_| Columns::default()).collect();
        Ok(Self { reader: Reader::new(Arc::new(decoder)), columns, dead: 0 })
    }
    #[inline]
    fn line(&mut self, line: &[u8], offset: u64) {
        let columns = &mut self.columns;
        let outcome = self.reader.line(line, offset, |event| {
            let partition = partition_for(event.page.as_bytes(), PARTITIONS);
            columns[partition as usize].push(event);
        });
        self.dead += u64::from(matches!(outcome, Outcome::Dead(_)));
    }
    fn encode(&mut self) -> anyhow::Result<()> {
        for columns in &mut self.columns {
            if !columns.is_empty() {
                black_box(columns.finish("2049:1234:00112233445566778899aabbccddeeff")?);
            }
        }
        anyhow::ensure!(self.dead == 0, "{} lines could not be decoded", self.dead);
        Ok(())
    }
}

/// Views of each page, bots included.
pub fn raw_views(path: &Path) -> anyhow::Result<HashMap<String, u64>> {
    let mut reader = Reader::new(Arc::new(Decoder::new(ClassifierOptions::raw())?));
    let mut views = HashMap::new();
    each_chunk(path, |chunk| {
        for (offset, line) in cut(chunk, 0) {
            reader.line(line, offset, |event| *views.entry(event.page.to_owned()).or_default() += 1);
        }
        Ok(())
    })?;
    Ok(views)
}

/// Whole lines of the file, about [`CHUNK`] bytes at once.
pub(crate) fn each_chunk(path: &Path, mut take: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut buffer = vec![0; CHUNK];
    let mut held = 0;
    loop {
        let read = file.read(&mut buffer[held..])?;
        if read == 0 {
            anyhow::ensure!(held == 0, "the file ends within a line");
            return Ok(());
        }
        let filled = held + read;
        let Some(end) = memchr::memrchr(b'\n', &buffer[..filled]).map(|at| at + 1) else {
            anyhow::bail!("a line is longer than {CHUNK} bytes");
        };
        take(&buffer[..end])?;
        buffer.copy_within(end..filled, 0);
        held = filled - end;
    }
}

/// The lines of a chunk that begins at byte `base`.
pub(crate) fn cut(chunk: &[u8], base: u64) -> impl Iterator<Item = (u64, &[u8])> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', chunk).map(move |end| {
        let line = (base + start as u64, &chunk[start..end]);
        start = end + 1;
        line
    })
}
