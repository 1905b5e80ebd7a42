//! Logs as lines: files in the order of their times, gzip'd or not, and standard input. It never holds more than one
//! line and one buffer.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use collector::{Decoder, Reader};
use flate2::read::MultiGzDecoder;
use types::Timestamp;

/// Longest line that is looked at; the rest of a longer one is skipped and the line counts as undecodable.
pub(super) const MAX_LINE: usize = 64 * 1024;
/// Read at once from a file: what stays near the core until it is looked at.
const CHUNK: usize = 256 * 1024;
/// Lines looked at to find a file's first time; a log that starts with more rubbish keeps its place.
const PEEK_LINES: usize = 1_000;
/// What every gzip'd file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How many bytes of files were read so far, as they lie on the disk.
pub(super) type Bytes = Arc<AtomicU64>;

struct Counted<R> {
    inner: R,
    bytes: Bytes,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens a log: `-` is standard input; what begins as gzip does is unpacked, whatever its name.
pub(crate) fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    open_counted(path, &Bytes::default())
}

pub(super) fn open_counted(path: &Path, bytes: &Bytes) -> anyhow::Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
    };
    let mut raw = BufReader::with_capacity(CHUNK, Counted { inner: raw, bytes: Arc::clone(bytes) });
    let begin = loop {
        match raw.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other.with_context(|| format!("cannot read {}", path.display()))?,
        }
    };
    if begin.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::with_capacity(CHUNK, MultiGzDecoder::new(raw))));
    }
    Ok(Box::new(raw))
}

/// Reads one line without its end into `line`, at most one byte more than `most`; answers how many bytes it took in
/// all, or `None` at the end.
pub(crate) fn next_line(
    reader: &mut (impl BufRead + ?Sized),
    line: &mut Vec<u8>,
    most: usize,
) -> io::Result<Option<u64>> {
    line.clear();
    let mut taken = 0;
    loop {
        let buffer = match reader.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if buffer.is_empty() {
            return Ok((taken > 0).then_some(taken));
        }
        let end = memchr::memchr(b'\n', buffer);
        let part = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&part[..part.len().min((most + 1).saturating_sub(line.len()))]);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        taken += used as u64;
        if end.is_some() {
            return Ok(Some(taken));
        }
    }
}

/// Hands out every line with the bytes that it takes, without copying those that lie whole in the buffer, until the end
/// or until `see` answers false.
pub(super) fn each_line(
    reader: &mut (impl BufRead + ?Sized),
    mut see: impl FnMut(&[u8], u64) -> bool,
) -> io::Result<bool> {
    let mut line = Vec::with_capacity(1024);
    loop {
        let buffer = match reader.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let (mut start, mut goes_on) = (0, true);
        for end in memchr::memchr_iter(b'\n', buffer) {
            goes_on = see(&buffer[start..end], (end + 1 - start) as u64);
            start = end + 1;
            if !goes_on {
                break;
            }
        }
        reader.consume(start);
        if !goes_on {
            return Ok(false);
        }
        // The rest of the buffer begins a line that ends in the next, or with the file.
        match next_line(reader, &mut line, MAX_LINE)? {
            Some(taken) if !see(&line, taken) => return Ok(false),
            Some(_) => {}
            None => return Ok(true),
        }
    }
}

/// Rotated logs are usually named newest first; the engine wants the oldest first. Standard input keeps the
/// order given, as it cannot be looked at beforehand.
pub(super) fn in_order_of_time(files: &[PathBuf], decoder: &Arc<Decoder>) -> anyhow::Result<Vec<PathBuf>> {
    if files.len() < 2 || files.iter().any(|f| !f.is_file()) {
        return Ok(files.to_vec());
    }
    let mut dated = Vec::with_capacity(files.len());
    for path in files {
        dated.push((first_time(path, decoder)?, path.clone()));
    }
    // A file without any time stays where it was put: the sort is stable and it counts nothing.
    dated.sort_by_key(|(time, _)| *time);
    Ok(dated.into_iter().map(|(_, path)| path).collect())
}

fn first_time(path: &Path, decoder: &Arc<Decoder>) -> anyhow::Result<Option<Timestamp>> {
    let mut reader = open(path)?;
    let mut line = Vec::new();
    let (mut lines, mut first) = (Reader::new(Arc::clone(decoder)), None);
    for _ in 0..PEEK_LINES {
        let read =
            next_line(&mut reader, &mut line, MAX_LINE).with_context(|| format!("cannot read {}", path.display()))?;
        if read.is_none() {
            break;
        }
        lines.line(&line, 0, |event| first = Some(event.at));
        if first.is_some() {
            break;
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_the_last_needs_no_end() {
        let long = "x".repeat(3 * MAX_LINE);
        let text = format!("one\n\n{long}\nlast");
        let want = [(3, 4), (0, 1), (MAX_LINE + 1, 3 * MAX_LINE as u64 + 1), (4, 4)];
        for capacity in [7, 64, 1 << 20] {
            let mut reader = BufReader::with_capacity(capacity, text.as_bytes());
            let mut line = Vec::new();
            let mut lines = Vec::new();
            while let Some(taken) = next_line(&mut reader, &mut line, MAX_LINE).expect("memory reads") {
                lines.push((line.len(), taken));
            }
            assert_eq!(lines, want);
            let mut reader = BufReader::with_capacity(capacity, text.as_bytes());
            let mut lines = Vec::new();
            let all = each_line(&mut reader, |line, taken| {
                // What lies whole in the buffer is handed out whole: longer than the bound is longer than the bound.
                lines.push((line.len().min(MAX_LINE + 1), taken));
                true
            });
            assert!(all.expect("memory reads"));
            assert_eq!(lines, want);
        }
    }

    #[test]
    fn who_has_seen_enough_stops_there() {
        let mut reader = BufReader::with_capacity(4, &b"a\nb\nc\nd\n"[..]);
        let mut seen = Vec::new();
        let whole = each_line(&mut reader, |line, _| {
            seen.push(line.to_vec());
            line != b"c"
        });
        assert!(!whole.expect("memory reads"));
        assert_eq!(seen, [b"a", b"b", b"c"]);
    }
}
