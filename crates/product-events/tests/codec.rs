//! Batches survive their bytes, other Arrow readers take them, and every damaged or hostile record is refused by
//! name: never by a panic, never with more memory than it has bytes.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use product_events::{Columns, DecodeError, EncodeError, Event, MAX_EVENTS, MAX_VALUE, decode, encode, write_json};
use proptest::prelude::*;
use types::{AccessEvent, EventBatch, EventKind, PageId, Timestamp, VisitorHash, codec};

fn event(page: &str, n: u64) -> AccessEvent {
    AccessEvent {
        page: PageId::new(page).unwrap(),
        kind: EventKind::ALL[n as usize % 3],
        visitor: VisitorHash(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        status: 200 + n as u16 % 300,
        at: Timestamp::from_millis(1_548_117_374_000 + n as i64),
        offset: n * 300,
    }
}

fn batch() -> EventBatch {
    let events = ["a", "b", "a", "c"].into_iter().zip(0..).map(|(page, n)| event(page, n)).collect();
    EventBatch { source: "8:1:2 é".to_owned(), events }
}

fn batches() -> impl Strategy<Value = EventBatch> {
    let event =
        ("[!-\"$-.0-:@-~]{1,128}", 0usize..3, any::<u64>(), 0u16..1000, 0i64..253_402_300_799_999, any::<u64>());
    let event = event.prop_map(|(page, kind, visitor, status, at, offset)| AccessEvent {
        page: PageId::new(page).unwrap(),
        kind: EventKind::ALL[kind],
        visitor: VisitorHash(visitor),
        status,
        at: Timestamp::from_millis(at),
        offset,
    });
    (any::<String>(), proptest::collection::vec(event, 0..60))
        .prop_map(|(source, events)| EventBatch { source, events })
}

proptest! {
    #[test]
    fn a_batch_survives_its_bytes(batches in proptest::collection::vec(batches(), 1..5)) {
        let mut columns = Columns::default();
        for batch in &batches {
            prop_assert_eq!(decode(&encode(batch).unwrap()), Ok(batch.clone()));
            for event in &batch.events {
                columns.push(&event.into());
            }
            let value = columns.finish(&batch.source).unwrap();
            prop_assert!(columns.is_empty());
            prop_assert_eq!(decode(&value), Ok(batch.clone()), "buffers that are used again forget what they held");
        }
    }

    #[test]
    fn no_damage_makes_it_panic(
        batch in batches(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let mut bytes = encode(&batch).unwrap();
        for (place, byte, how) in edits {
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                _ => bytes.truncate(at.max(1)),
            }
            if let Ok(read) = decode(&bytes) {
                prop_assert!(read.events.len() <= MAX_EVENTS);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = decode(&[&[2, 255, 255, 255, 255], bytes.as_slice()].concat());
    }
}

#[test]
fn every_single_byte_may_be_any_other() {
    let good = encode(&batch()).unwrap();
    for at in 0..good.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff, good[at].wrapping_add(1), good[at].wrapping_sub(1)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            let _ = decode(&bytes);
        }
        assert!(decode(&good[..at]).is_err(), "cut off at {at}");
    }
}

#[test]
fn any_arrow_reader_takes_it() {
    let bytes = encode(&batch()).unwrap();
    let mut reader = arrow_ipc::reader::StreamReader::try_new(&bytes[1..], None).unwrap();
    assert_eq!(reader.schema().metadata()["source"], "8:1:2 é");
    let read = reader.next().unwrap().unwrap();
    assert_eq!(read.num_rows(), 4);
    let names: Vec<_> = read.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["page", "kind", "visitor", "status", "at", "offset"]);
    assert!(reader.next().is_none());
}

#[test]
fn version_1_is_still_read() {
    let old = codec::encode(&batch()).unwrap();
    assert_eq!(decode(&old), Ok(batch()));
    assert!(encode(&batch()).unwrap().len() < old.len() * 4, "small batches may be larger, not by much");
    let many = EventBatch { events: (0..1_000).map(|n| event("page", n)).collect(), ..batch() };
    let (new, old) = (encode(&many).unwrap().len(), codec::encode(&many).unwrap().len());
    assert!(new * 3 < old, "{new} against {old} bytes");
}

