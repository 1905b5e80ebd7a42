//! The background traffic's pages: a real trace of a shop's product pages, carried in the binary. It knows
//! pages in their order, not times, and never a sale.

use std::io::Read;

use anyhow::{Context, Result, ensure};

/// gzip of big-endian 32-bit page ids; source and licence are in `examples/data/README.md`.
const WEB07: &[u8] = include_bytes!("../../../../examples/data/web07.trace.gz");
/// Most bytes the trace may unpack to: it is our own file, but a damaged one must not fill the memory.
const MAX_UNPACKED: u64 = 64 * 1024 * 1024;

/// Page ids in the order in which real shoppers asked for them; starts again at its end.
#[derive(Debug, Clone)]
pub struct Trace {
    pages: Vec<u32>,
    next: usize,
}

impl Trace {
    /// Unpacks the trace that the binary carries.
    pub fn embedded() -> Result<Self> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(WEB07)
            .take(MAX_UNPACKED)
            .read_to_end(&mut bytes)
            .context("the trace in the binary does not unpack")?;
        ensure!(bytes.len() >= 4 && bytes.len() % 4 == 0, "the trace in the binary is not whole");
        let pages = bytes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Self { pages, next: 0 })
    }

    /// The next request's page.
    pub fn next_page(&mut self) -> u32 {
        let page = self.pages[self.next];
        self.next = (self.next + 1) % self.pages.len();
        page
    }

    /// Requests in one round.
    #[cfg(test)]
    pub fn requests(&self) -> usize {
        self.pages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_whole_and_starts_again() {
        let mut trace = Trace::embedded().expect("the binary carries it");
        assert_eq!(trace.requests(), 76_118);
        let first: Vec<u32> = (0..trace.requests()).map(|_| trace.next_page()).collect();
        let distinct: std::collections::HashSet<u32> = first.iter().copied().collect();
        assert_eq!(distinct.len(), 20_484);
        assert_eq!(trace.next_page(), first[0]);
    }
}
