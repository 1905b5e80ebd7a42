//! A record's bytes back into events. The columns are read by hand from the stream's bodies, because they are always
//! the same six: nothing is allocated that the record's own length does not vouch for, and no input panics.

use std::collections::HashMap;

use arrow_ipc::{Buffer, Endianness, Field, Message, RecordBatch, Schema, TimeUnit, Type};
use types::codec;
use types::{AccessEvent, EventBatch, EventKind, PageId, Timestamp, VisitorHash};

use crate::columns::ZONE;
use crate::stream::Messages;
use crate::{DecodeError, MAX_AT, MAX_EVENTS, MAX_STATUS, MAX_VALUE, SOURCE, VERSION, numbered_kind, page};

/// Names of the columns, in their order.
const NAMES: [&str; 6] = ["page", "kind", "visitor", "status", "at", "offset"];

/// A batch as it lies in its record: each page once, events by the number of their page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Identity of the log file, as in [`EventBatch`].
    pub source: String,
    /// The pages, each once.
    pub pages: Vec<PageId>,
    /// The events, in order of their offsets.
    pub events: Vec<Numbered>,
}

/// One event of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// Which of the batch's pages.
    pub page: u32,
    /// What was done.
    pub kind: EventKind,
    /// By whom.
    pub visitor: VisitorHash,
    /// HTTP status, 0 to 999.
    pub status: u16,
    /// When, by the log.
    pub at: Timestamp,
    /// Byte offset of the line in its source.
    pub offset: u64,
}

impl From<EventBatch> for Batch {
    fn from(batch: EventBatch) -> Self {
        let (mut numbers, mut pages) = (HashMap::new(), Vec::new());
        let number = |event: AccessEvent| {
            let AccessEvent { page, kind, visitor, status, at, offset } = event;
            let page = *numbers.entry(page).or_insert_with_key(|page: &PageId| {
                pages.push(page.clone());
                (pages.len() - 1) as u32
            });
            Numbered { page, kind, visitor, status, at, offset }
        };
        let events = batch.events.into_iter().map(number).collect();
        Self { source: batch.source, pages, events }
    }
}

impl From<Batch> for EventBatch {
    fn from(batch: Batch) -> Self {
        let event = |event: Numbered| {
            let Numbered { page, kind, visitor, status, at, offset } = event;
            AccessEvent { page: batch.pages[page as usize].clone(), kind, visitor, status, at, offset }
        };
        Self { events: batch.events.into_iter().map(event).collect(), source: batch.source }
    }
}

/// The batch in a record's value, each event with its page; versions 1 and 2.
pub fn decode(value: &[u8]) -> Result<EventBatch, DecodeError> {
    decode_batch(value).map(EventBatch::from)
}

/// The batch in a record's value as it lies there; versions 1 and 2.
pub fn decode_batch(value: &[u8]) -> Result<Batch, DecodeError> {
    match value {
        [] => Err(DecodeError::Empty),
        _ if value.len() > MAX_VALUE => Err(DecodeError::TooLarge(value.len())),
        [codec::VERSION, ..] => json(value).map(Batch::from),
        [VERSION, stream @ ..] => arrow(stream),
        [version, ..] => Err(DecodeError::Version(*version)),
    }
}

/// Version 1, held to the bounds of version 2: what is read can be written again, whichever way it came.
fn json(value: &[u8]) -> Result<EventBatch, DecodeError> {
    let batch: EventBatch = codec::decode(value).map_err(DecodeError::Json)?;
    for (at, event) in batch.events.iter().enumerate() {
        if event.status > MAX_STATUS {
            return Err(DecodeError::Value { column: "status", at });
        }
        if !is_time(event.at.millis()) {
            return Err(DecodeError::Value { column: "at", at });
        }
    }
    Ok(batch)
}

/// Whether a log may say so: the years 1970 to 9999.
fn is_time(millis: i64) -> bool {
    (0..=MAX_AT).contains(&millis)
}

