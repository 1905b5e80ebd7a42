//! The generator against a core in a process of its own: everything offered is answered or counted, tickets end, and
//! the auditor finds the journals true. No time is judged.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::time::Duration;

use bench::child::{Core, Providers, SALE, SECRET};
use bench::load::{self, Arrivals, Mode, Plan, Shoppers};
use bench::tokens::Tokens;
use tokio_util::sync::CancellationToken;
use types::{Clock, SystemClock, Tier};

const SEED: u64 = 11;

fn shoppers(products: &[(String, u64)], run: &str) -> Shoppers {
    Shoppers {
        sale: SALE.to_owned(),
        products: products.iter().map(|(sku, _)| sku.clone()).collect(),
        buyers: load::buyers(&Tokens::new(SECRET), "buyer", 50).unwrap(),
        quantity: 1,
        duplicates: 0.2,
        retries: 3,
        follow: true,
        follow_every: Duration::from_millis(100),
        wait: None,
        run: run.to_owned(),
    }
}

#[test]
fn what_clients_saw_is_what_the_store_holds() {
    println!("seed {SEED}");
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let mut core = Core::start(Path::new(env!("CARGO_BIN_EXE_bench")), folder, &Providers::default()).unwrap();
    // One sells out, the other does not.
    let products = [("few".to_owned(), 40), ("many".to_owned(), 100_000)];
    core.sell(&products).unwrap();
    let mut journals = Vec::new();
    for tier in [Tier::Db, Tier::Redis, Tier::Queue] {
        core.put_on(tier, &products).unwrap();
        for (name, mode, threads) in
            [("open", Mode::Open { rate: 300.0, arrivals: Arrivals::Poisson }, 2), ("closed", Mode::Closed, 1)]
        {
            let mut plan = Plan::new(
                core.at.public,
                mode,
                Duration::from_millis(700),
                shoppers(&products, &format!("{tier}-{name}")),
            );
            plan.threads = threads;
            plan.connections = 8;
            plan.seed = SEED;
            plan.journal = Some(folder.to_owned());
            plan.drain = Duration::from_secs(60);
            let report = load::run(&plan, &CancellationToken::new()).unwrap();
            println!("{tier} {name}: {}", report.json());
            assert!(report.arrivals > 0 && report.duplicates > 0);
            assert_eq!(report.tickets, report.tickets_ended, "every ticket was read to its end");
            let answers: u64 = report.answers.iter().map(|(_, _, count)| count).sum();
            assert_eq!(answers, report.requests, "each request is counted once");
            assert!(report.requests >= report.arrivals - report.not_offered, "what was offered was sent");
            assert!(report.accepted > 0, "something was sold: {:?}", report.answers);
            journals.extend(plan.journals());
        }
    }
    // Back home, so that nothing stays leased.
    core.put_on(Tier::Db, &products).unwrap();
    core.stop().unwrap();
    let options = audit::stock::Options::at_rest(SystemClock::new().now().millis());
    let report = audit::stock::audit(&folder.join("stock.sqlite"), &journals, &options, None).unwrap();
    for invariant in &report.invariants {
        println!("{invariant:?}");
    }
    assert!(report.journal_entries > 0 && report.orders > 0 && report.journal_torn == 0);
    assert!(report.invariants.iter().all(|i| i.violated == 0), "the auditor finds no fault");
}

#[test]
fn arrivals_do_not_wait_for_answers_and_what_is_not_offered_is_counted() {
    // Somebody who takes connections and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let products = [("p".to_owned(), 1)];
    let mode = Mode::Open { rate: 1_000.0, arrivals: Arrivals::Constant };
    let mut plan = Plan::new(deaf.local_addr().unwrap(), mode, Duration::from_millis(500), shoppers(&products, "deaf"));
    plan.connections = 2;
    plan.waiting = 50;
    plan.timeout = Duration::from_millis(200);
    plan.drain = Duration::ZERO;
    plan.shoppers.retries = 0;
    let report = load::run(&plan, &CancellationToken::new()).unwrap();
    println!("{}", report.json());
    assert!(report.arrivals >= 490, "the schedule goes on whatever the answers do: {}", report.arrivals);
    assert!(report.not_offered > 300, "two connections and fifty places: {}", report.not_offered);
    assert_eq!(report.with_status(0), report.requests, "nobody answered");
    assert!(report.answered.at(0.99) >= 190.0, "waiting for a connection is part of the latency");
}
