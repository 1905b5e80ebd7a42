//! Simulated shoppers: they look, buy, follow their tickets, pay, leave orders unpaid, cancel, and ask again
//! with the same key. What a shopper will do is drawn from the seed; what happens to him is the core's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use types::Timestamp;

use super::access_log::Request;
use super::client::{Answer, Call, Client, Visitor};
use super::crowd::Demand;
use super::journal::{Entry, Journal, Told};
use super::stats::Counters;
use super::{Product, TokenIssuer};

/// Purchase calls a shopper makes with one key before he gives up.
const MAX_TRIES: u32 = 6;
/// Longest wait between two calls, whatever `Retry-After` says (event time).
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How long past a ticket's deadline its reader still asks: the protocol's second of skew, and the way.
const PAST_DEADLINE: Duration = Duration::from_secs(4);
/// A ticket's deadline, if the answer does not name it.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// First and longest pause between two looks at a ticket (event time).
const TICKET_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Payments tried for one order, and looks at the order after each.
const MAX_PAYMENTS: u32 = 3;
const MAX_LOOKS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Fans of one product: so few that nearly all their attempts meet the buyer's limit.
const FANS: u32 = 60;
/// What browsers call themselves.
pub(super) const AGENTS: [&str; 5] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
];

/// What one shopper will do with his accepted order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Pay,
    Abandon,
    Cancel,
}

/// One shopper's whole intention, drawn before he comes.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    product: Arc<Product>,
    page: String,
    visitor: Visitor,
    buyer: String,
    key: String,
    quantity: u32,
    buys: bool,
    cart: bool,
    think: Duration,
    prefer_wait: Option<u32>,
    asks_again: bool,
    after: After,
    decide_to_pay: Duration,
}

/// A visitor of the log by number: the same number always has the same hash, address and browser.
pub(super) fn visitor(seed: u64, number: u64) -> Visitor {
    let mixed = mix(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let [a, b, c, ..] = mixed.to_le_bytes();
    let agent = AGENTS[(mixed >> 32) as usize % AGENTS.len()];
    Visitor { hash: format!("{mixed:016x}"), address: format!("10.{a}.{b}.{c}"), agent }
}

/// A bijective scramble of 64 bits (the finaliser of SplitMix64).
pub(super) fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Draws the shopper with this number. `run` keeps the buyers and keys of two runs on one store apart.
pub(super) fn draw(seed: u64, run: &str, number: u64, index: usize, product: &Arc<Product>, demand: Demand) -> Wish {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(number);
    let buys = random.random_bool(demand.buy.clamp(0.0, 1.0));
    let is_fan = buys && random.random_bool(demand.fans.clamp(0.0, 1.0));
    // Fans keep their identity; everybody else is new. Visitor numbers of the two never meet.
    let (who, buyer) = if is_fan {
        let fan = random.random_range(0..FANS);
        (u64::MAX - (index as u64 * u64::from(FANS) + u64::from(fan)), format!("fan-{run}-{}-{fan}", product.sku))
    } else {
        (number, format!("shopper-{run}-{number}"))
    };
    let most = product.limit.clamp(1, 3);
    let pages = product.pages.len().max(1);
    let page = product.pages.get(if random.random_bool(0.8) { 0 } else { random.random_range(0..pages) });
    let fate: f64 = random.random();
    Wish {
        page: page.unwrap_or(&product.sku).clone(),
        product: product.clone(),
        visitor: visitor(seed, who),
        buyer,
        key: format!("{run}-{number}"),
        quantity: if random.random_bool(0.8) { 1 } else { random.random_range(1..=most) },
        buys,
        cart: buys && random.random_bool(0.3),
        think: Duration::from_millis(random.random_range(100..1_500)),
        prefer_wait: random.random_bool(0.4).then_some(2),
        asks_again: random.random_bool(0.1),
        after: match fate {
            f if f < 0.80 => After::Pay,
            f if f < 0.96 => After::Abandon,
            _ => After::Cancel,
        },
        decide_to_pay: Duration::from_millis(random.random_range(300..4_000)),
    }
}

/// What all shoppers share.
pub(super) struct Street {
    pub(super) client: Client,
    pub(super) journal: Journal,
    pub(super) counters: Counters,
    pub(super) token: TokenIssuer,
    pub(super) sale: String,
    pub(super) seed: u64,
    pub(super) run: String,
    pub(super) requests: AtomicU64,
    /// No new purchases and no new payments after this; what is under way comes to its end.
    pub(super) closing: CancellationToken,
}

/// One attempt: the same body under the same key, however often it is sent.
struct Attempt<'a> {
    visitor: &'a Visitor,
    buyer: &'a str,
    key: &'a str,
    product: &'a str,
    quantity: u32,
    wait: Option<u32>,
    bearer: String,
    buyer_hash: String,
}