/// What version 1 would let through and version 2 cannot hold is refused at the door (found by the fuzzer).
#[test]
fn version_1_is_held_to_the_same_bounds() {
    let old = |change: &dyn Fn(&mut AccessEvent)| {
        let mut batch = batch();
        change(&mut batch.events[2]);
        decode(&codec::encode(&batch).unwrap())
    };
    let wrong = |column| Err(DecodeError::Value { column, at: 2 });
    assert_eq!(old(&|event| event.at = Timestamp::from_millis(-1)), wrong("at"));
    let year_10000 = Timestamp::from_millis(253_402_300_800_000);
    assert!(matches!(old(&|event| event.at = year_10000), Err(DecodeError::Json(_))), "no RFC 3339 time");
    assert_eq!(old(&|event| event.status = 1_000), wrong("status"));
    assert!(old(&|event| event.at = Timestamp::from_millis(0)).is_ok());
    // As JSON no more than 200,000 events fit a record, so the bound on events is not met.
    let many = EventBatch { events: vec![event("p", 1); MAX_EVENTS / 2], ..batch() };
    assert!(matches!(codec::encode(&many), Err(codec::CodecError::TooLarge(_))));
}

/// `bytes` with one sequence replaced by another of the same length.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).rposition(|window| window == from).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

fn foreign(schema: &Schema, columns: Vec<ArrayRef>) -> Vec<u8> {
    let mut bytes = vec![2];
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap();
    let mut writer = StreamWriter::try_new(&mut bytes, schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn every_case_of_a_record_has_its_end() {
    let good = encode(&batch()).unwrap();
    let pages = |numbers: [i32; 4]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let indexes = pages([0, 1, 0, 2]);
    let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
    let one = Schema::new(vec![Field::new("page", DataType::UInt64, false)]);
    let mut reader = arrow_ipc::reader::StreamReader::try_new(&good[1..], None).unwrap();
    let ours = reader.next().unwrap().unwrap();
    let mut fields: Vec<_> = ours.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("address", DataType::UInt64, false));
    let mut columns = ours.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(vec![0; 4])));
    let extra = foreign(&Schema::new(fields), columns);
    let nameless = Schema::new(ours.schema().fields().clone());
    let nameless = foreign(&nameless, ours.columns().to_vec());
    let length_at = 5;
    let mut huge = good.clone();
    huge[length_at..length_at + 4].copy_from_slice(&i32::MAX.to_le_bytes());
    let mut negative = good.clone();
    negative[length_at..length_at + 4].copy_from_slice(&(-8i32).to_le_bytes());
    let many = {
        // Ten million rows are announced; the bytes for them are not there.
        let rows = 4u64.to_le_bytes();
        let mut bytes = good.clone();
        for at in 0..bytes.len() - 8 {
            if bytes[at..at + 8] == rows {
                bytes[at..at + 8].copy_from_slice(&10_000_000u64.to_le_bytes());
            }
        }
        bytes
    };
    let trailing = [good.as_slice(), b"x"].concat();
    let status = |n: u16| [200 + n, 201, 202, 203].iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
    let at = |ms: i64| ms.to_le_bytes();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "the record is empty"),
        ("wrong magic", b"PAR1....".to_vec(), "the record has version 80; this program reads versions 1 and 2"),
        ("JSON without version", b"{}".to_vec(), "the record has version 123; this program reads versions 1 and 2"),
        (
            "wrong schema version",
            [&[3], &good[1..]].concat(),
            "the record has version 3; this program reads versions 1 and 2",
        ),
        ("only the version", vec![2], "the Arrow stream is cut off"),
        ("version 1, no JSON", vec![1, b'x'], "the record's content is malformed: expected value at line 1 column 1"),
        (
            "no message",
            [&[2], [0; 64].as_slice()].concat(),
            "the record is no Arrow stream: a message does not begin as one",
        ),
        (
            "end at once",
            [&[2, 255, 255, 255, 255], [0; 4].as_slice()].concat(),
            "the record is no Arrow stream: there is no schema",
        ),
        ("truncated", good[..good.len() / 2].to_vec(), "the Arrow stream is cut off"),
        ("no end", good[..good.len() - 8].to_vec(), "the Arrow stream is cut off"),
        ("trailing", trailing, "the record is no Arrow stream: something follows the events"),
        ("huge length", huge, "the Arrow stream is cut off"),
        ("negative length", negative, "the Arrow stream has an impossible length: of a message"),
        ("10 million rows", many, "the record has 10000000 events; at most 500000 are read"),
        ("17 MiB", vec![2; MAX_VALUE + 1], "the record has 16777217 bytes; at most 16777216 are read"),
        ("other columns", foreign(&one, vec![numbers]), "the Arrow stream has other columns: kind is missing"),
        ("extra column", extra, "the Arrow stream has other columns: \"address\" is one too many"),
        ("no source", nameless, "the Arrow stream has other columns: no source is named"),
        (
            "page out of range",
            patched(&good, &indexes, &pages([0, 3, 0, 2])),
            "event 1 has a page that is not in the dictionary",
        ),
        (
            "page negative",
            patched(&good, &indexes, &pages([0, 1, -1, 2])),
            "event 2 has a page that is not in the dictionary",
        ),
        (
            "kind 9",
            patched(&good, &[0, 1, 2, 0, 0, 0, 0, 0], &[0, 1, 2, 9, 0, 0, 0, 0]),
            "column kind has an impossible value at 3",
        ),
        ("status 1000", patched(&good, &status(0), &status(800)), "column status has an impossible value at 0"),
        (
            "time before the epoch",
            patched(&good, &at(1_548_117_374_001), &at(-1)),
            "column at has an impossible value at 1",
        ),
        (
            "time from the year 10000",
            patched(&good, &at(1_548_117_374_002), &at(253_402_300_800_000)),
            "column at has an impossible value at 2",
        ),
        ("page that is none", patched(&good, b"abc", b"a/c"), "column page has an impossible value at 1"),
        ("page not UTF-8", patched(&good, b"abc", b"a\xffc"), "column page has an impossible value at 1"),
    ];
    for (case, bytes, end) in cases {
        assert_eq!(decode(&bytes).unwrap_err().to_string(), end, "{case}");
    }
    assert_eq!(decode(&good), Ok(batch()));
}

