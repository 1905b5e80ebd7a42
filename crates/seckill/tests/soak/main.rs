//! The soak: one product, far more attempts than units, on real processes; in one tier, while the tier moves, and
//! while processes are killed besides. At the end every unit is sold once, every ticket has its end and the auditor
//! is green. CI runs a small one; `script/test --soak --full` runs the rest (`docs/evidence/`).
#![cfg(all(feature = "kafka", feature = "redis", feature = "mysql"))]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod books;
mod crowd;
mod journal;
mod judge;
mod moves;
mod shopper;
mod timings;
#[path = "../town/mod.rs"]
mod town;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use audit::stock::{MAX_CHANGES, Sampler};
use books::Books;
use crowd::{After, Attempt, Crowd, LIMIT, Size};
use futures::StreamExt as _;
use judge::judge;
use moves::{Operator, Ordered};
use parking_lot::Mutex;
use serde_json::Value;
use shopper::{PRODUCT, SALE, Street};
use testkit::faults::{self, Plan, Record, Schedule, What};
use tokio_util::sync::CancellationToken;
use town::Town;
use types::Role;

/// Seed of everything drawn, unless `SOAK_SEED` names another.
const SEED: u64 = 20_261_124;
/// Attempts under way at once. Most of them wait for a ticket's end or for the time to ask again.
const SHOPPERS: usize = 1_500;
/// Time between two moves.
const MOVE_EVERY: Duration = Duration::from_secs(2);
/// Time between two deaths.
const KILL_EVERY: Duration = Duration::from_secs(5);
/// Time between two samples of what is sellable.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Longest time for the last units to be sold after the crowd has gone, and for the books to come to rest.
const LAST_UNITS: Duration = Duration::from_secs(120);
/// Orders stay unpaid for longer than any soak: what comes back to be sold again was cancelled, never expired.
const SETTINGS: &str = "reserve_for = \"2d\"\n";
/// One soak at a time: each fills the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `seckill all-in-one`.
    Embedded,
    /// Two cores and a control plane on Kafka, Redis and MariaDB.
    Real,
}

/// Under what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stress {
    /// The product stays in one tier.
    Tier(&'static str),
    /// It moves every two seconds.
    Moved,
    /// And a process dies every five.
    Killed,
}

fn seed() -> u64 {
    let chosen = std::env::var("SOAK_SEED").ok();
    chosen.map_or(SEED, |text| text.parse().expect("SOAK_SEED is a whole number"))
}

/// The size of the long soaks: full, or as many units as `SOAK_UNITS` says, with two buyers and ten attempts for each.
fn long() -> Size {
    let chosen = std::env::var("SOAK_UNITS").ok();
    let units = chosen.map(|text| text.parse::<u32>().expect("SOAK_UNITS is a whole number"));
    units.map_or(Size::FULL, |units| Size { units: units.into(), buyers: 2 * units })
}

/// What everybody needs to shop, operate and count, without the processes: those belong to whoever kills them.
struct Access {
    place: Place,
    size: Size,
    seed: u64,
    street: Arc<Street>,
    operator: Operator,
    admin: Vec<String>,
    merchandiser: String,
}

impl Access {
    /// Waits until every core has learned of the sale: another core than the one it was applied to reads it a moment
    /// later.
    async fn opened(&self) {
        for base in self.street.cores() {
            let url = format!("{base}/v1/products/{PRODUCT}");
            let began = Instant::now();
            while !self.operator.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                assert!(began.elapsed() < town::PATIENCE, "{base} does not sell the product");
                tokio::time::sleep(town::LOOK).await;
            }
        }
    }

    /// Units reserved and sold, as any living core tells.
    async fn gone(&self) -> Option<u64> {
        for admin in &self.admin {
            let call = self.operator.http.get(format!("{admin}/v1/sales")).bearer_auth(&self.merchandiser);
            let Ok(answer) = call.send().await else { continue };
            let Ok(body) = answer.json::<Value>().await else { continue };
            let product = &body["sales"][0]["products"][0];
            if let (Some(reserved), Some(sold)) = (product["reserved"].as_u64(), product["sold"].as_u64()) {
                return Some(reserved + sold);
            }
        }
        None
    }
}

fn sale(units: u64) -> String {
    format!(
        "name = {SALE:?}\nzone = \"UTC\"\nopens = \"2026-01-01T00:00:00\"\ncloses = \"2036-01-01T00:00:00\"\n\
         currency = \"EUR\"\n[[product]]\nsku = {PRODUCT:?}\nname = \"The one\"\nprice = 64900\nstock = {units}\n\
         limit = {LIMIT}\n"
    )
}

