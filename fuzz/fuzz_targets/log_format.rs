//! A format and a line, one behind the other's first line end: compiling and reading never panic.
#![no_main]

use collector::Format;
use collector::decode::decode_as;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let Ok(text) = std::str::from_utf8(&bytes[..end]) else { return };
    if let Ok(format) = Format::parse(text) {
        let _ = decode_as(&format, bytes.get(end + 1..).unwrap_or_default());
    }
});
