//! A purchase call from the door to its answer: finds the product in the tier table, picks the path, waits out a
//! move or a decision where asked. "Accepted" is said only for what the store has committed.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use types::{BuyerId, IdempotencyKey, Money, OrderId, Phase, RequestId, SaleName, Sku, Tier, Timestamp};

use crate::admission::{self, Refusal};
use crate::meters::Answered;
use crate::metrics;
use crate::purchase_token::Used;
use crate::recent::{AttemptName, Ended};
use crate::shared::Shared;
use crate::stock::queue::backlog::Entered;
use crate::stock::queue::path as queue_path;
use crate::stock::queue::record::AttemptRecord;
use crate::stock::redis::path::{self as redis_path, Sent};
use crate::stock::store::{
    Attempt, BodyHash, Claim, Decision, OrderRow, OrderState, Outcome, ProductRow, StoreError, Verdict,
};
use crate::ticket::Ticket;
use crate::tier_table::Slot;

/// A checked purchase call.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) buyer: BuyerId,
    pub(crate) key: IdempotencyKey,
    pub(crate) sale: SaleName,
    pub(crate) product: Sku,
    pub(crate) quantity: u32,
    pub(crate) request: Option<RequestId>,
    /// The purchase token's text.
    pub(crate) token: Option<String>,
    /// How long the caller would wait for a decision in place of a ticket.
    pub(crate) wait: Option<Duration>,
}

/// What the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PurchaseOutcome {
    /// Committed by this very call: the order as it was committed, so that nobody reads it back.
    Bought(Box<OrderRow>),
    /// Committed, now or by an earlier call with the same key; the order's state may have changed since.
    Accepted(OrderId),
    /// On its way; the ticket has an end before its deadline plus skew.
    Queued {
        ticket: String,
        /// Attempts of the same product before it (queue tier).
        position: Option<u64>,
        /// When it will probably be decided.
        estimate: Duration,
        deadline: Timestamp,
    },
    /// Not bought.
    Refused(Refusal),
}

/// The hash of what was asked for: the meaning of the call, not its bytes, so that a client may write its JSON
/// differently when it tries again.
pub(crate) fn body_hash(sale: &SaleName, product: &Sku, quantity: u32) -> BodyHash {
    // Neither name can hold a line break.
    BodyHash(Sha256::digest(format!("purchase 1\n{sale}\n{product}\n{quantity}")).into())
}

/// What a decision tells one who asked with `body_hash`.
pub(crate) fn outcome_of(decision: &Decision, body_hash: BodyHash) -> PurchaseOutcome {
    if decision.body_hash != body_hash {
        return PurchaseOutcome::Refused(Refusal::OtherBody);
    }
    match decision.outcome {
        Outcome::Accepted(order) => PurchaseOutcome::Accepted(order),
        other => PurchaseOutcome::Refused(Refusal::of(other).unwrap_or(Refusal::Unavailable)),
    }
}

/// The refusal that a failed store is.
pub(crate) fn store_refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Overloaded => Refusal::Overloaded,
        StoreError::Unavailable(_) | StoreError::Corrupt(_) => {
            tracing::error!(%error, "the stock store failed");
            Refusal::Unavailable
        }
    }
}

/// What one try on one path brought.
enum Try {
    Answer(PurchaseOutcome),
    /// The product is not where the row says it is.
    Stale,
}

fn refused(refusal: Refusal) -> Try {
    Try::Answer(PurchaseOutcome::Refused(refusal))
}

/// Answers a purchase call.
pub(crate) async fn purchase(shared: &Shared, ask: Ask) -> PurchaseOutcome {
    let started = Instant::now();
    let tier = shared.table.get(&ask.product).map(|slot| slot.row().state.tier);
    let outcome = decide(shared, &ask).await;
    let answered = match &outcome {
        PurchaseOutcome::Bought(_) | PurchaseOutcome::Accepted(_) => Answered::Accepted,
        PurchaseOutcome::Queued { .. } => Answered::Queued,
        PurchaseOutcome::Refused(refusal) => Answered::Refused(*refusal),
    };
    shared.meters.attempt(tier, answered, started.elapsed());
    outcome
}

