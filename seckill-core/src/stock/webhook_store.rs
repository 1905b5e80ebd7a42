//! Port: subscriptions of the shop's systems to order events, how far each was told, what it refused. Progress is
//! written only by the core that holds the subscription, and only as long as it does: every write names the holder
//! and the generation, and touches nothing once either has changed.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use types::order_event::OrderEventKind;
use types::{Invalid, OrderId, Timestamp};

use crate::stock::store::StoreError;

/// Most subscriptions: each has a task and a few connections of its own.
pub const MAX_WEBHOOKS: usize = 32;
/// Most events of one subscription that wait for another try. When as many wait, nothing new is sent until some end.
pub const MAX_PARKED: usize = 1_000;
/// Longest name: it stands in paths and log lines.
const MAX_NAME: usize = 32;

/// A subscription's name: `[a-z0-9-]{1,32}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookName(String);

impl WebhookName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for WebhookName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(fits) {
            return Err(Invalid::new("webhook", "is not 1 to 32 small letters, digits and -"));
        }
        Ok(Self(text.to_owned()))
    }
}
impl fmt::Display for WebhookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the shop asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSpec {
    /// Its name.
    pub name: WebhookName,
    /// Where events go.
    pub url: String,
    /// Which; in their order, each once, at least one.
    pub kinds: Vec<OrderEventKind>,
    /// The name under which the configuration has its secret.
    pub secret: String,
}

/// A subscription as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRow {
    /// What was asked for.
    pub spec: WebhookSpec,
    /// Rises when something else is to be sent than its holder believes.
    pub generation: u64,
    /// Every event up to this one was delivered, is parked or dead.
    pub cursor: u64,
    /// Who holds it, and until when.
    pub held: Option<(String, Timestamp)>,
    /// Events that wait for another try.
    pub parked: u64,
    /// Events that were given up.
    pub dead: u64,
}

/// An event that waits for another try, or behind one of its order that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The event's number.
    pub sequence: u64,
    /// Of which order.
    pub order: OrderId,
    /// Tries that counted.
    pub attempts: u32,
    /// When it was tried first (or came behind another).
    pub since: Timestamp,
    /// When it is tried next, once it is the first of its order.
    pub due: Timestamp,
    /// What came of the last try.
    pub reason: String,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The event's number.
    pub sequence: u64,
    /// Of which order.
    pub order: OrderId,
    /// Tries that counted.
    pub attempts: u32,
    /// When it was given up.
    pub at: Timestamp,
    /// What came of the last try.
    pub reason: String,
}

/// What a round of deliveries came to, written as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The new cursor.
    pub cursor: u64,
    /// Parked anew, or with another due time.
    pub park: Vec<Parked>,
    /// Not parked any more: delivered or dead.
    pub unpark: Vec<u64>,
    /// Given up.
    pub dead: Vec<Dead>,
}

/// What [`WebhookStore::put_webhook`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookPut {
    /// It is new.
    Created,
    /// It was there; its progress stays.
    Updated,
    /// There are [`MAX_WEBHOOKS`] already.
    TooMany,
}

/// The subscriptions. `now` is the caller's clock.
#[async_trait]
pub trait WebhookStore: Send + Sync + 'static {
    /// Creates a subscription to events above `from` (of all that come from now on, if `None`), or changes where to,
    /// what and with which secret an existing one sends.
    async fn put_webhook(&self, spec: WebhookSpec, from: Option<u64>, now: Timestamp)
    -> Result<WebhookPut, StoreError>;
    /// Removes it with all that it remembers. `false`: there is none.
    async fn remove_webhook(&self, name: &WebhookName) -> Result<bool, StoreError>;
    /// All, by name.
    async fn webhooks(&self) -> Result<Vec<WebhookRow>, StoreError>;
    /// Takes it until `until`, if nobody else holds it at `free_at`. `None`: somebody does, or it is gone.
    async fn claim_webhook(
        &self,
        name: &WebhookName,
        holder: &str,
        free_at: Timestamp,
        until: Timestamp,
    ) -> Result<Option<WebhookRow>, StoreError>;
    /// Lets go of it, so that another need not wait.
    async fn release_webhook(&self, name: &WebhookName, holder: &str) -> Result<(), StoreError>;
    /// Its parked events in order, at most `max`.
    async fn parked(&self, name: &WebhookName, max: usize) -> Result<Vec<Parked>, StoreError>;
    /// Writes a round and holds on until `until`. `false`: it is held by another or of another generation, and nothing
    /// was written.
    async fn webhook_progress(
        &self,
        name: &WebhookName,
        holder: &str,
        generation: u64,
        until: Timestamp,
        progress: Progress,
    ) -> Result<bool, StoreError>;
    /// Dead letters above `after`, in order, at most `max`.
    async fn dead_letters(&self, name: &WebhookName, after: u64, max: usize) -> Result<Vec<Dead>, StoreError>;
    /// Goes back (or on) to `from`: every event above it is sent (again). `false`: there is no such subscription.
    async fn replay_from(&self, name: &WebhookName, from: u64) -> Result<bool, StoreError>;
    /// Gives up to `max` dead letters another life, the oldest first, if so many may be parked. How many;
    /// `None`: there is no such subscription.
    async fn replay_dead(&self, name: &WebhookName, max: usize, now: Timestamp) -> Result<Option<usize>, StoreError>;
}

/// Kinds as they stand in a column: their names with commas between.
pub(crate) fn kinds_text(kinds: &[OrderEventKind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(",")
}

/// Kinds from a column.
pub(crate) fn read_kinds(text: &str) -> Result<Vec<OrderEventKind>, String> {
    let one = |name: &str| ALL_KINDS.into_iter().find(|kind| kind.as_str() == name);
    text.split(',').map(|name| one(name).ok_or_else(|| format!("the event kind {name:?}"))).collect()
}

/// Every kind, in the order in which an order meets them.
pub const ALL_KINDS: [OrderEventKind; 6] = [
    OrderEventKind::Accepted,
    OrderEventKind::Paid,
    OrderEventKind::Expired,
    OrderEventKind::Cancelled,
    OrderEventKind::RefundDue,
    OrderEventKind::Refunded,
];
