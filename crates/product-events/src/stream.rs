//! The outer form of an Arrow IPC stream: messages behind their lengths, each with its body. Every length is checked
//! before it is used; what the messages say is for `read`.

use arrow_ipc::Message;

use crate::DecodeError;

/// What stands before each message's length.
const CONTINUATION: u32 = u32::MAX;

/// The messages of a stream, one after the other.
pub(crate) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub fn new(stream: &'a [u8]) -> Self {
        Self(stream)
    }

    /// The next message and its body; `None` at the end that the stream announces.
    pub fn next(&mut self) -> Result<Option<(Message<'a>, &'a [u8])>, DecodeError> {
        if self.word()? != CONTINUATION {
            return Err(DecodeError::NotArrow("a message does not begin as one"));
        }
        let length = self.word()? as i32;
        if length == 0 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| DecodeError::Length("of a message"))?;
        let head = self.take(length)?;
        let message = arrow_ipc::root_as_message(head).map_err(|_| DecodeError::NotArrow("a message is malformed"))?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| DecodeError::Length("of a body"))?;
        Ok(Some((message, self.take(body)?)))
    }

    /// Nothing may follow the end.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn word(&mut self) -> Result<u32, DecodeError> {
        let (word, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*word))
    }
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}