/// What everybody who asks for the product would be told now: this refusal is of one attempt, which may have asked for
/// more than is left or have been decided long ago. So the product is read again, as ever at most every 50 ms.
pub(crate) async fn nothing_left(shared: &Shared, product: &Sku, refusal: Refusal) -> Option<&'static str> {
    if !matches!(refusal, Refusal::SoldOut | Refusal::AllReserved) {
        return None;
    }
    let slot = shared.table.get(product)?;
    if slot.row().state.sellable > 0 {
        shared.table.reread(&slot).await.ok()?;
    }
    let row = slot.row();
    (row.state.sellable == 0).then(|| admission::short(&row, 1).as_str())
}

async fn decide(shared: &Shared, ask: &Ask) -> PurchaseOutcome {
    let hash = body_hash(&ask.sale, &ask.product, ask.quantity);
    // Before the look at what is known: what was heard of until here is seen by it.
    let heard = shared.heard.through();
    // First of all: a key that was decided keeps its answer, whatever has happened to the sale since.
    if let Some(decision) = shared.recent.decision(&ask.buyer, &ask.key) {
        return outcome_of(&decision, hash);
    }
    let outcome = choose_path(shared, ask, hash).await;
    match outcome {
        PurchaseOutcome::Refused(refusal) if refusal.sounds_final() => match earlier(shared, ask, heard).await {
            Ok(Some(decision)) => outcome_of(&decision, hash),
            Ok(None) => outcome,
            Err(error) => PurchaseOutcome::Refused(store_refusal(&error)),
        },
        _ => outcome,
    }
}

/// Longest wait for the feed of orders before a refusal; then SQL is asked. The feed is some ten milliseconds behind.
const HEAR_WITHIN: Duration = Duration::from_millis(100);

/// The decision that a key may have had before it is refused by what this core knows of its product: made by another
/// core, before the start, or so long ago that it has left memory. The units that are gone are orders that the feed
/// tells of; when it has told of all of them, a key that is not among them has none. Only where that is not known is
/// SQL asked.
async fn earlier(shared: &Shared, ask: &Ask, heard: u64) -> Result<Option<Decision>, StoreError> {
    let told = shared.table.get(&ask.product).map_or(u64::MAX, |slot| slot.told());
    if !shared.recent.may_have_forgotten(&ask.buyer, &ask.key) {
        if heard >= told {
            return Ok(None);
        }
        if shared.heard.reached(told, HEAR_WITHIN).await {
            return Ok(shared.recent.decision(&ask.buyer, &ask.key));
        }
    }
    shared.store.decision(&ask.buyer, &ask.key).await
}

/// Where a purchase call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nowhere: it is refused at the door.
    Refuse(Refusal),
    /// It waits for the move to end.
    Wait,
    /// By this path.
    By(Tier),
}

/// Chooses the way by the product as this core knows it.
pub(crate) fn way(row: &ProductRow, now: Timestamp) -> Way {
    match (admission::admit(row, now), row.state.phase) {
        (Err(refusal), _) => Way::Refuse(refusal),
        (Ok(()), Phase::Draining) => Way::Wait,
        (Ok(()), Phase::Active) => Way::By(row.state.tier),
    }
}

