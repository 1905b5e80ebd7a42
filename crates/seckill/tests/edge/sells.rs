//! Many more attempts than units, through the edge: few reach the core, exactly the stock is sold, credits balance.

use crate::crowd::Crowd;
use crate::place::{PRODUCT, books_until, calls, has_credits, options, sell, start, with_reserved};
use crate::town::Town;

/// How many ask for how many: a small form here, `EDGE_ATTEMPTS` and `EDGE_UNITS` for the whole.
fn size() -> (u64, u64) {
    let of = |name: &str, small: u64| std::env::var(name).ok().map_or(small, |text| text.parse().unwrap());
    (of("EDGE_ATTEMPTS", 20_000), of("EDGE_UNITS", 100))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_attempts_few_reach_the_core_and_every_unit_is_sold() {
    let (attempts, units) = size();
    let town = Town::embedded("");
    sell(&town, &[(PRODUCT, units)]).await;
    let edge = start(&town, &options(&town, "edge-1"));
    has_credits(&town, &edge, PRODUCT).await;
    let crowd = Crowd {
        issuer: town.issuer(),
        ports: vec![edge.port()],
        attempts,
        connections: 128,
        names: "ann",
        buyer: None,
        stop: None,
    };
    let answers = crowd.run().await;
    eprintln!("answers: {:?}, cut {}", answers.counts, answers.cut);
    let calls = calls(edge.access_log());
    eprintln!("calls: {calls:?}");
    assert_eq!(answers.all(), attempts);
    let bought = answers.of(201) + answers.of(202);
    let reached: u64 = calls.iter().filter(|((_, asked), _)| *asked).map(|(_, n)| n).sum();
    eprintln!("{reached} of {attempts} reached the core, for {units} units");
    assert_eq!(bought, units, "told to have bought");
    let state = with_reserved(&town, PRODUCT, units).await;
    let of = |name: &str| state[name].as_u64().unwrap();
    assert_eq!((of("sellable"), of("reserved"), of("total")), (0, units, units), "{state}");
    assert!(reached <= 3 * units, "{reached} calls reached the core for {units} units");
    let books =
        books_until(&town, &edge, PRODUCT, "all is at rest", |books| books["under_way"] == 0 && books["balance"] == 0)
            .await;
    let of = |name: &str| books[name].as_i64().unwrap();
    assert_eq!(of("balance"), of("issued") - of("admitted") + of("returned"), "{books}");
    assert_eq!(of("admitted"), of("returned") + of("spent"), "{books}");
    assert_eq!((of("spent"), of("balance")), (units as i64, 0), "{books}");
    eprintln!("{}", town.run(&["audit", "--at-rest"]));
}
