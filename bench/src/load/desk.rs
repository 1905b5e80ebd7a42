//! One thread of the generator: a schedule that offers arrivals, a bounded queue, and connections that serve it.
//! The schedule never waits for an answer.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::answer::{back_off, understand};
use super::identity::{Identity, mix, unit};
use super::journal::{Entry, Journal, Told};
use super::report::Report;
use super::wire::Wire;
use super::{Arrivals, Mode, Plan};

/// How often the schedule looks at `stop` and at what has become due.
const LOOK: Duration = Duration::from_millis(5);
/// Pause after a connection that was refused: a core that starts again is not flooded.
const RECONNECT: Duration = Duration::from_millis(20);

/// One request that is to be made.
#[derive(Debug)]
struct Job {
    identity: Identity,
    /// When it was meant to be sent.
    intended: Instant,
    /// When the attempt's first request was meant to be sent.
    first: Instant,
    tried: u32,
    /// The path of the ticket, if it is one's.
    ticket: Option<String>,
}

/// A job that is not due yet; the earliest is the greatest.
struct Later(Reverse<(Instant, u64)>, Job);

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Later {}
impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

struct Desk<'a> {
    plan: &'a Plan,
    thread: usize,
    begin: Instant,
    began_ms: i64,
    ready: RefCell<VecDeque<Job>>,
    // At most one for each attempt that is outstanding.
    later: RefCell<BinaryHeap<Later>>,
    wake: Notify,
    /// Attempts made and not at their end.
    outstanding: Cell<u64>,
    number: Cell<u64>,
    /// No new attempts.
    closed: Cell<bool>,
    /// Nothing more at all.
    done: Cell<bool>,
    report: RefCell<Report>,
    journal: RefCell<Option<Journal>>,
    failed: RefCell<Option<std::io::Error>>,
}