async fn choose_path(shared: &Shared, ask: &Ask, hash: BodyHash) -> PurchaseOutcome {
    let slot = shared.table.get(&ask.product).filter(|slot| slot.row().state.sale == ask.sale);
    let Some(slot) = slot else {
        return PurchaseOutcome::Refused(Refusal::Unknown);
    };
    shared.table.asked(&slot);
    let row = slot.row();
    let now = shared.now();
    // A sale that is not open says so, whatever else is missing: before the start there are no tokens.
    let token = match admission::admit(&row, now) {
        Err(refusal) => return PurchaseOutcome::Refused(refusal),
        Ok(()) => match shared.secret.admit_token(&row, &ask.buyer, ask.token.as_deref(), now) {
            Ok(token) => token,
            Err(refusal) => return PurchaseOutcome::Refused(refusal),
        },
    };
    let started = Instant::now();
    let limit = shared.clock.real(shared.options.handover_wait);
    let mut waiting: Option<(SemaphorePermit<'_>, Instant)> = None;
    let waited = |waiting: &Option<(SemaphorePermit<'_>, Instant)>, end| {
        if let Some((_, since)) = waiting {
            metrics::waited_for_move(end, since.elapsed());
        }
    };
    loop {
        let row = slot.row();
        let now = shared.now();
        let tried = match way(&row, now) {
            Way::Refuse(refusal) => refused(refusal),
            // Only the door is shut: what was taken before is decided, paid and released as ever.
            _ if shared.pauses.load().stops(&ask.sale, &ask.product) => refused(Refusal::Paused),
            Way::Wait => Try::Stale,
            Way::By(Tier::Db) => by_db(shared, ask, hash, &slot, &row, now, &token).await,
            Way::By(Tier::Redis) => by_redis(shared, ask, hash, &slot, &row, now, &token).await,
            Way::By(Tier::Queue) => by_queue(shared, ask, hash, &slot, &row, now, &token).await,
        };
        if let Try::Answer(outcome) = tried {
            waited(&waiting, "passed");
            return outcome;
        }
        // Wait for the move to end: in a bounded queue, for a bounded time.
        let Some(left) = limit.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
            waited(&waiting, "gave_up");
            return PurchaseOutcome::Refused(Refusal::Draining);
        };
        if waiting.is_none() {
            match shared.handover_waiters.try_acquire() {
                Ok(permit) => waiting = Some((permit, Instant::now())),
                Err(_) => return PurchaseOutcome::Refused(Refusal::Draining),
            }
        }
        if let Err(error) = shared.table.reread(&slot).await {
            return PurchaseOutcome::Refused(store_refusal(&error));
        }
        shared.wake_mover.product(&ask.product);
        slot.moved_on(&row, left.min(Duration::from_millis(50))).await;
    }
}

async fn by_db(
    shared: &Shared,
    ask: &Ask,
    hash: BodyHash,
    slot: &Slot,
    row: &ProductRow,
    now: Timestamp,
    token: &Used,
) -> Try {
    // A million who ask for nothing left cost a look into the table each, and a read every 50 ms for all of them;
    // a turn of the writer each would take it from other products.
    if row.state.sellable == 0
        && let Try::Answer(refusal) = none_left(shared, slot).await
    {
        return Try::Answer(refusal);
    }
    let attempt = Attempt {
        buyer: ask.buyer.clone(),
        key: ask.key.clone(),
        body_hash: hash,
        product: ask.product.clone(),
        quantity: ask.quantity,
        claim: Claim::Door,
        deadline: now.plus(shared.options.deadline),
        request: ask.request.clone(),
        order: shared.ids.order(now),
        token: token.clone(),
    };
    let verdict = match shared.store.decide(vec![attempt], shared.options.reserve_for, now).await {
        Ok(verdicts) => verdicts.into_iter().next(),
        Err(error) => return refused(store_refusal(&error)),
    };
    match verdict {
        Some(Verdict::Decided { decision, fresh, amount }) => {
            let name = AttemptName { buyer: ask.buyer.clone(), key: ask.key.clone(), body_hash: hash };
            let outcome = match (decision.outcome, amount) {
                (Outcome::Accepted(order), Some(amount)) if fresh => {
                    shared.meters.order_accepted(Tier::Db);
                    shared.wake_outbox.notify_one();
                    bought(shared, ask, &decision, order, amount, Tier::Db)
                }
                _ => outcome_of(&decision, hash),
            };
            shared.recent.ended(&name, &Ended::Decided(decision));
            Try::Answer(outcome)
        }
        Some(Verdict::OtherBody) => refused(Refusal::OtherBody),
        Some(Verdict::TokenUsed) => refused(Refusal::TokenUsed),
        Some(Verdict::SoldOutAtDoor) => refused(Refusal::SoldOut),
        Some(Verdict::AllReservedAtDoor) => refused(Refusal::AllReserved),
        // Paused or ended since the table was read: the next look at it says which.
        Some(Verdict::Resubmit(_) | Verdict::NotOnSale) => Try::Stale,
        None => refused(Refusal::Unavailable),
    }
}