fn arrow(stream: &[u8]) -> Result<Batch, DecodeError> {
    let mut messages = Messages::new(stream);
    let (message, _) = messages.next()?.ok_or(DecodeError::NotArrow("there is no schema"))?;
    let schema = message.header_as_schema().ok_or(DecodeError::NotArrow("it does not begin with its schema"))?;
    let (source, dictionary) = check_schema(&schema)?;

    let (message, body) = messages.next()?.ok_or(DecodeError::NotArrow("there is no dictionary"))?;
    let pages = read_pages(&message, body, dictionary)?;

    let (message, body) = messages.next()?.ok_or(DecodeError::NotArrow("there are no events"))?;
    let events = read_events(&message, body, pages.len())?;

    if messages.next()?.is_some() || !messages.is_over() {
        return Err(DecodeError::NotArrow("something follows the events"));
    }
    Ok(Batch { source, pages, events })
}

/// The source and the dictionary's id, if the columns are ours.
fn check_schema(schema: &Schema<'_>) -> Result<(String, i64), DecodeError> {
    if schema.endianness() != Endianness::Little {
        return Err(DecodeError::Columns("they are big-endian".to_owned()));
    }
    let fields = schema.fields().ok_or_else(|| DecodeError::Columns("there are none".to_owned()))?;
    if let Some(extra) = fields.iter().nth(NAMES.len()) {
        return Err(DecodeError::Columns(format!("{:?} is one too many", extra.name().unwrap_or_default())));
    }
    if fields.len() < NAMES.len() {
        return Err(DecodeError::Columns(format!("{} is missing", NAMES[fields.len()])));
    }
    let mut dictionary = 0;
    for (name, field) in NAMES.into_iter().zip(fields.iter()) {
        if field.name() != Some(name) {
            return Err(DecodeError::Columns(format!("{:?} stands for {name}", field.name().unwrap_or_default())));
        }
        if !fits(name, &field) {
            return Err(DecodeError::Columns(format!("{name} has another type")));
        }
        if let Some(encoding) = field.dictionary() {
            dictionary = encoding.id();
        }
    }
    let metadata = schema.custom_metadata().into_iter().flatten();
    let source = metadata.into_iter().find(|pair| pair.key() == Some(SOURCE)).and_then(|pair| pair.value());
    let source = source.ok_or_else(|| DecodeError::Columns("no source is named".to_owned()))?;
    Ok((source.to_owned(), dictionary))
}

/// Whether a column has the type that its name asks for.
fn fits(name: &str, field: &Field<'_>) -> bool {
    let unsigned = |bits| field.type_as_int().is_some_and(|int| int.bitWidth() == bits && !int.is_signed());
    let index = field.dictionary().and_then(|dictionary| dictionary.indexType());
    let plain = field.dictionary().is_none() && !field.nullable();
    match name {
        "page" => {
            field.type_type() == Type::Utf8
                && !field.nullable()
                && index.is_some_and(|int| int.bitWidth() == 32 && int.is_signed())
        }
        "kind" => plain && unsigned(8),
        "status" => plain && unsigned(16),
        "visitor" | "offset" => plain && unsigned(64),
        _ => {
            plain
                && field.type_as_timestamp().is_some_and(|timestamp| {
                    timestamp.unit() == TimeUnit::MILLISECOND && timestamp.timezone() == Some(ZONE)
                })
        }
    }
}

fn read_pages(message: &Message<'_>, body: &[u8], dictionary: i64) -> Result<Vec<PageId>, DecodeError> {
    let header = message.header_as_dictionary_batch().ok_or(DecodeError::NotArrow("the dictionary is missing"))?;
    if header.id() != dictionary || header.isDelta() {
        return Err(DecodeError::NotArrow("the dictionary is another one"));
    }
    let batch = header.data().ok_or(DecodeError::NotArrow("the dictionary is empty"))?;
    let body = Body::new(&batch, body, &[2])?;
    let ends: Vec<usize> = if body.rows == 0 {
        vec![0]
    } else {
        body.column(1, body.rows + 1, |b: [u8; 4]| i32::from_le_bytes(b))?
            .map(|end| usize::try_from(end).map_err(|_| DecodeError::Length("of a page")))
            .collect::<Result<_, _>>()?
    };
    let text = body.buffer(2)?;
    ends.windows(2)
        .enumerate()
        .map(|(at, ends)| {
            let said = text.get(ends[0]..ends[1]).ok_or(DecodeError::Length("of a page"))?;
            page(said).ok_or(DecodeError::Value { column: "page", at })
        })
        .collect()
}

