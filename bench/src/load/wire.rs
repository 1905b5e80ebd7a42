//! One keep-alive connection: writes a request, reads one answer into a buffer that is kept. It understands what the
//! core's HTTP/1.1 answers are made of (a length, no chunks) and refuses the rest.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Headers of an answer: the core sends at most ten.
const HEADERS: usize = 32;
/// Largest answer; an order is below 600 bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Where the parts of an answer lie in the connection's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Range<usize>,
    pub(super) location: Option<Range<usize>>,
    pub(super) retry_after: Option<u64>,
    close: bool,
}

/// A connection that is made when it is needed.
pub(super) struct Wire {
    targets: Vec<SocketAddr>,
    next: usize,
    stream: Option<TcpStream>,
    /// What was read.
    pub(super) read: Vec<u8>,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
}

fn odd(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The answer at the start of `bytes`, once it is whole.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes).map_err(|_| odd("not an HTTP answer"))? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(None),
    };
    let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let (mut length, mut location, mut retry_after, mut close) = (None, None, None, false);
    for header in response.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            length = number(header.value);
        } else if name.eq_ignore_ascii_case("location") {
            let start = header.value.as_ptr() as usize - bytes.as_ptr() as usize;
            location = Some(start..start + header.value.len());
        } else if name.eq_ignore_ascii_case("retry-after") {
            retry_after = number(header.value);
        } else if name.eq_ignore_ascii_case("connection") {
            close = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let length = length.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| odd("an answer without a length"))?;
    let status = response.code.unwrap_or(0);
    let end = head.checked_add(length).filter(|end| *end <= MAX_ANSWER).ok_or_else(|| odd("an answer too large"))?;
    Ok((bytes.len() >= end).then_some(Answer { status, body: head..end, location, retry_after, close }))
}

impl Wire {
    /// To one of `targets`, this one first.
    pub(super) fn new(targets: &[SocketAddr], first: usize) -> Self {
        Self { targets: targets.to_vec(), next: first, stream: None, read: Vec::with_capacity(4096), out: Vec::new() }
    }

    /// Forgets the connection: an answer may still come on it, to a question that nobody asks any more.
    pub(super) fn break_off(&mut self) {
        self.stream = None;
        // The next try goes to the next core.
        self.next += 1;
    }

    async fn stream(&mut self) -> io::Result<&mut TcpStream> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.targets[self.next % self.targets.len()]).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        self.stream.as_mut().ok_or_else(|| odd("no connection"))
    }

    /// Sends `out` and reads the answer to it.
    pub(super) async fn exchange(&mut self) -> io::Result<Answer> {
        let out = std::mem::take(&mut self.out);
        let mut read = std::mem::take(&mut self.read);
        read.clear();
        let answered = async {
            let stream = self.stream().await?;
            stream.write_all(&out).await?;
            loop {
                if stream.read_buf(&mut read).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if let Some(answer) = parse(&read)? {
                    return Ok(answer);
                }
            }
        }
        .await;
        (self.out, self.read) = (out, read);
        if answered.as_ref().map_or(true, |answer| answer.close) {
            self.stream = None;
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole_and_not_before() {
        let text =
            b"HTTP/1.1 202 Accepted\r\nLocation: /v1/tickets/x\r\nretry-after: 3\r\ncontent-length: 4\r\n\r\nbody";
        for cut in 0..text.len() {
            assert_eq!(parse(&text[..cut]).expect("it may still become one"), None, "{cut}");
        }
        let answer = parse(text).expect("good").expect("whole");
        assert_eq!((answer.status, answer.retry_after), (202, Some(3)));
        assert_eq!(&text[answer.body], b"body");
        assert_eq!(&text[answer.location.expect("given")], b"/v1/tickets/x");
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n").is_err());
    }
}
