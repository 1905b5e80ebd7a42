//! Thrift's compact protocol, as much of it as Parquet's footers need. Reading is bounded by the bytes that are there
//! and never trusts a length.

use std::collections::BTreeMap;

/// Structures within structures; Parquet's footers have six.
const DEEPEST: usize = 12;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Writes one structure; nested ones by closures.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    last: i16,
}

impl Writer {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.out.push((n as u8) | 0x80);
            n >>= 7;
        }
        self.out.push(n as u8);
    }

    fn field(&mut self, id: i16, kind: u8) {
        // Fields come in order and are few: the difference always fits.
        self.out.push((((id - self.last) as u8) << 4) | kind);
        self.last = id;
    }

    pub(super) fn flag(&mut self, id: i16, value: bool) -> &mut Self {
        self.field(id, if value { TRUE } else { FALSE });
        self
    }

    pub(super) fn i32(&mut self, id: i16, n: i32) -> &mut Self {
        self.field(id, I32);
        self.varint(zigzag(n.into()));
        self
    }

    pub(super) fn i64(&mut self, id: i16, n: i64) -> &mut Self {
        self.field(id, I64);
        self.varint(zigzag(n));
        self
    }

    pub(super) fn bytes(&mut self, id: i16, bytes: &[u8]) -> &mut Self {
        self.field(id, BINARY);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self
    }

    pub(super) fn nested(&mut self, id: i16, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.field(id, STRUCT);
        self.structure(write);
        self
    }

    fn structure(&mut self, write: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.last, 0);
        write(self);
        self.out.push(0);
        self.last = outer;
    }

    fn list(&mut self, id: i16, kind: u8, length: usize) {
        self.field(id, LIST);
        if length < 15 {
            self.out.push(((length as u8) << 4) | kind);
        } else {
            self.out.push(0xf0 | kind);
            self.varint(length as u64);
        }
    }

    pub(super) fn structs<T>(&mut self, id: i16, all: &[T], mut write: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.list(id, STRUCT, all.len());
        for one in all {
            self.structure(|w| write(w, one));
        }
        self
    }

    pub(super) fn i32s(&mut self, id: i16, all: &[i32]) -> &mut Self {
        self.list(id, I32, all.len());
        all.iter().for_each(|n| self.varint(zigzag((*n).into())));
        self
    }

    pub(super) fn i64s(&mut self, id: i16, all: &[i64]) -> &mut Self {
        self.list(id, I64, all.len());
        all.iter().for_each(|n| self.varint(zigzag(*n)));
        self
    }

    pub(super) fn flags(&mut self, id: i16, all: &[bool]) -> &mut Self {
        self.list(id, TRUE, all.len());
        self.out.extend(all.iter().map(|b| if *b { TRUE } else { FALSE }));
        self
    }

    pub(super) fn texts<T: AsRef<[u8]>>(&mut self, id: i16, all: &[T]) -> &mut Self {
        self.list(id, BINARY, all.len());
        for one in all {
            self.varint(one.as_ref().len() as u64);
            self.out.extend_from_slice(one.as_ref());
        }
        self
    }

    /// The structure's bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out.push(0);
        self.out
    }
}

const fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Flag(bool),
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Struct(BTreeMap<i16, Value>),
}

impl Value {
    /// A member of a structure.
    pub(super) fn get(&self, id: i16) -> Option<&Self> {
        match self {
            Self::Struct(members) => members.get(&id),
            _ => None,
        }
    }
    pub(super) const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }
    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(all) => Some(all),
            _ => None,
        }
    }
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(b) => Some(b),
            _ => None,
        }
    }
    /// The whole number of a member.
    pub(super) fn number_at(&self, id: i16) -> Option<i64> {
        self.get(id)?.number()
    }
}

/// Reads one structure from the beginning of `bytes`; how many bytes it took.
pub(super) fn read(bytes: &[u8]) -> Option<(Value, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.structure(0)?;
    Some((value, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn number(&mut self) -> Option<i64> {
        let n = self.varint()?;
        Some(((n >> 1) as i64) ^ -((n & 1) as i64))
    }

    fn structure(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        let (mut members, mut last) = (BTreeMap::new(), 0_i16);
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(Value::Struct(members));
            }
            let id = match head >> 4 {
                0 => i16::try_from(self.number()?).ok()?,
                step => last.checked_add(step.into())?,
            };
            last = id;
            let value = match head & 0x0f {
                TRUE => Value::Flag(true),
                FALSE => Value::Flag(false),
                kind => self.value(kind, depth)?,
            };
            members.insert(id, value);
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Option<Value> {
        // Lists nest as well as structures.
        if depth > DEEPEST {
            return None;
        }
        Some(match kind {
            TRUE | FALSE => Value::Flag(self.byte()? == TRUE),
            3 => Value::Number(self.byte()?.into()),
            4..=I64 => Value::Number(self.number()?),
            7 => {
                let end = self.at.checked_add(8)?;
                let bytes = self.bytes.get(self.at..end)?.to_vec();
                self.at = end;
                Value::Bytes(bytes)
            }
            BINARY => {
                let length = usize::try_from(self.varint()?).ok()?;
                let end = self.at.checked_add(length)?;
                let bytes = self.bytes.get(self.at..end)?.to_vec();
                self.at = end;
                Value::Bytes(bytes)
            }
            LIST | 10 => {
                let head = self.byte()?;
                let length = match head >> 4 {
                    15 => usize::try_from(self.varint()?).ok()?,
                    short => short.into(),
                };
                // Each element has at least a byte.
                if length > self.bytes.len() - self.at {
                    return None;
                }
                Value::List((0..length).map(|_| self.value(head & 0x0f, depth + 1)).collect::<Option<_>>()?)
            }
            STRUCT => self.structure(depth + 1)?,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_not() {
        let mut w = Writer::default();
        w.i32(1, -7).i64(4, i64::MIN).bytes(5, b"abc").flag(6, true).nested(7, |w| {
            w.flags(1, &[true, false]).i64s(2, &[1; 20]).texts(3, &["a", ""]).i32s(4, &[]);
        });
        w.structs(9, &[1, 2], |w, n| {
            w.i32(3, *n);
        });
        let bytes = w.finish();
        let (value, taken) = read(&bytes).unwrap();
        assert_eq!(taken, bytes.len());
        assert_eq!((value.number_at(1), value.number_at(4)), (Some(-7), Some(i64::MIN)));
        assert_eq!(value.get(5).unwrap().bytes(), Some(&b"abc"[..]));
        assert_eq!(value.get(7).unwrap().get(1), Some(&Value::List(vec![Value::Flag(true), Value::Flag(false)])));
        assert_eq!(value.get(7).unwrap().get(2).unwrap().list().unwrap().len(), 20);
        assert_eq!(value.get(9).unwrap().list().unwrap()[1].number_at(3), Some(2));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_none(), "{cut}");
        }
        assert!(read(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_none(), "a length is not trusted");
        assert!(read(&[0x1c; 100]).is_none(), "nor is a depth");
        assert!(read(&[0x19; 1 << 20]).is_none(), "of lists either");
    }
}