/// An order as this core's own call to the store has just committed it.
fn bought(
    shared: &Shared,
    ask: &Ask,
    decision: &Decision,
    order: OrderId,
    amount: Money,
    tier: Tier,
) -> PurchaseOutcome {
    PurchaseOutcome::Bought(Box::new(OrderRow {
        order,
        buyer: ask.buyer.clone(),
        sale: ask.sale.clone(),
        product: ask.product.clone(),
        quantity: ask.quantity,
        amount,
        tier,
        state: OrderState::Accepted,
        accepted_at: decision.at,
        expires_at: decision.at.plus(shared.options.reserve_for),
    }))
}

fn record(ask: &Ask, hash: BodyHash, deadline: Timestamp, token: &Used) -> AttemptRecord {
    AttemptRecord {
        buyer: ask.buyer.clone(),
        key: ask.key.clone(),
        body_hash: hash,
        product: ask.product.clone(),
        quantity: ask.quantity,
        deadline,
        request: ask.request.clone(),
        token: token.clone(),
        grant: None,
    }
}

/// Where a queued attempt stands.
struct Place {
    position: Option<u64>,
    estimate: Duration,
}

/// Too few units on this path. The table may be old: it is read again, at most every 50 ms for all who ask, so that
/// units that came back are not denied for longer than that.
async fn too_few(shared: &Shared, ask: &Ask, slot: &Slot) -> Try {
    if let Err(error) = shared.table.reread(slot).await {
        return refused(store_refusal(&error));
    }
    refused(admission::short(&slot.row(), ask.quantity))
}

/// The table knows of nothing sellable: it is read again, as above. `Stale` where something is sellable after all.
async fn none_left(shared: &Shared, slot: &Slot) -> Try {
    if let Err(error) = shared.table.reread(slot).await {
        return refused(store_refusal(&error));
    }
    let row = slot.row();
    if row.state.sellable == 0 { refused(admission::short(&row, 1)) } else { Try::Stale }
}

async fn by_redis(
    shared: &Shared,
    ask: &Ask,
    hash: BodyHash,
    slot: &Slot,
    row: &ProductRow,
    now: Timestamp,
    token: &Used,
) -> Try {
    let attempt = record(ask, hash, now.plus(shared.options.deadline), token);
    let waiter = ask.wait.and_then(|_| shared.recent.wait_for(attempt.name()));
    match redis_path::send(shared, row, attempt.clone()).await {
        Sent::Appended => {
            let place = Place { position: None, estimate: Duration::from_millis(100) };
            Try::Answer(queued(shared, ask, &attempt, place, waiter).await)
        }
        Sent::OtherBody => refused(Refusal::OtherBody),
        Sent::Short => too_few(shared, ask, slot).await,
        Sent::Limit => refused(Refusal::Limit),
        // The table says that the window is open: the lease was loaded with another one and is being replaced.
        Sent::OutsideWindow | Sent::Stale => Try::Stale,
        Sent::Failed => refused(Refusal::Unavailable),
    }
}

async fn by_queue(
    shared: &Shared,
    ask: &Ask,
    hash: BodyHash,
    slot: &Slot,
    row: &ProductRow,
    now: Timestamp,
    token: &Used,
) -> Try {
    // With nothing sellable the queue would only say later what the table says now.
    if row.state.sellable == 0 {
        return too_few(shared, ask, slot).await;
    }
    let attempt = record(ask, hash, now.plus(shared.options.deadline), token);
    let waiter = ask.wait.and_then(|_| shared.recent.wait_for(attempt.name()));
    match queue_path::send(shared, row, attempt.clone()).await {
        Ok(Entered::At { ahead, estimate }) => {
            let place = Place { position: Some(ahead), estimate };
            Try::Answer(queued(shared, ask, &attempt, place, waiter).await)
        }
        Ok(Entered::Full { retry_after }) => refused(Refusal::Backlog { retry_after }),
        Err(error) => {
            tracing::warn!(%error, product = %ask.product, "an attempt was not queued");
            metrics::retry("log");
            refused(Refusal::Unavailable)
        }
    }
}