/// How an attempt ended for its shopper.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    told: Told,
    order: Option<String>,
    tier: Option<String>,
}

impl Street {
    fn request_id(&self) -> String {
        format!("demo-{}-{:x}", self.run, self.requests.fetch_add(1, Ordering::Relaxed))
    }
    async fn wait(&self, d: Duration) {
        tokio::time::sleep(self.client.clock().real(d)).await;
    }
    /// Waits; `false` if the street closes meanwhile.
    async fn linger(&self, d: Duration) -> bool {
        tokio::select! {
            () = self.closing.cancelled() => false,
            () = self.wait(d) => true,
        }
    }
    fn buyer_hash(&self, buyer: &str) -> String {
        let hash = buyer.bytes().fold(self.seed, |h, b| mix(h ^ u64::from(b)));
        format!("{hash:016x}")
    }

    /// One shopper from the first look to the last.
    pub(super) async fn shop(&self, wish: Wish) {
        self.counters.with(|s| s.sessions += 1);
        self.look(&wish, "GET", format!("/product/{}", wish.page)).await;
        if !wish.buys || !self.linger(wish.think).await {
            return;
        }
        if wish.cart {
            self.look(&wish, "POST", format!("/cart/add/{}", wish.product.sku)).await;
        }
        let attempt =
            self.attempt(&wish.visitor, &wish.buyer, &wish.key, &wish.product.sku, wish.quantity, wish.prefer_wait);
        let end = self.purchase(&attempt).await;
        if wish.asks_again && matches!(end.told, Told::Accepted | Told::Limit) {
            self.ask_again(&attempt, &end).await;
        }
        let Some(order) = end.order.filter(|_| end.told == Told::Accepted) else { return };
        match wish.after {
            After::Abandon => self.counters.with(|s| s.abandoned += 1),
            After::Cancel => {
                if self.linger(wish.decide_to_pay).await {
                    let answer = self.order_call(&attempt, "POST", &format!("/v1/orders/{order}/cancel")).await;
                    if (200..300).contains(&answer.status) {
                        self.counters.with(|s| s.cancelled += 1);
                    }
                }
            }
            After::Pay => {
                if self.linger(wish.decide_to_pay).await {
                    self.pay(&attempt, &order).await;
                }
            }
        }
    }

    /// A page that the edge serves by itself.
    async fn look(&self, wish: &Wish, method: &'static str, uri: String) {
        let request = Request {
            method,
            uri,
            status: 200,
            bytes: 18_211,
            request_time: 0.001,
            request_id: self.request_id(),
            referer: "-",
            product: wish.product.sku.clone(),
            ..Request::default()
        };
        self.client.static_request(&wish.visitor, request).await;
    }