/// Runs one soak; panics if anything is not as promised.
fn soak(place: Place, stress: Stress, size: Size) {
    let _alone = ALONE.lock();
    let seed = seed();
    println!("== soak {place:?} {stress:?}: {} units, {} attempts, seed {seed}", size.units, size.attempts());
    let mut town = match place {
        Place::Embedded => Town::embedded(SETTINGS),
        Place::Real => Town::real(&["core", "core-2", "control"], SETTINGS),
    };
    println!("data {}", town.data().display());
    let file = town.data().join("sale.toml");
    fs::write(&file, sale(size.units)).unwrap();
    town.run(&["sale", "apply", &file.display().to_string(), "--admin", &town.base("admin")]);

    let (journal, writer) = journal::open(town.data());
    let listeners = |names: &[&str]| -> Vec<String> { names.iter().map(|name| town.base(name)).collect() };
    let (cores, admin) = match place {
        Place::Embedded => (listeners(&["public"]), listeners(&["admin"])),
        Place::Real => (listeners(&["public", "public-2"]), listeners(&["admin", "admin-2"])),
    };
    let access = Access {
        place,
        size,
        seed,
        street: Arc::new(Street::new(cores, town.issuer(), journal)),
        operator: Operator {
            http: town.http.clone(),
            base: town.base("control"),
            token: town.token("operator", &[Role::Operator]),
        },
        admin,
        merchandiser: town.token("merchandiser", &[Role::Merchandiser]),
    };

    let schedule = match stress {
        Stress::Killed => Schedule::draw(seed, &plan(place)),
        _ => Schedule { seed, acts: Vec::new() },
    };
    let sampling = AtomicBool::new(true);
    let store = Books::of(&town).store();
    let (stop, stopped) = faults::stopper();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(access.opened());
    let began = Instant::now();
    let (took, ordered, record, sampler) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(&store, &sampling));
        let town = &mut town;
        let killer = scope.spawn(move || faults::run(&schedule, &mut town.victims(), &stopped));
        let (took, ordered) = runtime.block_on(rush(&access, stress, began));
        drop(stop);
        let record = killer.join().unwrap();
        runtime.block_on(sell_the_rest(&access));
        sampling.store(false, Ordering::Relaxed);
        (took, ordered, record, sampler.join().unwrap())
    });
    let Access { street, .. } = access;
    let counters = format!("{:?}", street.counters);
    let lost = (street.counters.unsettled.load(Ordering::Relaxed), street.counters.senseless.load(Ordering::Relaxed));
    let with_tickets = street.counters.tickets.load(Ordering::Relaxed) > 0;
    drop(street);
    let noted = writer.close();
    println!("{record}\n{counters}\n{noted} journal entries");

    let verdict = settle(&town, size.units, &sampler);
    println!("{verdict}");
    report(&town, place, stress, size, took, &ordered, &record, verdict.report.orders);
    if !verdict.wrong.is_empty() || lost != (0, 0) || record.failures().count() > 0 {
        println!("the data stays at {}\n{}", town.keep().display(), town.said());
        panic!("seed {seed}: {:?}; unsettled and senseless {lost:?}", verdict.wrong);
    }
    let examined = verdict.report.invariant(7).is_some_and(|tickets| tickets.not_examined.is_none());
    assert_eq!(examined, with_tickets, "each ticket is held to its end");
    town.stop_services();
    let audited = town.run(&["audit", "--at-rest"]);
    assert!(audited.contains("all examined invariants hold"), "{audited}");
    if place == Place::Embedded {
        canary(&town, size.units);
    }
}

/// Who may die. In a real town the cores most often: they hold what is under way.
fn plan(place: Place) -> Plan {
    let victims = match place {
        Place::Embedded => vec!["house"],
        Place::Real => vec!["core", "core", "core-2", "core-2", "control", "redis", "mariadb", "kafka"],
    };
    Plan {
        victims,
        every: KILL_EVERY,
        length: Duration::from_secs(4 * 3_600),
        away_ms: 0..=500,
        pause_ms: 200..=2_000,
        pauses_percent: 0,
    }
}