fn read_events(message: &Message<'_>, body: &[u8], pages: usize) -> Result<Vec<Numbered>, DecodeError> {
    let header = message.header_as_record_batch().ok_or(DecodeError::NotArrow("there are no events"))?;
    let body = Body::new(&header, body, &[1; NAMES.len()])?;
    let rows = body.rows;
    let wrong = |column: &'static str, at: usize| DecodeError::Value { column, at };
    // Each column has two buffers; the first says which values are missing, and none is.
    let columns = body
        .column(1, rows, |b: [u8; 4]| i32::from_le_bytes(b))?
        .zip(body.column(3, rows, |b: [u8; 1]| b[0])?)
        .zip(body.column(5, rows, |b: [u8; 8]| u64::from_le_bytes(b))?)
        .zip(body.column(7, rows, |b: [u8; 2]| u16::from_le_bytes(b))?)
        .zip(body.column(9, rows, |b: [u8; 8]| i64::from_le_bytes(b))?)
        .zip(body.column(11, rows, |b: [u8; 8]| u64::from_le_bytes(b))?);
    let mut events = Vec::with_capacity(rows);
    for (row, (((((page, kind), visitor), status), at), offset)) in columns.enumerate() {
        let known = u32::try_from(page).ok().filter(|page| (*page as usize) < pages);
        events.push(Numbered {
            page: known.ok_or(DecodeError::PageIndex(row))?,
            kind: numbered_kind(kind).ok_or_else(|| wrong("kind", row))?,
            visitor: VisitorHash(visitor),
            status: Some(status).filter(|status| *status <= MAX_STATUS).ok_or_else(|| wrong("status", row))?,
            at: Some(at).filter(|at| is_time(*at)).map(Timestamp::from_millis).ok_or_else(|| wrong("at", row))?,
            offset,
        });
    }
    Ok(events)
}

/// The buffers of one batch.
struct Body<'a> {
    rows: usize,
    buffers: Vec<Buffer>,
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    /// A batch whose columns have as many buffers, beside the one for missing values, as `buffers` says.
    fn new(batch: &RecordBatch<'_>, bytes: &'a [u8], buffers: &[usize]) -> Result<Self, DecodeError> {
        if batch.compression().is_some() {
            return Err(DecodeError::Compressed);
        }
        let rows = usize::try_from(batch.length()).map_err(|_| DecodeError::Length("of a batch"))?;
        if rows > MAX_EVENTS {
            return Err(DecodeError::TooMany(rows as u64));
        }
        let nodes = batch.nodes().ok_or(DecodeError::NotArrow("a batch has no columns"))?;
        let whole = |node: &arrow_ipc::FieldNode| node.length() == batch.length() && node.null_count() == 0;
        if nodes.len() != buffers.len() || !nodes.iter().all(whole) {
            return Err(DecodeError::Length("of a column"));
        }
        let parts = batch.buffers().ok_or(DecodeError::NotArrow("a batch has no buffers"))?;
        if parts.len() != buffers.iter().map(|data| data + 1).sum::<usize>() {
            return Err(DecodeError::NotArrow("a batch has other buffers"));
        }
        Ok(Self { rows, buffers: parts.iter().copied().collect(), bytes })
    }

    fn buffer(&self, number: usize) -> Result<&'a [u8], DecodeError> {
        let wrong = DecodeError::Length("of a buffer");
        let part = self.buffers.get(number).ok_or(wrong.clone())?;
        let start = usize::try_from(part.offset()).map_err(|_| wrong.clone())?;
        let length = usize::try_from(part.length()).map_err(|_| wrong.clone())?;
        start.checked_add(length).and_then(|end| self.bytes.get(start..end)).ok_or(wrong)
    }

    /// The first `count` values of a buffer, `N` bytes each.
    fn column<const N: usize, T>(
        &self,
        number: usize,
        count: usize,
        value: impl Fn([u8; N]) -> T + 'a,
    ) -> Result<impl Iterator<Item = T> + 'a, DecodeError> {
        let length = count.checked_mul(N).ok_or(DecodeError::Length("of a buffer"))?;
        let bytes = self.buffer(number)?.get(..length).ok_or(DecodeError::Length("of a buffer"))?;
        Ok(bytes.as_chunks::<N>().0.iter().map(move |chunk| value(*chunk)))
    }
}
