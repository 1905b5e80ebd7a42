//! One open connection: what it is told first, its events as they come, the heart-beat, and its end with a code that
//! says what to do. It keeps nothing when it ends; the client has his cursor.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite;
use types::OrderEvent;

use super::hub::{Dismissed, Past, Place};
use super::message::{Begin, Heard, Said};
use super::metrics;
use crate::shared::Shared;
use crate::stock::live_store::Standing;
use crate::stock::sql_store::SqlStore;

/// Orders in a snapshot, newest first; a buyer who has more asks `GET /v1/orders`.
const ORDERS: usize = 100;
/// Longest wait for a client to take a frame: network time, so of the machine's own clock.
const WRITE: Duration = Duration::from_secs(5);
/// Longest wait for a snapshot: above it SQL is not well and the client does better elsewhere.
const SNAPSHOT: Duration = Duration::from_secs(5);
/// Longest wait for the client's own good-bye, so that ours is read before the connection is gone.
const FAREWELL: Duration = Duration::from_secs(1);
/// Frames that a client may send at once, and how many a second after that. Pongs and a ping now and then are all
/// that there is to say.
const BURST: f64 = 30.0;
const PER_SECOND: f64 = 2.0;

/// How a connection ended. A closed set: it is also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client left.
    Left,
    /// The connection broke, or the client broke it off in the middle of a frame.
    Broken,
    /// What came is no WebSocket frame.
    Protocol,
    /// A binary message.
    Binary,
    /// A text that is no text.
    NoText,
    /// A text that is not understood.
    NotUnderstood,
    /// A frame or message beyond the bound.
    TooLarge,
    /// More frames than there is to say.
    Flood,
    /// Too many events waited for it.
    Slow,
    /// It answered no heart-beat.
    Silent,
    /// The buyer has opened too many newer ones.
    Replaced,
    /// The database is another: what the client knows may be wrong.
    Reset,
    /// SQL did not say where the orders stand.
    Unavailable,
    /// This core goes.
    Shutdown,
}

impl End {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Broken => "broken",
            Self::Protocol => "protocol",
            Self::Binary => "binary",
            Self::NoText => "no_text",
            Self::NotUnderstood => "not_understood",
            Self::TooLarge => "too_large",
            Self::Flood => "flood",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::Reset => "reset",
            Self::Unavailable => "unavailable",
            Self::Shutdown => "shutdown",
        }
    }

    /// Close code and reason (RFC 6455, 7.4); `None` where nobody listens any more.
    const fn said(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Left | Self::Broken => None,
            Self::Protocol => Some((1002, "not a WebSocket frame")),
            Self::Binary => Some((1003, "only text is taken")),
            Self::NoText => Some((1007, "text must be UTF-8")),
            Self::NotUnderstood => Some((1008, "not understood: send {\"type\":\"ping\"} or nothing")),
            Self::TooLarge => Some((1009, "frames and messages are at most 4096 bytes")),
            Self::Flood => Some((1008, "too many frames")),
            Self::Slow => Some((4000, "too slow: resume with your last cursor")),
            Self::Silent => Some((4001, "no answer to the heart-beat: resume with your last cursor")),
            Self::Replaced => Some((4002, "you have opened too many newer connections")),
            Self::Reset => Some((4003, "the order of events began anew: connect without a cursor")),
            Self::Unavailable => Some((1013, "try again later")),
            Self::Shutdown => Some((1012, "this core goes: resume with your last cursor, at once, elsewhere")),
        }
    }

    fn of_error(error: axum::Error) -> Self {
        use tungstenite::Error;
        match error.into_inner().downcast::<Error>().map(|error| *error) {
            Ok(Error::Capacity(_)) => Self::TooLarge,
            Ok(Error::Utf8(_)) => Self::NoText,
            Ok(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => Self::Broken,
            Ok(Error::Protocol(_)) => Self::Protocol,
            Ok(_) | Err(_) => Self::Broken,
        }
    }
}

/// How many frames a client may still send.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }
    fn spend(&mut self, now: Instant) -> Result<(), End> {
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * PER_SECOND).min(BURST) - 1.0;
        self.at = now;
        if self.left < 0.0 { Err(End::Flood) } else { Ok(()) }
    }
}