/// Samples what is sellable while the soak runs. What cannot be read while a server is dead is not sampled: the
/// auditor then judges by the events alone.
fn sample(store: &audit::stock::Store, on: &AtomicBool) -> Sampler {
    let mut sampler = Sampler::on(store).unwrap();
    while on.load(Ordering::Relaxed) && sampler.taken() < MAX_CHANGES as u64 {
        let _missed = sampler.sample(jiff::Timestamp::now().as_millisecond());
        std::thread::sleep(SAMPLE_EVERY);
    }
    sampler
}

/// The crowd comes; answers how long it took and what operations ordered.
async fn rush(access: &Access, stress: Stress, began: Instant) -> (Duration, Ordered) {
    let stop = CancellationToken::new();
    let moving = match stress {
        Stress::Tier(tier) => {
            access.operator.fix(tier).await;
            None
        }
        Stress::Moved | Stress::Killed => {
            Some(tokio::spawn(access.operator.clone().keep_moving(access.seed, MOVE_EVERY, stop.clone())))
        }
    };
    let crowd = Arc::new(Crowd::draw(access.seed, access.size));
    let telling = tokio::spawn(tell(access.street.clone(), crowd.len(), began));
    futures::stream::iter(0..crowd.len())
        .for_each_concurrent(SHOPPERS, |place| {
            let (street, crowd) = (access.street.clone(), crowd.clone());
            async move {
                tokio::spawn(async move { street.shop(&crowd.at(place)).await }).await.unwrap();
            }
        })
        .await;
    telling.abort();
    let took = began.elapsed();
    stop.cancel();
    let ordered = match moving {
        Some(moving) => moving.await.unwrap(),
        None => Ordered::default(),
    };
    (took, ordered)
}

/// Says how far it is, so that a long run can be watched.
async fn tell(street: Arc<Street>, all: usize, began: Instant) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let counters = &street.counters;
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "{:>6.0} s  {} of {all} attempts, {} calls, {} unanswered, {} draining, {} backlog",
            began.elapsed().as_secs_f64(),
            of(&counters.ended),
            of(&counters.calls),
            of(&counters.unanswered),
            of(&counters.draining),
            of(&counters.backlog),
        );
    }
}

/// Late buyers, one unit each, until nothing is left.
async fn sell_the_rest(access: &Access) {
    let (began, mut late) = (Instant::now(), 0);
    let mut seen = None;
    while began.elapsed() < LAST_UNITS {
        seen = access.gone().await;
        let missing = match seen {
            Some(gone) if gone == access.size.units => {
                println!("sold out after {late} late buyers");
                return;
            }
            Some(gone) => access.size.units.saturating_sub(gone).clamp(1, SHOPPERS as u64),
            None => 1,
        };
        let buyers = late..late + missing;
        late += missing;
        futures::stream::iter(buyers)
            .for_each_concurrent(SHOPPERS, |n| async move {
                let buyer = format!("late-{n}");
                let attempt = Attempt { buyer, key: "late", quantity: 1, after: After::Keep, own: n };
                access.street.shop(&attempt).await;
            })
            .await;
    }
    println!("NOT sold out: {seen:?} of {} on {:?} after {late} late buyers", access.size.units, access.place);
}