#[test]
fn a_batch_that_is_too_large_is_not_written_and_leaves_nothing_behind() {
    let mut columns = Columns::default();
    let page = event("p", 1);
    for _ in 0..=MAX_EVENTS {
        columns.push(&Event::from(&page));
    }
    assert!(columns.is_full());
    assert!(matches!(columns.finish("s"), Err(EncodeError::TooLarge { events: 500_001, .. })));
    assert!(columns.is_empty());
    for n in 0..MAX_EVENTS as u64 {
        columns.push(&Event { offset: n, ..Event::from(&page) });
    }
    let value = columns.finish("s").unwrap();
    assert_eq!(decode(&value).unwrap().events.len(), MAX_EVENTS, "{} bytes", value.len());
}

#[test]
fn json_is_flat_and_names_the_columns_of_product_heat() {
    let mut out = Vec::new();
    write_json(&mut out, "log \"1\"\\\n", &Event::from(&event("42\"\\", 1)));
    let text = String::from_utf8(out).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((value["product"].as_str(), value["source"].as_str()), (Some("42\"\\"), Some("log \"1\"\\\n")));
    insta::assert_snapshot!(text, @r#"{"__time":"2019-01-22T00:36:14.001Z","product":"42\"\\","kind":"cart","events":1,"status":201,"visitor":"9e3779b97f4a7c15","source":"log \"1\"\\\u000a","offset":300}"#);
}

#[test]
fn the_fuzzers_corpus_is_read_or_refused() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/record");
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        if let Ok(batch) = decode(&bytes) {
            assert_eq!(decode(&encode(&batch).unwrap()), Ok(batch));
        }
    }
}

#[test]
fn events_that_come_late_are_put_in_their_place_when_asked() {
    let page = |n: u64| ["7", "8", "7", "9"][n as usize % 4];
    let event = |offset| Event {
        page: page(offset),
        kind: EventKind::ALL[offset as usize % 3],
        visitor: VisitorHash(offset * 3),
        status: 200 + offset as u16,
        at: Timestamp::from_seconds(offset as i64),
        offset,
    };
    let mut columns = Columns::default();
    for offset in [1, 5, 6, 2, 9, 3] {
        columns.push(&event(offset));
    }
    columns.sort();
    assert_eq!(columns.events().collect::<Vec<_>>(), [1, 2, 3, 5, 6, 9].map(event));
    let read = decode(&columns.finish("s").unwrap()).unwrap();
    assert_eq!(read.events.iter().map(|e| e.offset).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 9]);
    assert_eq!(read.events.iter().map(Event::from).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 9].map(event));
}