/// Serves the connection to its end.
pub(crate) async fn serve(
    mut socket: WebSocket,
    shared: Arc<Shared>,
    store: Arc<dyn SqlStore>,
    place: Place,
    cursor: Option<u64>,
) {
    let end = match Box::pin(begin(&mut socket, &shared, &*store, place, cursor)).await {
        Ok(open) => open.run(&mut socket, &shared).await,
        Err(end) => end,
    };
    metrics::ended(end.as_str());
    if let Some((code, reason)) = end.said() {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let farewell = async {
            if socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = socket.recv().await {}
            }
        };
        // Who does not even read this loses the connection without it.
        let _silent = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

/// Says hello and what was missed.
async fn begin(
    socket: &mut WebSocket,
    shared: &Shared,
    store: &dyn SqlStore,
    mut place: Place,
    cursor: Option<u64>,
) -> Result<Open, End> {
    let past = std::mem::replace(&mut place.past, Past::Unknown);
    let (begin, standing) = match (past, cursor) {
        (Past::Events(events), Some(cursor)) => {
            let mut open = Open { place, cursor };
            hello(socket, shared, Begin::Resumed, Some(cursor)).await?;
            for event in events {
                open.push(socket, &event).await?;
            }
            return Ok(open);
        }
        (Past::Ahead, Some(cursor)) => {
            let standing = standing(shared, store, &place).await?;
            if standing.through >= cursor {
                // Another core was quicker than this one; what comes up to his cursor is left out.
                hello(socket, shared, Begin::Resumed, Some(cursor)).await?;
                return Ok(Open { place, cursor });
            }
            (Begin::Future, standing)
        }
        (Past::TooOld, _) => (Begin::TooOld, standing(shared, store, &place).await?),
        (Past::Unknown | Past::Events(_) | Past::Ahead, _) => (Begin::New, standing(shared, store, &place).await?),
    };
    hello(socket, shared, begin, None).await?;
    let complete = standing.orders.len() < ORDERS;
    for part in Said::snapshot(&standing.orders, standing.through, complete) {
        write(socket, Message::text(part.text())).await?;
    }
    // The snapshot was read after the place was taken: what came in between is in the queue, and what the snapshot
    // shows already is left out by the cursor.
    Ok(Open { place, cursor: standing.through })
}

async fn hello(socket: &mut WebSocket, shared: &Shared, begin: Begin, cursor: Option<u64>) -> Result<(), End> {
    metrics::opened(begin.as_str());
    let heartbeat_ms = u64::try_from(shared.live.options.heartbeat.as_millis()).unwrap_or(u64::MAX);
    let hello = Said::Hello { time: shared.now(), begin, cursor, heartbeat_ms };
    write(socket, Message::text(hello.text())).await
}

async fn standing(shared: &Shared, store: &dyn SqlStore, place: &Place) -> Result<Standing, End> {
    let ask = async {
        let _permit = shared.live.snapshots.acquire().await.ok()?;
        match store.standing(&place.buyer, ORDERS).await {
            Ok(standing) => Some(standing),
            Err(error) => {
                tracing::warn!(%error, "a live connection had no snapshot");
                None
            }
        }
    };
    tokio::time::timeout(SNAPSHOT, ask).await.ok().flatten().ok_or(End::Unavailable)
}

async fn write(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(WRITE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Broken),
        Err(_) => Err(End::Slow),
    }
}

struct Open {
    place: Place,
    /// Everything of his up to here was sent.
    cursor: u64,
}

impl Open {
    async fn push(&mut self, socket: &mut WebSocket, event: &OrderEvent) -> Result<(), End> {
        if event.sequence <= self.cursor {
            return Ok(());
        }
        write(socket, Message::text(Said::order(event).text())).await?;
        self.cursor = event.sequence;
        Ok(())
    }

    fn dismissed(&self) -> End {
        match self.place.dismissed() {
            Dismissed::Slow => End::Slow,
            Dismissed::Replaced => End::Replaced,
            Dismissed::Reset => End::Reset,
        }
    }

    async fn run(mut self, socket: &mut WebSocket, shared: &Shared) -> End {
        let every = shared.live.options.heartbeat;
        let begun = Instant::now();
        let mut beat = tokio::time::interval_at(begun + every, every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut allowance) = (begun, Allowance::new(begun));
        loop {
            let step = tokio::select! {
                biased;
                () = shared.live.closing.cancelled() => Err(End::Shutdown),
                _ = beat.tick() => {
                    if heard.elapsed() >= every * 2 { Err(End::Silent) } else { self.beat(socket, shared).await }
                }
                event = self.place.queue.recv() => match event {
                    Some(event) => self.push(socket, &event).await,
                    None => Err(self.dismissed()),
                },
                frame = socket.recv() => {
                    heard = Instant::now();
                    match (allowance.spend(heard), frame) {
                        (Err(end), Some(Ok(_))) => Err(end),
                        (_, frame) => hear(socket, shared, frame).await,
                    }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Asks whether the client lives, and moves his cursor on although nothing of his happened.
    async fn beat(&mut self, socket: &mut WebSocket, shared: &Shared) -> Result<(), End> {
        // What is in the queue by now is all of his up to this head.
        let head = shared.live.head();
        loop {
            match self.place.queue.try_recv() {
                Ok(event) => self.push(socket, &event).await?,
                Err(TryRecvError::Empty) => break,
                // An event of his was not put there any more: his cursor must not pass it.
                Err(TryRecvError::Disconnected) => return Err(self.dismissed()),
            }
        }
        self.cursor = self.cursor.max(head);
        let beat = Said::Beat { time: shared.now(), cursor: self.cursor };
        write(socket, Message::text(beat.text())).await?;
        write(socket, Message::Ping(axum::body::Bytes::new())).await
    }
}

async fn hear(socket: &mut WebSocket, shared: &Shared, frame: Option<Result<Message, axum::Error>>) -> Result<(), End> {
    match frame {
        Some(Ok(Message::Text(text))) => match Heard::parse(text.as_str()) {
            Some(Heard::Ping) => write(socket, Message::text(Said::Pong { time: shared.now() }.text())).await,
            None => Err(End::NotUnderstood),
        },
        Some(Ok(Message::Binary(_))) => Err(End::Binary),
        // A ping was answered by the protocol itself.
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
        Some(Ok(Message::Close(_))) | None => Err(End::Left),
        Some(Err(error)) => Err(End::of_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_may_be_answered_for_ever_and_a_flood_is_noticed() {
        let begun = Instant::now();
        let mut allowance = Allowance::new(begun);
        for second in 1..100_000 {
            assert_eq!(allowance.spend(begun + Duration::from_secs(second)), Ok(()));
        }
        let late = begun + Duration::from_secs(200_000);
        let taken = (0..100).take_while(|_| allowance.spend(late).is_ok()).count();
        assert_eq!(taken, BURST as usize);
    }
}
