//! The WebSocket row of the bad-input table: each case has one expected end, and who behaves is not disturbed by it.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};

use crate::house::{House, PATIENCE, Seen, Socket};

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_is_good_once_and_for_its_time() {
    let house = House::open_with(2, |live| live.pass_life = Duration::from_secs(2)).await;
    house.sell(10).await;
    for (what, query) in [
        ("no pass", String::new()),
        ("an empty pass", "?pass=".to_owned()),
        ("nonsense", "?pass=x".to_owned()),
        ("one that nobody has", format!("?pass={}", "A".repeat(43))),
        ("a long one", format!("?pass={}", "A".repeat(20_000))),
    ] {
        assert_eq!(house.dial(0, &query, None).await.err(), Some(401), "{what}");
    }
    let used = house.pass(0, "anna").await;
    let mut anna = house.connect_with(0, &used, None, None).await.expect("good once");
    anna.expect("hello").await;
    for core in [0, 1] {
        assert_eq!(house.connect_with(core, &used, None, None).await.err(), Some(401), "a used pass at core {core}");
    }
    let old = house.pass(0, "anna").await;
    tokio::time::sleep(Duration::from_millis(2_100)).await; // The pass's own time, on the real clock.
    assert_eq!(house.connect_with(0, &old, None, None).await.err(), Some(401), "an old pass");
    // Of many who come at once with one pass, over both cores, one is let in.
    let shared = house.pass(0, "anna").await;
    let all = (0..16).map(|n| house.connect_with(n % 2, &shared, None, None));
    let let_in = futures::future::join_all(all).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(let_in, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_call_is_said_before_the_connection_is_open() {
    let house = House::open_with(1, |live| live.origins = vec!["https://shop.example".to_owned()]).await;
    house.sell(10).await;
    let pass = house.pass(0, "anna").await;
    for origin in ["https://evil.example", "null", "https://shop.example.evil.example", "http://shop.example"] {
        assert_eq!(house.connect_with(0, &pass, None, Some(origin)).await.err(), Some(403), "origin {origin}");
    }
    for query in ["&resume_from=-1", "&resume_from=x", "&resume_from=18446744073709551616", "&buyer=ben", "&pass=y"] {
        assert_eq!(house.dial(0, &format!("?pass={pass}{query}"), None).await.err(), Some(422), "{query}");
    }
    let (status, _) = house.call(0, reqwest::Method::GET, &format!("/v1/live?pass={pass}"), "anna", None).await;
    assert_eq!(status, 426, "a plain call");
    // None of these has used it up.
    let mut anna = house.connect_with(0, &pass, None, Some("https://shop.example")).await.expect("still good");
    anna.expect("hello").await;
    anna.expect("snapshot").await;
    // The core's own host is a page of the core.
    let own = format!("http://{}", house.cores[0].handle.public());
    let pass = house.pass(0, "anna").await;
    assert!(house.connect_with(0, &pass, None, Some(&own)).await.is_ok());
}

/// Opens a connection and reads its beginning.
async fn opened(house: &House, buyer: &str) -> Socket {
    let mut socket = house.connect(0, buyer, None).await;
    socket.expect("hello").await;
    socket.expect("snapshot").await;
    socket
}

/// An unfinished text frame, or one that goes on with it.
fn piece(code: OpCode, bytes: &[u8], last: bool) -> Message {
    Message::Frame(Frame::message(bytes.to_vec(), code, last))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_what_is_not_to_be_sent_is_told_why_and_let_go() {
    let house = House::open(1).await;
    house.sell(10).await;
    let mut good = opened(&house, "ben").await;
    let text = |code| OpCode::Data(code);
    let rows: Vec<(&str, Vec<Message>, u16)> = vec![
        ("binary", vec![Message::binary(vec![1, 2, 3])], 1003),
        ("a text that is not understood", vec![Message::text("hello")], 1008),
        ("an order over the wire", vec![Message::text(r#"{"type": "buy"}"#)], 1008),
        ("a field too many", vec![Message::text(r#"{"type": "ping", "x": 1}"#)], 1008),
        ("bad UTF-8", vec![piece(text(Data::Text), b"\xff\xfe", true)], 1007),
        ("oversize", vec![Message::text("x".repeat(5_000))], 1009),
        ("a megabyte", vec![Message::binary(vec![0; 1 << 20])], 1009),
        (
            "fragments without end",
            std::iter::once(piece(text(Data::Text), &[b'x'; 1_000], false))
                .chain((0..8).map(|_| piece(text(Data::Continue), &[b'x'; 1_000], false)))
                .collect(),
            1009,
        ),
        (
            "empty fragments without end",
            std::iter::once(piece(text(Data::Text), b"", false))
                .chain((0..5_000).map(|_| piece(text(Data::Continue), b"", false)))
                .chain([piece(text(Data::Text), b"another", true)])
                .collect(),
            1002,
        ),
        ("the end of nothing", vec![piece(text(Data::Continue), b"x", true)], 1002),
        ("an unknown kind of frame", vec![piece(OpCode::Data(Data::Reserved(5)), b"x", true)], 1002),
        ("a ping of 200 bytes", vec![Message::Frame(Frame::ping(vec![0; 200]))], 1002),
        ("a ping flood", (0..2_000).map(|_| Message::Ping(b"x".to_vec().into())).collect(), 1008),
        ("a flood of pings in words", (0..2_000).map(|_| Message::text(r#"{"type": "ping"}"#)).collect(), 1008),
        ("a flood of pongs", (0..2_000).map(|_| Message::Pong(b"".to_vec().into())).collect(), 1008),
    ];
    let mut wrong = Vec::new();
    for (what, messages, code) in rows {
        let mut socket = opened(&house, "eve").await;
        for message in messages {
            // The core may have gone in the middle of it; that is what it is asked about below.
            if socket.socket.feed(message).await.is_err() {
                break;
            }
        }
        let _gone = socket.socket.flush().await;
        let end = socket.end().await;
        // Who still writes when the core has closed may lose its last word to a reset, and then he has no code.
        if end != Some(code) && !(end.is_none() && code != 1003) {
            wrong.push((what, end));
        }
    }
    assert_eq!(wrong, []);
    // A client's good-bye is answered, whatever it says.
    let mut socket = opened(&house, "eve").await;
    let frame = CloseFrame { code: CloseCode::Library(4999), reason: "x".into() };
    socket.send(Message::Close(Some(frame))).await;
    assert!(matches!(socket.next().await, Seen::Closed(_)));
    // All that has not disturbed who behaves.
    good.send(Message::text(r#"{"type": "ping"}"#)).await;
    good.expect("pong").await;
    let order = house.buy(0, "ben").await;
    assert_eq!(good.step().await, (order, "accepted".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_a_mask_end_the_connection() {
    let house = House::open(1).await;
    house.sell(10).await;
    let pass = house.pass(0, "anna").await;
    let at = house.cores[0].handle.public();
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let ask = format!(
        "GET /v1/live?pass={pass} HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    // A text of two bytes, not masked (RFC 6455, 5.1: the server must close).
    stream.write_all(&[ask.as_bytes(), &[0x81, 2, b'h', b'i']].concat()).await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _reset = end.expect("it ends");
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    assert!(answer.windows(2).any(|two| two == 1002u16.to_be_bytes()), "with a code that says why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_from_the_future_gets_a_snapshot_and_is_told_so() {
    let house = House::open(2).await;
    house.sell(10).await;
    house.buy(0, "anna").await;
    for (core, cursor, orders) in [(0, 1_000_000, 1), (1, u64::MAX, 2)] {
        let mut anna = house.connect(core, "anna", Some(cursor)).await;
        assert_eq!(anna.expect("hello").await["begin"], "future");
        // From here on his cursor is one that there is.
        let snapshot = anna.expect("snapshot").await;
        assert_eq!(snapshot["orders"].as_array().map(Vec::len), Some(orders));
        let order = house.buy(core, "anna").await;
        assert_eq!(anna.step().await, (order, "accepted".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_is_dropped_and_who_answers_no_heartbeat_too() {
    let house = House::open_with(1, |live| live.heartbeat = Duration::from_millis(300)).await;
    house.sell(10).await;
    // Reads, and never answers: the library would answer pings by itself, so this one speaks by hand.
    let pass = house.pass(0, "anna").await;
    let at = house.cores[0].handle.public();
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let ask = format!(
        "GET /v1/live?pass={pass} HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _reset = end.expect("a silent connection is closed");
    assert!(answer.windows(2).any(|two| two == 4001u16.to_be_bytes()), "with the code of silence");

    // Never reads: what the kernel takes of it is some megabytes, then it is slow or silent, and gone.
    let sleeper = house.connect(0, "carl", None).await;
    let begun = std::time::Instant::now();
    while house.open_connections(0) > 0 {
        assert!(begun.elapsed() < PATIENCE, "it is still held");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(sleeper);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_of_one_buyer_end_his_oldest_and_a_full_core_says_so() {
    let house = House::open_with(1, |live| (live.per_buyer, live.max_connections) = (2, 3)).await;
    house.sell(10).await;
    let mut first = opened(&house, "anna").await;
    let _second = opened(&house, "anna").await;
    let _third = opened(&house, "anna").await;
    assert_eq!(first.end().await, Some(4002));
    let _ben = opened(&house, "ben").await;
    let pass = house.pass(0, "carl").await;
    assert_eq!(house.connect_with(0, &pass, None, None).await.err(), Some(503));
    // The pass is not used up by that.
    drop(_ben);
    let begun = std::time::Instant::now();
    while house.open_connections(0) >= 3 {
        assert!(begun.elapsed() < PATIENCE, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(house.connect_with(0, &pass, None, None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_goes_says_so_and_the_other_goes_on_with_the_cursor() {
    let mut house = House::open(2).await;
    house.sell(10).await;
    let mut anna = opened(&house, "anna").await;
    let cursor = anna.cursor;
    house.stop(0).await;
    assert_eq!(anna.end().await, Some(1012));
    let order = house.buy(1, "anna").await;
    let mut again = house.connect(1, "anna", cursor).await;
    assert_eq!(again.expect("hello").await["begin"], "resumed");
    assert_eq!(again.step().await, (order, "accepted".to_owned()));
    // Nothing of the client is left to be closed.
    again.socket.close(None).await.unwrap();
    while again.socket.next().await.is_some_and(|frame| frame.is_ok()) {}
}