    fn attempt<'a>(
        &self,
        visitor: &'a Visitor,
        buyer: &'a str,
        key: &'a str,
        product: &'a str,
        quantity: u32,
        wait: Option<u32>,
    ) -> Attempt<'a> {
        let (bearer, buyer_hash) = ((self.token)(buyer), self.buyer_hash(buyer));
        Attempt { visitor, buyer, key, product, quantity, wait, bearer, buyer_hash }
    }

    /// Buys: asks until there is an end, with the same key.
    async fn purchase(&self, attempt: &Attempt<'_>) -> End {
        let started = Instant::now();
        let end = self.until_the_end(attempt).await;
        self.counters.with(|s| {
            *s.ends.entry(end.told.as_str()).or_insert(0) += 1;
            s.to_the_end.add(started.elapsed());
            if end.told == Told::Accepted {
                *s.orders_by_tier.entry(end.tier.clone().unwrap_or_else(|| "-".to_owned())).or_insert(0) += 1;
            }
        });
        end
    }

    async fn until_the_end(&self, attempt: &Attempt<'_>) -> End {
        let mut last = End { told: Told::Error, order: None, tier: None };
        for retry in 0..MAX_TRIES {
            let answer = self.post(attempt).await;
            last = End { told: answer.told, order: answer.order.clone(), tier: answer.tier.clone() };
            match answer.told {
                Told::Accepted | Told::SoldOut | Told::AllReserved | Told::Limit => return last,
                Told::Queued => {
                    let end = self.follow(attempt, &answer).await;
                    // A ticket that is not read to its end is asked for again by its key.
                    if end.told.is_end() {
                        return End { tier: end.tier.or(last.tier), ..end };
                    }
                    last = end;
                }
                Told::Refused if matches!(answer.status, 429 | 503) => {}
                Told::Refused => return last,
                // A defect or a bad request will not mend itself; silence may.
                Told::Error if answer.status != 0 && answer.status < 500 => return last,
                Told::Error => {}
            }
            if self.closing.is_cancelled() && last.told == Told::Refused {
                return last;
            }
            let pause = answer.retry_after.unwrap_or(Duration::from_millis(200 << retry)).min(MAX_WAIT);
            self.wait(pause).await;
        }
        last
    }

    async fn post(&self, attempt: &Attempt<'_>) -> Answer {
        let path = format!("/v1/sales/{}/products/{}/purchases", self.sale, attempt.product);
        let call = Call {
            method: "POST",
            path: &path,
            logged_path: None,
            bearer: &attempt.bearer,
            buyer_hash: &attempt.buyer_hash,
            key: Some(attempt.key),
            wait: attempt.wait,
            body: Some(json!({ "quantity": attempt.quantity })),
            product: attempt.product,
        };
        let answer = self.client.call(attempt.visitor, call, self.request_id()).await;
        self.counters.answer(answer.tier.as_deref(), answer.told, answer.took);
        self.note(attempt, &answer, false, answer.deadline).await;
        answer
    }

    /// Reads the ticket until its end, or until it has none where it must.
    async fn follow(&self, attempt: &Attempt<'_>, first: &Answer) -> End {
        let nothing = End { told: Told::Queued, order: None, tier: first.tier.clone() };
        let Some(location) = &first.location else { return nothing };
        let deadline = first.deadline.unwrap_or_else(|| first.read.plus(DEFAULT_DEADLINE));
        let give_up = deadline.plus(PAST_DEADLINE);
        let mut pause = TICKET_PAUSE.0;
        loop {
            self.wait(pause).await;
            pause = (pause * 2).min(TICKET_PAUSE.1);
            let call = Call {
                method: "GET",
                path: location,
                logged_path: Some("/v1/tickets/-"),
                bearer: &attempt.bearer,
                buyer_hash: &attempt.buyer_hash,
                key: None,
                wait: None,
                body: None,
                product: attempt.product,
            };
            let answer = self.client.call(attempt.visitor, call, self.request_id()).await;
            if answer.told.is_end() && !matches!(answer.status, 429 | 503) {
                self.note(attempt, &answer, true, None).await;
                return End { told: answer.told, order: answer.order, tier: answer.tier };
            }
            if answer.sent > give_up {
                // A promise was not kept, unless nobody answered at all: the auditor judges by the journal.
                self.note(attempt, &answer, true, Some(deadline)).await;
                self.counters.with(|s| s.tickets_without_end += 1);
                return nothing;
            }
        }
    }

    async fn note(&self, attempt: &Attempt<'_>, answer: &Answer, bound: bool, deadline: Option<Timestamp>) {
        if answer.status == 0 {
            self.counters.with(|s| s.unanswered += 1);
        } else if let Some(problem) = &answer.problem {
            self.counters.refusal(problem);
        }
        let deadline = match answer.told {
            Told::Queued => deadline.or_else(|| Some(answer.sent.plus(DEFAULT_DEADLINE))),
            _ => None,
        };
        let entry = Entry {
            t: answer.read.millis(),
            sent: answer.sent.millis(),
            buyer: attempt.buyer.to_owned(),
            key: attempt.key.to_owned(),
            product: attempt.product.to_owned(),
            quantity: attempt.quantity,
            status: answer.status,
            outcome: answer.told,
            order: answer.order.clone(),
            ticket_deadline: deadline.map(Timestamp::millis),
            bound,
        };
        self.journal.note(entry).await;
    }

    /// The same question once more; the answer must be the same for ever.
    async fn ask_again(&self, attempt: &Attempt<'_>, first: &End) {
        let answer = self.post(attempt).await;
        let second = match answer.told {
            Told::Queued => self.follow(attempt, &answer).await,
            _ => End { told: answer.told, order: answer.order, tier: None },
        };
        // A door that is shut for the moment says nothing about the decision behind it.
        if matches!(second.told, Told::Refused | Told::Error | Told::Queued) {
            return;
        }
        let equal = second.told == first.told && second.order == first.order;
        // A limit met at a door that binds nothing may be gone by now.
        let may_differ = first.told == Told::Limit;
        self.counters.with(|s| match equal || may_differ {
            true => s.retries_equal += 1,
            false => s.retries_unequal += 1,
        });
    }

    async fn order_call(&self, attempt: &Attempt<'_>, method: &'static str, path: &str) -> Answer {
        let call = Call {
            method,
            path,
            logged_path: None,
            bearer: &attempt.bearer,
            buyer_hash: &attempt.buyer_hash,
            key: None,
            wait: None,
            body: None,
            product: attempt.product,
        };
        self.client.call(attempt.visitor, call, self.request_id()).await
    }

    async fn pay(&self, attempt: &Attempt<'_>, order: &str) {
        for _ in 0..MAX_PAYMENTS {
            let answer = self.order_call(attempt, "POST", &format!("/v1/orders/{order}/pay")).await;
            let mut state = answer.state;
            for _ in 0..MAX_LOOKS {
                match state.as_deref() {
                    Some("paid") => {
                        self.counters.with(|s| s.paid += 1);
                        return;
                    }
                    Some("expired" | "cancelled" | "refund_due" | "refunded") => {
                        self.counters.with(|s| s.payments_failed += 1);
                        return;
                    }
                    _ => {}
                }
                if !self.linger(LOOK_EVERY).await {
                    return;
                }
                state = self.order_call(attempt, "GET", &format!("/v1/orders/{order}")).await.state;
            }
        }
        self.counters.with(|s| s.payments_failed += 1);
    }

    /// Asks again for an attempt of an earlier run that had a ticket and no end.
    pub(super) async fn resume(&self, open: Entry) {
        let number = open.key.bytes().fold(self.seed, |h, b| mix(h ^ u64::from(b)));
        let visitor = visitor(self.seed, number);
        let attempt = self.attempt(&visitor, &open.buyer, &open.key, &open.product, open.quantity, None);
        let end = self.until_the_end(&attempt).await;
        self.counters.with(|s| {
            s.resumed += 1;
            s.resumed_ended += u64::from(end.told.is_end());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn phone() -> Arc<Product> {
        Arc::new(Product { sku: "phone".to_owned(), pages: vec!["phone".to_owned()], stock: 420, limit: 1 })
    }

    #[test]
    fn the_seed_draws_the_shoppers() {
        let (product, demand) = (phone(), Demand { views: 1.0, buy: 0.75, fans: 0.8 });
        let of = |seed, n| draw(seed, "r", n, 0, &product, demand);
        let (mut buys, mut buyers, mut pays) = (0, HashSet::new(), 0);
        for n in 0..2_000 {
            let wish = of(11, n);
            let again = of(11, n);
            assert_eq!((&wish.buyer, wish.after, wish.think), (&again.buyer, again.after, again.think), "seed 11");
            assert_eq!(wish.quantity, 1, "never more than the limit");
            if wish.buys {
                buys += 1;
                buyers.insert(wish.buyer);
                pays += i32::from(wish.after == After::Pay);
            }
        }
        assert!((1_400..1_600).contains(&buys), "{buys}");
        assert!((250..450).contains(&buyers.len()), "sixty fans and a fifth new: {}", buyers.len());
        assert!((0.75..0.85).contains(&(f64::from(pays) / f64::from(buys))), "{pays} of {buys}");
    }
}
