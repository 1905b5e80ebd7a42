//! A batch in the making: events go straight into columns, their pages into a dictionary. Nothing is allocated
//! per event, and the buffers are used again for the next batch.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;

use arrow_array::types::{Int32Type, TimestampMillisecondType, UInt8Type, UInt16Type, UInt64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, DictionaryArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::FxHasher;
use types::{EventKind, Timestamp, VisitorHash};

use crate::{EncodeError, Event, MAX_EVENTS, MAX_VALUE, SOURCE, VERSION, kind_number, numbered_kind};

/// Zone of column `at`, as Arrow writes it.
pub(crate) const ZONE: &str = "UTC";

/// Events on their way into one record.
#[derive(Debug, Default)]
pub struct Columns {
    page: Vec<i32>,
    kind: Vec<u8>,
    visitor: Vec<u64>,
    status: Vec<u16>,
    at: Vec<i64>,
    offset: Vec<u64>,
    pages: Pages,
    /// Whether an event came behind one with a later offset.
    unordered: bool,
}

/// The dictionary: each page once, in the order they came.
#[derive(Debug, Default)]
struct Pages {
    text: Vec<u8>,
    ends: Vec<i32>,
    index: HashTable<i32>,
}

impl Pages {
    fn page(&self, number: i32) -> &str {
        let at = number as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        // Whole pages are text.
        std::str::from_utf8(&self.text[start..self.ends[at] as usize]).unwrap_or_default()
    }

    fn intern(&mut self, page: &str) -> i32 {
        let hasher = BuildHasherDefault::<FxHasher>::default();
        let Self { text, ends, index } = self;
        let said = |number: &i32| {
            let at = *number as usize;
            let start = if at == 0 { 0 } else { ends[at - 1] as usize };
            &text[start..ends[at] as usize]
        };
        let entry = index.entry(
            hasher.hash_one(page.as_bytes()),
            |number| said(number) == page.as_bytes(),
            |number| hasher.hash_one(said(number)),
        );
        match entry {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(vacant) => {
                let number = ends.len() as i32;
                vacant.insert(number);
                text.extend_from_slice(page.as_bytes());
                ends.push(text.len() as i32);
                number
            }
        }
    }
}

impl Columns {
    /// Appends an event. Readers want rising offsets; if one may come late, [`Self::sort`] before the end.
    #[inline]
    pub fn push(&mut self, event: &Event<'_>) {
        self.page.push(self.pages.intern(event.page));
        self.kind.push(kind_number(event.kind));
        self.visitor.push(event.visitor.0);
        self.status.push(event.status);
        self.at.push(event.at.millis());
        self.unordered |= self.offset.last().is_some_and(|last| *last > event.offset);
        self.offset.push(event.offset);
    }

    /// The events so far, in the order in which they came.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        (0..self.len()).map(|row| Event {
            page: self.pages.page(self.page[row]),
            // Both were pushed as what they are read as.
            kind: numbered_kind(self.kind[row]).unwrap_or(EventKind::View),
            visitor: VisitorHash(self.visitor[row]),
            status: self.status[row],
            at: Timestamp::from_millis(self.at[row]),
            offset: self.offset[row],
        })
    }
    /// Events in it.
    pub fn len(&self) -> usize {
        self.page.len()
    }
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.page.is_empty()
    }
    /// Whether another event should go into the next batch, so that this one's record is taken.
    pub fn is_full(&self) -> bool {
        self.len() >= MAX_EVENTS || self.pages.text.len() >= MAX_VALUE / 4
    }
    /// Forgets the events, keeps the buffers.
    pub fn clear(&mut self) {
        self.page.clear();
        self.kind.clear();
        self.visitor.clear();
        self.status.clear();
        self.at.clear();
        self.offset.clear();
        self.unordered = false;
        self.pages.text.clear();
        self.pages.ends.clear();
        self.pages.index.clear();
    }

    /// The record's value; begins anew with the same buffers, also after an error.
    pub fn finish(&mut self, source: &str) -> Result<Vec<u8>, EncodeError> {
        let events = self.len();
        if events > MAX_EVENTS {
            self.clear();
            return Err(EncodeError::TooLarge { events, bytes: 0 });
        }
        let result = self.write(source);
        self.clear();
        match result? {
            value if value.len() > MAX_VALUE => Err(EncodeError::TooLarge { events, bytes: value.len() }),
            value => Ok(value),
        }
    }

    /// Puts the events in the order of their offsets; costs nothing if they came so.
    pub fn sort(&mut self) {
        fn arrange<T: Copy>(values: &mut Vec<T>, order: &[usize]) {
            *values = order.iter().map(|row| values[*row]).collect();
        }
        if !std::mem::take(&mut self.unordered) {
            return;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|row| self.offset[*row]);
        arrange(&mut self.page, &order);
        arrange(&mut self.kind, &order);
        arrange(&mut self.visitor, &order);
        arrange(&mut self.status, &order);
        arrange(&mut self.at, &order);
        arrange(&mut self.offset, &order);
    }

    fn write(&mut self, source: &str) -> Result<Vec<u8>, EncodeError> {
        let mut value = Vec::with_capacity(1024 + 32 * self.len() + self.pages.text.len() + 4 * self.pages.ends.len());
        value.push(VERSION);
        let mut ends = Vec::with_capacity(self.pages.ends.len() + 1);
        ends.push(0);
        ends.extend_from_slice(&self.pages.ends);
        let pages = StringArray::try_new(
            OffsetBuffer::new(ScalarBuffer::from(ends)),
            std::mem::take(&mut self.pages.text).into(),
            None,
        )?;
        let page = Lent::new(&mut self.page);
        let kind = Lent::new(&mut self.kind);
        let visitor = Lent::new(&mut self.visitor);
        let status = Lent::new(&mut self.status);
        let at = Lent::new(&mut self.at);
        let offset = Lent::new(&mut self.offset);
        {
            let page: PrimitiveArray<Int32Type> = page.array();
            let at: PrimitiveArray<TimestampMillisecondType> = at.array();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(DictionaryArray::try_new(page, Arc::new(pages))?),
                Arc::new(kind.array::<UInt8Type>()),
                Arc::new(visitor.array::<UInt64Type>()),
                Arc::new(status.array::<UInt16Type>()),
                Arc::new(at.with_timezone(ZONE)),
                Arc::new(offset.array::<UInt64Type>()),
            ];
            let schema = Arc::new(schema(source));
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
            let mut writer = StreamWriter::try_new(&mut value, &schema)?;
            writer.write(&batch)?;
            writer.finish()?;
        }
        page.give_back(&mut self.page);
        kind.give_back(&mut self.kind);
        visitor.give_back(&mut self.visitor);
        status.give_back(&mut self.status);
        at.give_back(&mut self.at);
        offset.give_back(&mut self.offset);
        Ok(value)
    }
}