/// Waits until the books are at rest (payments and recoveries under way have ended) and judges them.
fn settle(town: &Town, units: u64, sampler: &Sampler) -> judge::Verdict {
    let (books, journals) = (Books::of(town), judge::journals(town.data()));
    let began = Instant::now();
    loop {
        let verdict = judge(&books, &journals, units, Some(sampler));
        if verdict.wrong.is_empty() || began.elapsed() > LAST_UNITS / 4 {
            return verdict;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[expect(clippy::too_many_arguments, reason = "one line of a table")]
fn report(
    town: &Town,
    place: Place,
    stress: Stress,
    size: Size,
    took: Duration,
    ordered: &Ordered,
    record: &Record,
    orders: u64,
) {
    let books = Books::of(town);
    let mut entries = Vec::new();
    for path in judge::journals(town.data()) {
        entries.extend(audit::journal::read(&path).unwrap().entries);
    }
    let served = timings::served(&entries);
    let millis = |at: std::time::SystemTime| {
        i64::try_from(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
    };
    let deaths: Vec<i64> = record.done.iter().map(|done| millis(done.began)).collect();
    let restarts = record.done.iter().map(|done| done.took.as_millis() as i64).collect();
    let moves = books.moves();
    println!("-- result of {place:?} {stress:?}, seed {}", record.seed);
    println!(
        "units {}, attempts {}, {:.0} s, journal entries {}",
        size.units,
        size.attempts(),
        took.as_secs_f64(),
        entries.len()
    );
    println!("orders {orders} by tier {:?}, by state {:?}", books.orders_by_tier(), books.orders_by_state());
    println!("decisions {:?}", books.decisions());
    println!("moves {} (ordered {}, refused {})", moves.len(), ordered.accepted, ordered.refused);
    println!("kills, pauses {:?}", record.counts());
    println!(
        "pause around a move, as buyers saw it: p50 / p99 / longest {}",
        timings::spread(timings::pauses(&served, &moves, &deaths))
    );
    println!("from a kill until the process serves again: {}", timings::spread(restarts));
    let kills =
        record.done.iter().filter(|done| matches!(done.act.what, What::Kill { .. })).map(|done| millis(done.began));
    println!(
        "from a kill until buyers are served again: {}",
        timings::spread(timings::recoveries(&served, &kills.collect::<Vec<_>>()))
    );
}

/// The judge must see what it should: books with an order less, a unit more, a ticket without its end.
fn canary(town: &Town, units: u64) {
    let (books, journals) = (Books::of(town), judge::journals(town.data()));
    assert!(judge(&books, &journals, units, None).wrong.is_empty(), "whole books are well");
    let red = |name: &str, books: &Books<'_>, journals: &[std::path::PathBuf]| {
        let verdict = judge(books, journals, units, None);
        assert!(!verdict.wrong.is_empty(), "the judge did not see {name}");
        println!("canary: {name}: {:?}", verdict.wrong);
        verdict.wrong.join("\n")
    };
    let one = "(SELECT order_id FROM orders WHERE state = 'accepted' LIMIT 1)";
    let less = books.doctored(town.data(), "less", &format!("DELETE FROM orders WHERE order_id = {one}"));
    assert!(red("an order less", &less, &journals).contains("invariant 4"));
    let more = books.doctored(town.data(), "more", "UPDATE stock SET sold = sold + 1, total = total + 1");
    red("a unit more", &more, &journals);
    let twice = "INSERT INTO orders SELECT 'ffffffffffffffffffffffffffffffff', buyer || '-b', key, sale, product_id, \
                 quantity, amount, currency, tier, state, NULL, NULL, request_id, accepted_at, expires_at, updated_at \
                 FROM orders WHERE state = 'accepted' LIMIT 1";
    red("an order twice", &books.doctored(town.data(), "twice", twice), &journals);

    // A ticket whose end nobody has: neither its reader nor the table.
    let (journal, writer) = journal::open(&town.data().join("canary"));
    let past = jiff::Timestamp::now().as_millisecond() - 60_000;
    journal.note(audit::journal::Entry {
        t: past,
        sent: Some(past),
        buyer: "nobody".to_owned(),
        key: "first".to_owned(),
        product: PRODUCT.to_owned(),
        quantity: 1,
        status: 202,
        outcome: audit::journal::Told::Queued,
        order: None,
        ticket_deadline: Some(past + 10_000),
        bound: false,
    });
    drop(journal);
    writer.close();
    let mut with_open = journals.clone();
    with_open.extend(judge::journals(&town.data().join("canary")));
    assert!(red("a ticket without an end", &books, &with_open).contains("invariant 7"));
}

#[test]
fn embedded_moved_and_killed() {
    soak(Place::Embedded, Stress::Killed, Size { units: 10_000, buyers: 20_000 });
}

#[test]
fn real_moved_and_killed() {
    soak(Place::Real, Stress::Killed, Size { units: 2_000, buyers: 4_000 });
}

/// The full ones: each some minutes to an hour. `script/test --soak --full [NAME]`.
macro_rules! full {
    ($($name:ident: $place:ident, $stress:expr;)*) => {$(
        #[test]
        #[ignore = "long: script/test --soak --full"]
        fn $name() {
            soak(Place::$place, $stress, long());
        }
    )*};
}

full! {
    full_embedded_db: Embedded, Stress::Tier("db");
    full_embedded_redis: Embedded, Stress::Tier("redis");
    full_embedded_queue: Embedded, Stress::Tier("queue");
    full_embedded_moved: Embedded, Stress::Moved;
    full_embedded_killed: Embedded, Stress::Killed;
    full_real_db: Real, Stress::Tier("db");
    full_real_redis: Real, Stress::Tier("redis");
    full_real_queue: Real, Stress::Tier("queue");
    full_real_moved: Real, Stress::Moved;
    full_real_killed: Real, Stress::Killed;
}
