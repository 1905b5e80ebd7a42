//! One attempt from its first call to its end: asks, asks again with the same key, follows tickets, pays or cancels.
//! An answer that did not come is noted as unknown and settled by its key. It decides nothing about right or wrong.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use audit::journal::{Entry, Told};
use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use types::Role;

use crate::crowd::{After, Attempt};
use crate::journal::Journal;
use crate::town::Issuer;

/// The sale and the product of a soak.
pub const SALE: &str = "soak";
pub const PRODUCT: &str = "the-one";
/// Calls on their way at once: enough to keep two cores busy, few enough that their answers stay quick.
const CALLS: usize = 64;
/// Refusals at the door (429, 503) that a shopper takes before he goes. They bind nothing.
const MAX_REFUSALS: u32 = 30;
/// Longest time for one attempt whose outcome is not known or whose ticket has no end: processes come back sooner.
const PATIENCE: Duration = Duration::from_secs(150);
/// Longest pause that a shopper takes at the door's word.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// First and longest pause between two looks at a ticket.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A ticket's deadline, where an answer does not name it.
const DEADLINE_MS: i64 = 10_000;
/// How long after its deadline a ticket may be without an end (the protocol).
const SKEW_MS: i64 = 1_000;

/// What all shoppers count together.
#[derive(Debug, Default)]
pub struct Counters {
    pub calls: AtomicU64,
    /// Calls without an answer: the process was killed, or too slow.
    pub unanswered: AtomicU64,
    /// 503 while a product moves.
    pub draining: AtomicU64,
    /// 429.
    pub backlog: AtomicU64,
    /// Tickets given.
    pub tickets: AtomicU64,
    /// Attempts that ended at the door after [`MAX_REFUSALS`].
    pub gave_up: AtomicU64,
    /// Attempts whose outcome could not be learned. Must stay 0.
    pub unsettled: AtomicU64,
    /// Answers that no shopper should ever see (4xx of malformed calls, 500). Must stay 0.
    pub senseless: AtomicU64,
    pub paid: AtomicU64,
    pub cancelled: AtomicU64,
    /// Attempts that came to their end.
    pub ended: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The street in which they shop.
pub struct Street {
    http: Client,
    /// Public listeners; each call takes one of them.
    cores: Vec<String>,
    issuer: Issuer,
    journal: Journal,
    calls: Semaphore,
    next_core: AtomicUsize,
    pub counters: Counters,
}

/// An answer as far as it matters.
struct Answer {
    sent: i64,
    read: i64,
    status: u16,
    told: Told,
    order: Option<String>,
    deadline: Option<i64>,
    location: Option<String>,
    retry_after: Duration,
    /// The name of the problem, for refusals.
    problem: String,
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Street {
    pub fn new(cores: Vec<String>, issuer: Issuer, journal: Journal) -> Self {
        // Longer than any answer of a living core; that of a paused one is unknown.
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(8)).build().unwrap();
        let (calls, next_core) = (Semaphore::new(CALLS), AtomicUsize::new(0));
        Self { http, cores, issuer, journal, calls, next_core, counters: Counters::default() }
    }

    /// The public listeners.
    pub fn cores(&self) -> &[String] {
        &self.cores
    }

    fn url(&self, path: &str) -> String {
        // In turn, so that the retry of a call that found nobody goes to the other core.
        let core = self.next_core.fetch_add(1, Ordering::Relaxed) % self.cores.len();
        format!("{}{path}", self.cores[core])
    }

    async fn call(&self, request: RequestBuilder) -> Answer {
        let _place = self.calls.acquire().await.expect("never closed");
        add(&self.counters.calls);
        let sent = now();
        let none = |read| Answer {
            sent,
            read,
            status: 0,
            told: Told::Error,
            order: None,
            deadline: None,
            location: None,
            retry_after: Duration::from_millis(200),
            problem: String::new(),
        };
        let Ok(response) = request.send().await else {
            add(&self.counters.unanswered);
            return none(now());
        };
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let location = header(LOCATION);
        let seconds = header(RETRY_AFTER).and_then(|s| s.parse().ok()).unwrap_or(1);
        let Ok(body) = response.bytes().await else {
            add(&self.counters.unanswered);
            return none(now());
        };
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
        let order = if body["order"].is_object() { text(&body["order"], "order") } else { text(&body, "order") };
        let problem = text(&body, "type").map(|t| t.rsplit('/').next().unwrap_or_default().to_owned());
        Answer {
            sent,
            read: now(),
            status: status.as_u16(),
            told: understand(status, &body, order.is_some(), problem.as_deref().unwrap_or_default()),
            order,
            deadline: text(&body, "deadline")
                .and_then(|t| t.parse::<jiff::Timestamp>().ok())
                .map(|t| t.as_millisecond()),
            location,
            retry_after: Duration::from_secs(seconds).min(MAX_PAUSE),
            problem: problem.unwrap_or_default(),
        }
    }