/// A column's buffer while Arrow holds it.
struct Lent<T: arrow_buffer::ArrowNativeType>(ScalarBuffer<T>);

impl<T: arrow_buffer::ArrowNativeType> Lent<T> {
    fn new(values: &mut Vec<T>) -> Self {
        Self(ScalarBuffer::from(std::mem::take(values)))
    }
    fn array<A: ArrowPrimitiveType<Native = T>>(&self) -> PrimitiveArray<A> {
        PrimitiveArray::new(self.0.clone(), None)
    }
    fn give_back(self, values: &mut Vec<T>) {
        // Arrow is done with it, so it is ours alone; if not, a new buffer is as good.
        if let Ok(buffer) = self.0.into_inner().into_vec() {
            *values = buffer;
        }
    }
}

/// The columns, with the source beside them.
pub(crate) fn schema(source: &str) -> Schema {
    let page = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Schema::new_with_metadata(
        vec![
            Field::new("page", page, false),
            Field::new("kind", DataType::UInt8, false),
            Field::new("visitor", DataType::UInt64, false),
            Field::new("status", DataType::UInt16, false),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some(ZONE.into())), false),
            Field::new("offset", DataType::UInt64, false),
        ],
        [(SOURCE.to_owned(), source.to_owned())].into(),
    )
}
