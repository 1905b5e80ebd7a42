//! Numbers and text as bytes and back: variable-length integers, lengths before content. A reader never
//! trusts a length: it is compared with what is left before memory is asked for.

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    /// They end too early, or a length points beyond the end.
    #[error("it ends too early")]
    Short,
    /// A value is none that is ever written.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// Not ours, another version, or damaged.
    #[error("{0}")]
    Foreign(&'static str),
}

/// Writes.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n as u8) | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }
    pub(super) fn signed(&mut self, n: i64) {
        self.number(((n << 1) ^ (n >> 63)) as u64);
    }
    pub(super) fn flag(&mut self, b: bool) {
        self.0.push(u8::from(b));
    }
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }
    pub(super) fn optional(&mut self, n: Option<i64>) {
        self.flag(n.is_some());
        if let Some(n) = n {
            self.signed(n);
        }
    }
    pub(super) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }
}

/// Reads.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, ReadError> {
        let (first, rest) = self.0.split_first().ok_or(ReadError::Short)?;
        self.0 = rest;
        Ok(*first)
    }
    pub(super) fn number(&mut self) -> Result<u64, ReadError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(ReadError::Range("a number"))
    }
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, ReadError> {
        T::try_from(self.number()?).map_err(|_| ReadError::Range("a small number"))
    }
    pub(super) fn signed(&mut self) -> Result<i64, ReadError> {
        let n = self.number()?;
        Ok(((n >> 1) as i64) ^ -((n & 1) as i64))
    }
    pub(super) fn flag(&mut self) -> Result<bool, ReadError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ReadError::Range("a flag")),
        }
    }
    pub(super) fn text(&mut self) -> Result<&'a str, ReadError> {
        let length = self.small::<usize>()?;
        if length > self.0.len() {
            return Err(ReadError::Short);
        }
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| ReadError::Range("a text"))
    }
    pub(super) fn optional(&mut self) -> Result<Option<i64>, ReadError> {
        if self.flag()? { self.signed().map(Some) } else { Ok(None) }
    }
    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let length = self.small::<usize>()?;
        // Each item has at least one byte.
        if length > self.0.len() {
            return Err(ReadError::Short);
        }
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(read(self)?);
        }
        Ok(items)
    }
}