    fn note(&self, attempt: &Attempt, answer: &Answer, bound: bool) {
        let deadline = answer.deadline.unwrap_or(answer.sent + DEADLINE_MS);
        self.journal.note(Entry {
            t: answer.read,
            sent: Some(answer.sent),
            buyer: attempt.buyer.clone(),
            key: attempt.key.to_owned(),
            product: PRODUCT.to_owned(),
            quantity: attempt.quantity.into(),
            status: answer.status,
            outcome: answer.told,
            order: answer.order.clone(),
            ticket_deadline: (answer.told == Told::Queued).then_some(deadline),
            bound,
        });
    }

    /// From the first call to the end; the order, if there is one.
    pub async fn shop(&self, attempt: &Attempt) -> Option<String> {
        let bearer = self.issuer.token(&attempt.buyer, &[Role::Shopper]);
        let order = self.buy(attempt, &bearer).await;
        add(&self.counters.ended);
        let Some(order) = &order else { return None };
        let done = |answer: Answer, counter| (200..300).contains(&answer.status).then(|| add(counter));
        match attempt.after {
            After::Keep => {}
            After::Pay => {
                let call = self.http.post(self.url(&format!("/v1/orders/{order}/pay")));
                done(self.call(call.bearer_auth(&bearer)).await, &self.counters.paid);
            }
            After::Cancel => {
                let call = self.http.post(self.url(&format!("/v1/orders/{order}/cancel")));
                done(self.call(call.bearer_auth(&bearer)).await, &self.counters.cancelled);
            }
        }
        Some(order.clone())
    }

    async fn buy(&self, attempt: &Attempt, bearer: &str) -> Option<String> {
        let path = format!("/v1/sales/{SALE}/products/{PRODUCT}/purchases");
        let began = Instant::now();
        let (mut refusals, mut is_open) = (0, false);
        while began.elapsed() < PATIENCE {
            let call = self.http.post(self.url(&path)).bearer_auth(bearer).header("Idempotency-Key", attempt.key);
            let answer = self.call(call.json(&json!({ "quantity": attempt.quantity }))).await;
            self.note(attempt, &answer, false);
            match answer.told {
                Told::Accepted => return answer.order,
                Told::SoldOut | Told::AllReserved | Told::Limit => return None,
                Told::Queued => {
                    add(&self.counters.tickets);
                    is_open = true;
                    if let Some(end) = self.follow(attempt, bearer, &answer, began).await {
                        return end;
                    }
                }
                Told::Refused => {
                    add(if answer.status == 429 { &self.counters.backlog } else { &self.counters.draining });
                    refusals += 1;
                    if answer.problem == "deadline" {
                        return None;
                    }
                    if refusals >= MAX_REFUSALS && !is_open {
                        add(&self.counters.gave_up);
                        return None;
                    }
                }
                Told::Error => {
                    if answer.status != 0 {
                        eprintln!("a senseless answer: {} {}", answer.status, answer.problem);
                        add(&self.counters.senseless);
                    }
                    // What became of it is not known: only its key can tell.
                    is_open = true;
                }
            }
            // A quarter more or less, so that those who were refused together do not come together.
            let pause =
                answer.retry_after.mul_f64(0.75 + (attempt.own.wrapping_add(refusals.into()) % 64) as f64 / 128.0);
            tokio::time::sleep(pause).await;
        }
        add(&self.counters.unsettled);
        None
    }

    /// Reads the ticket to its end: `Some(order, if it brought one)`. `None`: it has none in time, ask by the key.
    async fn follow(&self, attempt: &Attempt, bearer: &str, first: &Answer, began: Instant) -> Option<Option<String>> {
        let location = first.location.as_ref()?;
        let deadline = first.deadline.unwrap_or(first.sent + DEADLINE_MS);
        let mut pause = LOOKS.0;
        while began.elapsed() < PATIENCE {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
            let answer = self.call(self.http.get(self.url(location)).bearer_auth(bearer)).await;
            match answer.told {
                Told::Error => {}
                Told::Refused if matches!(answer.status, 429 | 503) => {}
                Told::Queued => {
                    // Noted once it is late: the auditor judges how late a ticket may be.
                    if answer.sent > deadline + SKEW_MS {
                        self.note(attempt, &Answer { deadline: Some(deadline), ..answer }, true);
                    }
                }
                _ => {
                    self.note(attempt, &answer, true);
                    return Some(answer.order.filter(|_| answer.told == Told::Accepted));
                }
            }
        }
        None
    }
}

/// What an answer means; in the auditor's words.
fn understand(status: StatusCode, body: &Value, has_order: bool, problem: &str) -> Told {
    let state = body["state"].as_str();
    let reason = body["reason"].as_str().unwrap_or(problem).replace('-', "_");
    match (status.as_u16(), state, reason.as_str()) {
        (202, _, _) | (200, Some("pending"), _) => Told::Queued,
        (200 | 201, _, "") if has_order => Told::Accepted,
        (_, _, "sold_out") => Told::SoldOut,
        (_, _, "all_reserved") => Told::AllReserved,
        (_, _, "limit") => Told::Limit,
        (200, Some("refused"), _) | (403 | 409 | 410 | 425 | 429 | 503, _, _) => Told::Refused,
        _ => Told::Error,
    }
}
