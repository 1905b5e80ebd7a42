//! A file's bytes at their offsets, gzip'd or not. It must never seek backwards in a gzip'd file twice for one
//! chunk: each step back unpacks it anew from its beginning.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use flate2::read::MultiGzDecoder;

/// What every gzip'd file begins with.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An open file.
#[derive(Debug)]
pub(crate) enum Content {
    Plain(File),
    Gzip(Box<Gzip>),
}

/// A gzip'd file, unpacked as far as it was read.
#[derive(Debug)]
pub(crate) struct Gzip {
    unpack: MultiGzDecoder<BufReader<File>>,
    /// Offset of the next unpacked byte.
    at: u64,
    /// Whether the end was seen.
    ended: bool,
}

impl Content {
    /// The content of a gzip'd file; refuses one that is none.
    pub fn gzip(file: File) -> io::Result<Self> {
        let mut magic = [0; 2];
        if file.read_at(&mut magic, 0)? < magic.len() || magic != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "is not gzip'd, though its name says so"));
        }
        let unpack = MultiGzDecoder::new(BufReader::new(file));
        Ok(Self::Gzip(Box::new(Gzip { unpack, at: 0, ended: false })))
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        match self {
            Self::Plain(file) => file,
            Self::Gzip(gzip) => gzip.unpack.get_ref().get_ref(),
        }
    }

    /// Whether it is gzip'd, and therefore will not grow.
    pub fn is_gzip(&self) -> bool {
        matches!(self, Self::Gzip(_))
    }

    /// Whether the end of a gzip'd file was seen.
    pub fn ended(&self) -> bool {
        matches!(self, Self::Gzip(gzip) if gzip.ended)
    }

    /// Reads what stands at `offset`; 0 at the end.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read_at(buffer, offset),
            Self::Gzip(gzip) => gzip.read_at(buffer, offset),
        }
    }
}

impl Gzip {
    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.at {
            // The clone shares its place in the file with this one, which is not read again.
            let mut file = self.unpack.get_ref().get_ref().try_clone()?;
            io::Seek::rewind(&mut file)?;
            self.unpack = MultiGzDecoder::new(BufReader::new(file));
            (self.at, self.ended) = (0, false);
        }
        if offset > self.at {
            let skipped = io::copy(&mut (&mut self.unpack).take(offset - self.at), &mut io::sink())?;
            self.at += skipped;
            if self.at < offset {
                self.ended = true;
                return Ok(0);
            }
        }
        let n = self.unpack.read(buffer)?;
        self.at += n as u64;
        self.ended |= n == 0 && !buffer.is_empty();
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts {
            let mut pack = GzEncoder::new(&mut bytes, Compression::default());
            pack.write_all(part).unwrap();
            pack.finish().unwrap();
        }
        bytes
    }
    fn open(bytes: &[u8]) -> io::Result<Content> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gz");
        std::fs::write(&path, bytes).unwrap();
        Content::gzip(File::open(path).unwrap())
    }

    #[test]
    fn unpacked_bytes_stand_at_their_offsets_also_backwards_and_across_members() {
        let mut content = open(&packed(&[b"hello ", b"world"])).unwrap();
        let mut at = |offset, most: usize| {
            let (mut buffer, mut n) = (vec![0; most], 0);
            while n < most {
                match content.read_at(&mut buffer[n..], offset + n as u64).unwrap() {
                    0 => break,
                    more => n += more,
                }
            }
            String::from_utf8(buffer[..n].to_vec()).unwrap()
        };
        assert_eq!(at(4, 4), "o wo");
        assert_eq!(at(0, 5), "hello");
        assert_eq!(at(6, 99), "world");
        assert_eq!(at(50, 9), "");
    }

    #[test]
    fn half_a_gzip_is_an_error_and_no_end() {
        let whole = packed(&[&b"line after line\n".repeat(1_000)]);
        let mut content = open(&whole[..whole.len() / 2]).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        let error = loop {
            match content.read_at(&mut buffer, offset) {
                Ok(0) => panic!("an end"),
                Ok(n) => offset += n as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(!content.ended());
        assert!(open(b"plain text").is_err());
    }
}
