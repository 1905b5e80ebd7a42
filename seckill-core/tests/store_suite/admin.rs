//! Stories of administration: the act and its line in the audit log are one, and the lines are numbered as they were
//! committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use seckill_core::stock::admin_store::ActEnd::{Done, Refused, Unchanged};
use seckill_core::stock::admin_store::{Act, Acted, Action, Actor};
use seckill_core::stock::store::{SaleApplied, SaleState};
use types::{ProductSpec, Role, SaleName};

use super::*;

pub fn mia() -> Actor {
    let roles = BTreeSet::from([Role::Merchandiser, Role::Operator]);
    Actor { subject: BuyerId::new("mia").unwrap(), roles, request: Some("call-1".parse().unwrap()) }
}

fn apply(spec: SaleSpec) -> Act {
    Act::Apply(Box::new(spec))
}

pub async fn an_act_and_its_line_are_one(place: Arc<dyn Place>) {
    let shop = Shop { store: place.open(), place };
    let spec = |stock| sale("sale", vec![spec("a", stock, 2)]);
    let applied = |acted: Acted| match acted {
        Acted::Sale(applied) => applied,
        other => panic!("{other:?}"),
    };
    assert_eq!(applied(shop.store.administer(apply(spec(5)), mia(), NOW).await.unwrap()), SaleApplied::Created);
    assert_eq!(applied(shop.store.administer(apply(spec(5)), mia(), NOW).await.unwrap()), SaleApplied::Updated);
    let refused = applied(shop.store.administer(apply(spec(6)), mia(), later(1)).await.unwrap());
    assert!(matches!(refused, SaleApplied::Refused(why) if why.starts_with("stock: a")));
    let adjusted = shop.store.administer(Act::Adjust(adjustment(1, 4)), mia(), later(2)).await.unwrap();
    assert!(matches!(adjusted, Acted::Adjusted(Adjusted::Done { product: Some(_), .. })), "{adjusted:?}");
    let name = SaleName::new("sale").unwrap();
    let pause = Act::SetState { sale: name.clone(), state: SaleState::Paused, action: Action::Pause };
    let paused = shop.store.administer(pause, mia(), later(3)).await.unwrap();
    assert_eq!(paused, Acted::State(Some(SaleState::Paused)));
    let nowhere = SaleName::new("nowhere").unwrap();
    let close = Act::SetState { sale: nowhere, state: SaleState::Closed, action: Action::Close };
    assert_eq!(shop.store.administer(close, mia(), later(4)).await.unwrap(), Acted::State(None));

    let shop = shop.restart();
    let lines = shop.store.audit_lines(0, 100).await.unwrap();
    let seen: Vec<_> = lines.iter().map(|l| (l.seq, l.action.as_str(), l.end)).collect();
    let expected = [
        (1, "apply", Done),
        (2, "apply", Unchanged),
        (3, "apply", Refused),
        (4, "adjust", Done),
        (5, "pause", Done),
        (6, "close", Refused),
    ];
    assert_eq!(seen, expected);
    let first = &lines[0];
    assert_eq!((first.subject.as_str(), first.roles.as_str()), ("mia", "merchandiser,operator"));
    assert_eq!((first.request.as_deref(), first.sale.as_deref()), (Some("call-1"), Some("sale")));
    assert_eq!(lines[3].detail["before"]["total"], 5);
    assert_eq!(lines[3].detail["after"]["total"], 9);
    assert_eq!((lines[3].product.as_deref(), lines[3].at), (Some("a"), later(2)));
    assert_eq!(lines[4].detail, serde_json::json!({"before": {"state": "active"}, "after": {"state": "paused"}}));
    let page = shop.store.audit_lines(2, 2).await.unwrap();
    assert_eq!(page.iter().map(|l| l.seq).collect::<Vec<_>>(), [3, 4]);
    shop.check();
}

pub async fn a_sale_is_shown_as_its_file_says_it(place: Arc<dyn Place>) {
    let shop = Shop { store: place.open(), place };
    let product = ProductSpec {
        initial_tier: Some(Tier::Queue),
        name: "A \"quoted\" naïve name; DROP".into(),
        pages: vec!["p-1".parse().unwrap(), "p-2".parse().unwrap()],
        ..spec("a", 5, 2)
    };
    let written = sale("sale", vec![product, spec("b", 0, 1)]);
    shop.store.administer(apply(written.clone()), mia(), NOW).await.unwrap();
    shop.accept(attempt(1)).await;
    shop.store.administer(Act::Adjust(adjustment(1, 4)), mia(), NOW).await.unwrap();
    let name = written.name.clone();
    let shown = shop.store.sale(&name).await.unwrap().expect("it is there");
    assert_eq!((shown.spec(), shown.state), (written, SaleState::Active), "the stock it came with, not that of now");
    assert_eq!(shown.products[0].0, shop.product().await);
    let close = Act::SetState { sale: name.clone(), state: SaleState::Closed, action: Action::Close };
    shop.store.administer(close, mia(), NOW).await.unwrap();
    let closed = shop.store.sale(&name).await.unwrap().expect("a closed sale is shown too");
    assert_eq!((closed.state, closed.products.len()), (SaleState::Closed, 2));
    assert_eq!(shop.store.sale(&SaleName::new("other").unwrap()).await.unwrap(), None);
    // A clone under a name that is there would be an update: it is refused.
    let again = Act::Clone { from: name.clone(), sale: Box::new(closed.spec()) };
    let refused = shop.store.administer(again, mia(), NOW).await.unwrap();
    assert!(matches!(refused, Acted::Sale(SaleApplied::Refused(why)) if why.starts_with("name")));
}

pub async fn lines_are_numbered_in_the_order_of_their_commits(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 500, 2).await;
    let others: Vec<_> = (0..3).map(|_| shop.place.open()).collect();
    let reader = shop.store.clone();
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 60 {
            let page = reader.audit_lines(seen.last().copied().unwrap_or(0), 7).await.unwrap();
            seen.extend(page.iter().map(|line| line.seq));
            tokio::task::yield_now().await;
        }
        seen
    });
    let all: Vec<_> = (0..60)
        .map(|n| {
            let store = others[n % 3].clone();
            tokio::spawn(async move { store.administer(Act::Adjust(adjustment(n, 1)), mia(), NOW).await.unwrap() })
        })
        .collect();
    for act in all {
        act.await.unwrap();
    }
    assert_eq!(reading.await.unwrap(), (1..=60).collect::<Vec<u64>>(), "a reader with a cursor misses none");
    shop.check();
}
