//! A checkpoint as bytes: a magic word, a version, the fields in the order of their declaration, and a
//! CRC-32 of all of it. Counts are kept by kind, not weighted, so that weights may change over a restart.

use flate2::Crc;
use types::{PageId, Temperature, Timestamp};

use super::bytes::{ReadError, Reader, Writer};
use super::{Checkpoint, PartitionState};
use crate::engine::{Counters, EngineState, PaneState};
use crate::pane::{Contribution, Row};
use crate::source::Taken;
use crate::visitors::Kept;

const MAGIC: &[u8; 8] = b"SKHEAT\x00\x01";
const CRC_BYTES: usize = 4;

pub(super) fn encode(c: &Checkpoint) -> Vec<u8> {
    let mut w = Writer(MAGIC.to_vec());
    w.number(c.sequence);
    w.optional(c.reached.map(Timestamp::millis));
    w.number(c.partitions.len() as u64);
    for (partition, state) in &c.partitions {
        w.number((*partition).into());
        w.number(state.taken.next);
        w.optional(state.newest.map(Timestamp::millis));
        w.list(&state.taken.sources, |w, (source, next)| {
            w.text(source);
            w.number(*next);
        });
    }
    w.number(c.late);
    w.number(c.repeated);
    w.number(c.malformed);
    w.list(&c.since, |w, (page, temperature, since)| {
        w.text(page.as_str());
        w.number(*temperature as u64);
        w.signed(since.millis());
    });
    engine(&mut w, &c.engine);
    let mut crc = Crc::new();
    crc.update(&w.0);
    w.0.extend_from_slice(&crc.sum().to_le_bytes());
    w.0
}

fn engine(w: &mut Writer, e: &EngineState) {
    for second in [e.head, e.low, e.first, e.frontier] {
        w.optional(second);
    }
    w.number(e.empty_run);
    let n = e.counters;
    for counter in [n.counted, n.capped, n.late, n.full, n.evicted, n.skipped] {
        w.number(counter);
    }
    w.list(&e.pages, |w, page| w.text(page.as_str()));
    w.list(&e.panes, |w, pane| {
        w.signed(pane.second);
        w.flag(pane.sealed);
        w.list(&pane.rows, |w, row| {
            w.number(row.id.into());
            for n in row.events.iter().chain(&row.visitors) {
                w.number((*n).into());
            }
        });
        w.list(&pane.seen, |w, (page, visitor, contribution)| {
            w.number((*page).into());
            w.number(*visitor);
            w.number(contribution.counted.into());
            w.number(contribution.kinds.into());
        });
    });
    w.list(&e.visitors, |w, (page, kept)| {
        w.number((*page).into());
        w.list(&kept.few, |w, (slot, visitor)| {
            w.signed(*slot);
            w.number(*visitor);
        });
        w.flag(kept.many.is_some());
        if let Some((slot, estimate)) = kept.many {
            w.signed(slot);
            w.number(estimate);
        }
    });
}

pub(super) fn decode(bytes: &[u8]) -> Result<Checkpoint, ReadError> {
    let body = bytes.len().checked_sub(CRC_BYTES).ok_or(ReadError::Short)?;
    let (body, sum) = bytes.split_at(body);
    let content = body.strip_prefix(MAGIC).ok_or(ReadError::Foreign("it is of another program or version"))?;
    let mut crc = Crc::new();
    crc.update(body);
    if crc.sum().to_le_bytes() != sum {
        return Err(ReadError::Foreign("its checksum does not match"));
    }
    let mut r = Reader(content);
    let mut c = Checkpoint { sequence: r.number()?, reached: time(r.optional()?), ..Checkpoint::default() };
    for (partition, state) in r.list(|r| {
        let (partition, next, newest) = (r.small()?, r.number()?, time(r.optional()?));
        let sources = r.list(|r| Ok((r.text()?.to_owned(), r.number()?)))?;
        Ok((partition, PartitionState { taken: Taken { next, sources }, newest }))
    })? {
        c.partitions.insert(partition, state);
    }
    c.late = r.number()?;
    c.repeated = r.number()?;
    c.malformed = r.number()?;
    c.since = r.list(|r| Ok((page(r)?, temperature(r)?, Timestamp::from_millis(r.signed()?))))?;
    c.engine = read_engine(&mut r)?;
    if r.0.is_empty() { Ok(c) } else { Err(ReadError::Foreign("something follows its end")) }
}