/// Runs one thread's share of the plan to its end.
pub(super) fn run(
    plan: &Plan,
    thread: usize,
    journal: Option<&Path>,
    begin: Instant,
    stop: &CancellationToken,
) -> anyhow::Result<Report> {
    let journal = match journal {
        Some(path) => {
            Some(Journal::create(path).with_context(|| format!("cannot make the journal {}", path.display()))?)
        }
        None => None,
    };
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began_ms = i64::try_from(epoch.saturating_sub(begin.elapsed()).as_millis()).unwrap_or(i64::MAX);
    // Connection tasks must live as long as the runtime; the plan outlives it by being shared.
    let desk = Desk {
        plan,
        thread,
        begin,
        began_ms,
        ready: RefCell::default(),
        later: RefCell::default(),
        wake: Notify::new(),
        outstanding: Cell::new(0),
        number: Cell::new(0),
        closed: Cell::new(false),
        done: Cell::new(false),
        report: RefCell::default(),
        journal: RefCell::new(journal),
        failed: RefCell::new(None),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let desk = Rc::new(desk);
    runtime.block_on(async {
        let share = (plan.connections + plan.threads - 1 - thread) / plan.threads;
        let mut serving: futures::stream::FuturesUnordered<_> =
            (0..share.max(1)).map(|n| connection(desk.clone(), thread + n * plan.threads)).collect();
        let connections = async { while futures::StreamExt::next(&mut serving).await.is_some() {} };
        tokio::join!(schedule(&desk, stop), connections);
    });
    if let Some(journal) = desk.journal.take() {
        journal.close().context("cannot write the journal")?;
    }
    if let Some(error) = desk.failed.take() {
        return Err(error).context("cannot write the journal");
    }
    Ok(desk.report.take())
}

/// Offers arrivals until the plan's end, then waits for what is outstanding.
async fn schedule(desk: &Desk<'_>, stop: &CancellationToken) {
    let plan = desk.plan;
    let end = desk.begin + plan.duration;
    let mut next = desk.begin;
    let mut draws = mix(plan.seed ^ ((desk.thread as u64 + 1) << 32));
    loop {
        let now = Instant::now();
        if now >= end || stop.is_cancelled() {
            break;
        }
        if let Mode::Open { rate, arrivals } = plan.mode {
            let mean = plan.threads as f64 / rate;
            while next <= now {
                desk.offer(next);
                draws = mix(draws);
                let gap = match arrivals {
                    Arrivals::Constant => mean,
                    Arrivals::Poisson => -mean * (1.0 - unit(draws)).ln(),
                };
                next += Duration::from_secs_f64(gap);
            }
        }
        desk.due(now);
        let wake = match plan.mode {
            Mode::Open { .. } => next.min(now + LOOK),
            Mode::Closed => now + LOOK,
        };
        tokio::time::sleep_until(wake.min(end).into()).await;
    }
    desk.closed.set(true);
    desk.report.borrow_mut().seconds = desk.begin.elapsed().as_secs_f64().min(plan.duration.as_secs_f64());
    let limit = Instant::now() + plan.drain;
    while desk.outstanding.get() > 0 && Instant::now() < limit {
        desk.due(Instant::now());
        tokio::time::sleep(LOOK).await;
    }
    desk.done.set(true);
    desk.wake.notify_waiters();
}

impl Desk<'_> {
    fn ms(&self, at: Instant) -> i64 {
        self.began_ms + i64::try_from(at.saturating_duration_since(self.begin).as_millis()).unwrap_or(i64::MAX)
    }

    fn fresh(&self, intended: Instant) -> Job {
        let number = self.number.get();
        self.number.set(number + 1);
        self.outstanding.set(self.outstanding.get() + 1);
        let seed = self.plan.seed ^ mix(self.thread as u64);
        let (identity, repeats) = Identity::of(&self.plan.shoppers, seed, number);
        let mut report = self.report.borrow_mut();
        report.arrivals += 1;
        report.duplicates += u64::from(repeats);
        Job { identity, intended, first: intended, tried: 0, ticket: None }
    }

    fn offer(&self, intended: Instant) {
        if self.ready.borrow().len() >= self.plan.waiting {
            let mut report = self.report.borrow_mut();
            report.arrivals += 1;
            report.not_offered += 1;
            return;
        }
        let job = self.fresh(intended);
        self.ready.borrow_mut().push_back(job);
        self.wake.notify_one();
    }

    /// Moves what has become due to the queue.
    fn due(&self, now: Instant) {
        let mut later = self.later.borrow_mut();
        while later.peek().is_some_and(|Later(Reverse((at, _)), _)| *at <= now) {
            let Some(Later(_, job)) = later.pop() else { break };
            self.ready.borrow_mut().push_back(job);
            self.wake.notify_one();
        }
    }

    fn put_off(&self, mut job: Job, by: Duration) {
        job.intended = Instant::now() + by;
        let order = self.number.get();
        self.later.borrow_mut().push(Later(Reverse((job.intended, order)), job));
    }

    fn end(&self) {
        self.outstanding.set(self.outstanding.get().saturating_sub(1));
    }

    fn take(&self) -> Option<Job> {
        let waiting = self.ready.borrow_mut().pop_front();
        let flat_out = self.plan.mode == Mode::Closed && !self.closed.get();
        waiting.or_else(|| flat_out.then(|| self.fresh(Instant::now())))
    }

    fn note(&self, entry: &Entry<'_>) {
        if let Some(journal) = self.journal.borrow_mut().as_mut()
            && let Err(error) = journal.note(entry)
        {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }
}

async fn connection(desk: Rc<Desk<'_>>, number: usize) {
    let mut wire = Wire::new(&desk.plan.targets, number);
    let mut key = String::new();
    loop {
        // Registered before the look, so that the end is not missed.
        let woken = desk.wake.notified();
        match desk.take() {
            Some(job) => serve(&desk, &mut wire, &mut key, job).await,
            None if desk.done.get() => return,
            None => woken.await,
        }
    }
}

/// Writes the request of a job.
fn request(desk: &Desk<'_>, key: &str, job: &Job, out: &mut Vec<u8>) {
    let shoppers = &desk.plan.shoppers;
    let token = &shoppers.buyers[job.identity.buyer].token;
    out.clear();
    let mut text = std::mem::take(out);
    let written = match &job.ticket {
        Some(path) => std::io::Write::write_fmt(
            &mut text,
            format_args!("GET {path} HTTP/1.1\r\nhost: core\r\nauthorization: Bearer {token}\r\n\r\n"),
        ),
        None => {
            let (sale, product) = (&shoppers.sale, &shoppers.products[job.identity.product]);
            let mut prefer = String::new();
            if let Some(seconds) = shoppers.wait {
                let _infallible = write!(prefer, "prefer: wait={seconds}\r\n");
            }
            let body = format_args!("{{\"quantity\":{}}}", shoppers.quantity).to_string();
            std::io::Write::write_fmt(
                &mut text,
                format_args!(
                    "POST /v1/sales/{sale}/products/{product}/purchases HTTP/1.1\r\nhost: core\r\n\
                     authorization: Bearer {token}\r\nidempotency-key: {key}\r\n{prefer}\
                     content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ),
            )
        }
    };
    debug_assert!(written.is_ok());
    *out = text;
}

/// Makes one request and files what follows from its answer.
async fn serve(desk: &Desk<'_>, wire: &mut Wire, key: &mut String, mut job: Job) {
    let plan = desk.plan;
    job.identity.write_key(&plan.shoppers.run, desk.thread, key);
    request(desk, key, &job, &mut wire.out);
    let sent = Instant::now();
    let answer = match tokio::time::timeout(plan.timeout, wire.exchange()).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(_)) => {
            wire.break_off();
            tokio::time::sleep(RECONNECT).await;
            None
        }
        Err(_) => {
            wire.break_off();
            None
        }
    };
    let read = Instant::now();
    let ticket = job.ticket.is_some();
    let status = answer.as_ref().map_or(0, |answer| answer.status);
    let body = answer.as_ref().and_then(|answer| wire.read.get(answer.body.clone())).unwrap_or_default();
    let said = understand(status, body, ticket);
    desk.note(&Entry {
        t: desk.ms(read),
        sent: desk.ms(sent),
        buyer: &plan.shoppers.buyers[job.identity.buyer].name,
        key,
        product: &plan.shoppers.products[job.identity.product],
        quantity: plan.shoppers.quantity,
        status,
        outcome: said.told,
        order: said.order,
        ticket_deadline: said.deadline,
        bound: ticket,
    });

    let mut report = desk.report.borrow_mut();
    report.requests += 1;
    report.answer(status, said.name);
    report.accepted += u64::from(said.told == Told::Accepted);
    let counts = job.intended >= desk.begin + plan.warm_up && job.intended < desk.begin + plan.duration;
    if counts && !ticket {
        let took = read.saturating_duration_since(job.intended);
        report.late.record(sent.saturating_duration_since(job.intended));
        report.answered.record(took);
        match said.told {
            Told::Accepted | Told::Queued => report.admitted.record(took),
            Told::Error => {}
            _ => report.refused.record(took),
        }
    }
    let again = said.again || status == 0;
    match said.told {
        Told::Queued => {
            if !ticket {
                report.tickets += 1;
                let place = answer.and_then(|answer| answer.location).and_then(|at| wire.read.get(at));
                job.ticket = place.and_then(|path| std::str::from_utf8(path).ok()).map(str::to_owned);
            }
            drop(report);
            if plan.shoppers.follow && job.ticket.is_some() {
                desk.put_off(job, plan.shoppers.follow_every);
            } else {
                desk.end();
            }
        }
        // A ticket has a promise: it is read until it is kept, whatever comes between.
        Told::Error if ticket && again => {
            report.retries += 1;
            drop(report);
            job.tried += 1;
            let wait = back_off(None, job.tried);
            desk.put_off(job, wait);
        }
        _ if again && !ticket && job.tried < plan.shoppers.retries => {
            report.retries += 1;
            drop(report);
            let wait = back_off(answer.and_then(|answer| answer.retry_after), job.tried);
            job.tried += 1;
            desk.put_off(job, wait);
        }
        told => {
            report.given_up += u64::from(again);
            if ticket && told != Told::Error {
                report.tickets_ended += 1;
                if counts || job.first >= desk.begin + plan.warm_up {
                    report.ended.record(read.saturating_duration_since(job.first));
                }
            }
            drop(report);
            desk.end();
        }
    }
}