/// First pause before a waiting attempt is looked for in the store; each further one is twice as long. By then this
/// core's own consumer, or the feed of all cores' orders, has mostly told its end, so that few of those who wait cost
/// a read, and none more than four.
const LOOK_AFTER: Duration = Duration::from_millis(250);

/// Waits until an attempt has an end in the store: another core may have decided it.
async fn ended_elsewhere(shared: &Shared, attempt: &AttemptRecord) -> Ended {
    let mut pause = LOOK_AFTER;
    loop {
        tokio::time::sleep(pause).await;
        pause *= 2;
        match shared.store.decision(&attempt.buyer, &attempt.key).await {
            Ok(Some(decision)) => {
                let ended = Ended::Decided(decision);
                shared.recent.ended(&attempt.name(), &ended);
                return ended;
            }
            Ok(None) => {}
            // The waiter's own bound ends this.
            Err(error) => tracing::debug!(%error, "a waiting attempt was not looked for"),
        }
    }
}

/// The attempt is on its way: waits for its end where the caller asked for that, else gives the ticket.
async fn queued(
    shared: &Shared,
    ask: &Ask,
    attempt: &AttemptRecord,
    place: Place,
    waiter: Option<crate::recent::Waiter<'_>>,
) -> PurchaseOutcome {
    if let (Some(waiter), Some(wait)) = (waiter, ask.wait) {
        let ended = tokio::select! {
            biased;
            ended = waiter.ended(wait) => ended,
            ended = ended_elsewhere(shared, attempt) => Some(ended),
        };
        match ended {
            Some(Ended::Decided(decision)) => return outcome_of(&decision, attempt.body_hash),
            Some(Ended::Bought { decision, amount, tier }) => {
                return match decision.outcome {
                    Outcome::Accepted(order) => bought(shared, ask, &decision, order, amount, tier),
                    _ => outcome_of(&decision, attempt.body_hash),
                };
            }
            Some(Ended::OtherBody) => return PurchaseOutcome::Refused(Refusal::OtherBody),
            Some(Ended::TokenUsed) => return PurchaseOutcome::Refused(Refusal::TokenUsed),
            None => {}
        }
    }
    let ticket = Ticket {
        key: attempt.key.clone(),
        body_hash: attempt.body_hash,
        product: attempt.product.clone(),
        deadline: attempt.deadline,
    };
    PurchaseOutcome::Queued {
        ticket: shared.secret.seal(&ask.buyer, &ticket),
        position: place.position,
        estimate: place.estimate,
        deadline: attempt.deadline,
    }
}

/// What the owner of a ticket is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TicketState {
    /// Not decided, and not past its deadline plus skew.
    Pending {
        /// Until when it may last.
        deadline: Timestamp,
    },
    /// Its end.
    Ended(PurchaseOutcome),
}

/// Whether the reader of a ticket that is not decided must decide it himself: past its deadline plus skew, so that
/// no core whose clock is behind may still accept what was refused.
pub(crate) fn is_due(deadline: Timestamp, skew: Duration, now: Timestamp) -> bool {
    now > deadline.plus(skew)
}

/// Reads a ticket; past its deadline plus skew the reader itself decides `deadline`, unless it is decided.
/// `None`: not a ticket of this buyer.
pub(crate) async fn read_ticket(
    shared: &Shared,
    buyer: &BuyerId,
    text: &str,
) -> Option<Result<TicketState, StoreError>> {
    let ticket = shared.secret.open(buyer, text)?;
    Some(end_of(shared, buyer, &ticket).await)
}

async fn end_of(shared: &Shared, buyer: &BuyerId, ticket: &Ticket) -> Result<TicketState, StoreError> {
    let known = match shared.recent.decision(buyer, &ticket.key) {
        Some(decision) => Some(decision),
        None => shared.store.decision(buyer, &ticket.key).await?,
    };
    let decision = match known {
        Some(decision) => decision,
        None if !is_due(ticket.deadline, shared.options.skew, shared.now()) => {
            return Ok(TicketState::Pending { deadline: ticket.deadline });
        }
        None => shared.store.conclude(buyer, &ticket.key, ticket.body_hash, &ticket.product, shared.now()).await?,
    };
    Ok(TicketState::Ended(outcome_of(&decision, ticket.body_hash)))
}