fn read_engine(r: &mut Reader<'_>) -> Result<EngineState, ReadError> {
    let (head, low, first, frontier) = (second(r)?, second(r)?, second(r)?, second(r)?);
    let mut e = EngineState { head, low, first, frontier, empty_run: r.number()?, ..EngineState::default() };
    e.counters = Counters {
        counted: r.number()?,
        capped: r.number()?,
        late: r.number()?,
        full: r.number()?,
        evicted: r.number()?,
        skipped: r.number()?,
    };
    e.pages = r.list(page)?;
    e.panes = r.list(|r| {
        let (second, sealed) = (in_range(r.signed()?)?, r.flag()?);
        let rows = r.list(|r| {
            let mut row = Row { id: r.small()?, events: [0; 3], visitors: [0; 3] };
            for n in row.events.iter_mut().chain(&mut row.visitors) {
                *n = r.small()?;
            }
            Ok(row)
        })?;
        let seen =
            r.list(|r| Ok((r.small()?, r.number()?, Contribution { counted: r.small()?, kinds: r.small()? })))?;
        Ok(PaneState { second, sealed, rows, seen })
    })?;
    e.visitors = r.list(|r| {
        let page = r.small()?;
        let few = r.list(|r| Ok((in_range(r.signed()?)?, r.number()?)))?;
        let many = if r.flag()? { Some((in_range(r.signed()?)?, r.number()?)) } else { None };
        Ok((page, Kept { few, many }))
    })?;
    Ok(e)
}

fn time(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(Timestamp::from_millis)
}

fn second(r: &mut Reader<'_>) -> Result<Option<i64>, ReadError> {
    r.optional()?.map(in_range).transpose()
}

// Seconds are thousandths of what a timestamp can hold, so that sums with them cannot overflow.
fn in_range(second: i64) -> Result<i64, ReadError> {
    if second.unsigned_abs() > i64::MAX as u64 / 1000 { Err(ReadError::Range("a second")) } else { Ok(second) }
}

fn page(r: &mut Reader<'_>) -> Result<PageId, ReadError> {
    PageId::new(r.text()?).map_err(|_| ReadError::Range("a page"))
}

fn temperature(r: &mut Reader<'_>) -> Result<Temperature, ReadError> {
    match r.number()? {
        0 => Ok(Temperature::Cold),
        1 => Ok(Temperature::Warm),
        2 => Ok(Temperature::Hot),
        _ => Err(ReadError::Range("a temperature")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Checkpoint {
        let page = |p: &str| PageId::new(p).unwrap();
        let row = |id| Row { id, events: [1, 0, 300], visitors: [1, 0, 200] };
        let mut c = Checkpoint { sequence: u64::MAX, reached: Some(Timestamp::from_millis(-7)), ..Default::default() };
        let taken = Taken { next: 12, sources: vec![("file-a".to_owned(), 1 << 40), ("ü".to_owned(), 0)] };
        c.partitions.insert(3, PartitionState { taken, newest: Some(Timestamp::from_millis(1_547_000_000_123)) });
        c.partitions.insert(9, PartitionState::default());
        c.since = vec![(page("42"), Temperature::Hot, Timestamp::from_seconds(5))];
        c.engine.head = Some(100);
        c.engine.pages = vec![page("42"), page("7")];
        let seen = vec![(0, u64::MAX, Contribution { counted: 2, kinds: 5 })];
        c.engine.panes = vec![
            PaneState { second: -3, sealed: true, rows: vec![row(0), row(1)], seen: vec![] },
            PaneState { second: 100, sealed: false, rows: vec![row(1)], seen },
        ];
        c.engine.visitors =
            vec![(0, Kept { few: vec![(10, 99)], many: None }), (1, Kept { few: vec![], many: Some((10, 1000)) })];
        c.engine.counters.late = 4;
        c
    }

    #[test]
    fn it_reads_back_what_it_wrote_and_refuses_every_damage() {
        let bytes = encode(&sample());
        assert_eq!(decode(&bytes), Ok(sample()));
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(decode(&flipped).is_err(), "flipped at {at}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_with_a_right_checksum_neither_panics_nor_takes_memory(content in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(content);
            let mut crc = Crc::new();
            crc.update(&bytes);
            bytes.extend(crc.sum().to_le_bytes());
            if let Ok(c) = decode(&bytes) {
                let rules = crate::options::Options::default().rules().unwrap();
                let _ = crate::engine::Engine::restore(rules, c.engine);
            }
        }
    }
}
