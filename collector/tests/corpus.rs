//! The fuzzers' corpus on every run of the tests: each kept input and thousands of damaged copies of it go through
//! the decoders, which must neither panic nor disagree with themselves. Longer hunts: `fuzz/`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;

use collector::decode::decode_as;
use collector::{ClassifierOptions, Decoder, Envelope, Format, Opener, Reader};

/// Damaged copies of each input.
const COPIES: u64 = 2_000;
const SEED: u64 = 4;

fn corpus(kind: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(kind);
    let files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!files.is_empty());
    files
}

/// Numbers from a seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn damaged(all: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    const LIKELY: &[u8] = b"\"\\{}[],: ud8$'\n\x00\xff";
    let mut bytes = all[numbers.below(all.len())].clone();
    for _ in 0..numbers.below(6) {
        let at = numbers.below(bytes.len());
        let byte = if numbers.below(2) == 0 { LIKELY[numbers.below(LIKELY.len())] } else { numbers.next() as u8 };
        match numbers.below(5) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            _ => {
                let other = &all[numbers.below(all.len())];
                let from = numbers.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn each(kind: &str, mut check: impl FnMut(&[u8])) {
    println!("seed {SEED}");
    let all = corpus(kind);
    let mut numbers = Numbers(SEED);
    all.iter().for_each(|input| check(input));
    for _ in 0..COPIES * all.len() as u64 {
        check(&damaged(&all, &mut numbers));
    }
}

#[test]
fn lines_end_the_same_with_a_memory_and_without() {
    // Rates are counted line by line; here the same line is read many times.
    let options = ClassifierOptions::default().without_rates();
    let decoder = Arc::new(Decoder::new(options).unwrap());
    let mut reader = Reader::new(Arc::clone(&decoder));
    each("line", |line| {
        let fresh = Reader::new(Arc::clone(&decoder)).fate(line, 1);
        assert_eq!(fresh, reader.fate(line, 1), "{}", String::from_utf8_lossy(line));
    });
}

#[test]
fn envelopes_that_open_are_json() {
    let mut opener = Opener::default();
    each("envelope", |record| {
        let opened = opener.open(record).map(Envelope::into_owned);
        assert_eq!(Opener::default().open(record).map(Envelope::into_owned), opened);
        if let (Ok(opened), Ok(value)) = (opened, serde_json::from_slice::<serde_json::Value>(record)) {
            assert_eq!(value["message"].as_str().map(str::as_bytes), Some(&*opened.message));
        }
    });
}

#[test]
fn any_format_meets_any_line() {
    each("log_format", |input| {
        let end = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
        if let Ok(Ok(format)) = std::str::from_utf8(&input[..end]).map(Format::parse) {
            let _ = decode_as(&format, input.get(end + 1..).unwrap_or_default());
        }
    });
}
