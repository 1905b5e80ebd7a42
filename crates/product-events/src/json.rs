//! One event as one flat JSON object, for Druid and whoever else reads topic `product-events-json`. Its members are
//! named like the columns of the table `product_heat`, so that the same queries run on both.

use std::io::Write;

use types::EventKind;

use crate::Event;

/// Appends the object, without a line end:
/// `{"__time":"…Z","product":"42","kind":"view","events":1,"status":200,"visitor":"…16 hex digits…","source":"…",
/// "offset":0}`. `visitor` is a text because JSON's numbers lose the last bits of 64. Source and offset name the
/// line, so that a reader can drop repeats.
pub fn write_json(out: &mut Vec<u8>, source: &str, event: &Event<'_>) {
    let kind = EventKind::as_str(event.kind);
    // Writing to memory does not fail.
    let _ = write!(out, "{{\"__time\":\"{}\",\"product\":", event.at);
    text(out, event.page);
    let _ = write!(
        out,
        ",\"kind\":\"{kind}\",\"events\":1,\"status\":{},\"visitor\":\"{:016x}\",\"source\":",
        event.status, event.visitor.0
    );
    text(out, source);
    let _ = write!(out, ",\"offset\":{}}}", event.offset);
}

fn text(out: &mut Vec<u8>, said: &str) {
    out.push(b'"');
    for byte in said.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => {
                let _ = write!(out, "\\u{byte:04x}");
            }
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}
