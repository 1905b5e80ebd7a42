//! Stories of sales: what a file may change and what it may not.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::stock::store::{Attempt, Outcome, SaleApplied, SaleState};
use types::{ProductSpec, SaleName, SalePolicy, Tier};

use super::*;

async fn refused(shop: &Shop, spec: SaleSpec, field: &str) {
    let before = shop.place.rows("SELECT * FROM product ORDER BY product_id");
    match shop.store.apply_sale(spec, NOW).await.unwrap() {
        SaleApplied::Refused(why) => assert!(why.starts_with(field), "{why}"),
        other => panic!("{field}: {other:?}"),
    }
    assert_eq!(shop.place.rows("SELECT * FROM product ORDER BY product_id"), before, "a refusal leaves nothing");
}

pub async fn a_file_changes_all_but_stock(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 2).await;
    assert_eq!(
        shop.store.apply_sale(sale("sale", vec![spec("a", 5, 2)]), NOW).await.unwrap(),
        SaleApplied::Updated,
        "the same again"
    );
    let before = shop.accept(attempt(1)).await;
    let changed = ProductSpec {
        name: "New".into(),
        price: euros(999),
        limit: 1,
        initial_tier: Some(Tier::Redis),
        pages: vec!["a-page".parse().unwrap(), "b-page".parse().unwrap()],
        ..spec("a", 5, 2)
    };
    let longer =
        SaleSpec { closes: CLOSES.plus(Duration::from_secs(5)), ..sale("sale", vec![changed, spec("b", 0, 1)]) };
    assert_eq!(shop.store.apply_sale(longer.clone(), NOW).await.unwrap(), SaleApplied::Updated);
    let row = shop.product().await;
    assert_eq!((row.name.as_str(), row.price, row.limit, row.state.closes), ("New", euros(999), 1, longer.closes));
    assert_eq!((row.state.initial_tier, row.state.pages.len()), (Some(Tier::Redis), 2));
    assert_eq!(row.policy, SalePolicy::default());
    let policy = SalePolicy { token_required: true, proof_of_work: 20 };
    let strict = SaleSpec { policy, ..longer.clone() };
    assert_eq!(shop.store.apply_sale(strict, NOW).await.unwrap(), SaleApplied::Updated);
    assert_eq!(shop.product().await.policy, policy);
    assert!(shop.store.products().await.unwrap().iter().all(|row| row.policy == policy), "each product of the sale");
    assert_eq!(shop.store.apply_sale(longer.clone(), NOW).await.unwrap(), SaleApplied::Updated);
    assert_eq!(shop.product().await.policy, SalePolicy::default(), "a file says all of it");
    assert_eq!(shop.units().await, (4, 0, 1, 0), "stock stays");
    let b = shop.store.product(&sku("b")).await.unwrap().expect("it was added");
    assert_eq!((b.state.total, b.state.tier), (0, Tier::Db));
    let old = shop.store.order(before.order, &before.buyer).await.unwrap().unwrap();
    assert_eq!(old.amount, euros(PRICE), "an order keeps its price");
    let more = Attempt { key: key(2), order: order_id(2), ..attempt(1) };
    assert_eq!(outcome(&shop.decide(more).await), Some((Outcome::Limit, true)), "the new limit binds at once");
    assert_eq!(shop.store.products().await.unwrap().len(), 2);
    shop.check();
}

pub async fn what_a_file_may_not_do_is_refused_whole(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 2).await;
    let good = || spec("a", 5, 2);
    refused(&shop, sale("sale", vec![spec("b", 1, 1), spec("a", 6, 2)]), "stock: a").await;
    refused(&shop, sale("other", vec![spec("b", 1, 1), good()]), "sku: a").await;
    refused(&shop, sale("sale", vec![good(), good()]), "sku: a").await;
    let page = ProductSpec { pages: vec!["a".parse().unwrap()], ..spec("b", 1, 1) };
    refused(&shop, sale("other", vec![page.clone()]), "pages: a").await;
    refused(&shop, sale("sale", vec![good(), page]), "pages: a").await;
    refused(&shop, sale("sale", vec![ProductSpec { price: euros(0), ..good() }]), "price: a").await;
    refused(&shop, sale("sale", vec![ProductSpec { price: euros(Money::MAX_MINOR), ..good() }]), "price: a").await;
    refused(&shop, sale("sale", vec![ProductSpec { limit: 0, ..good() }]), "limit: a").await;
    refused(&shop, sale("other", vec![spec("b", u64::MAX, 1)]), "stock: b").await;
    refused(&shop, SaleSpec { closes: OPENS, ..sale("sale", vec![good()]) }, "closes").await;

    let (mut pair, alone) = (sale("sale", vec![good(), spec("b", 5, 2)]), sale("sale", vec![good()]));
    shop.store.apply_sale(pair.clone(), NOW).await.unwrap();
    assert_eq!(shop.store.apply_sale(alone.clone(), NOW).await.unwrap(), SaleApplied::Updated);
    assert!(shop.store.product(&sku("b")).await.unwrap().is_none(), "nobody had ordered it");
    pair.products.reverse();
    shop.store.apply_sale(pair, NOW).await.unwrap();
    let order = shop.accept(Attempt { product: sku("b"), ..attempt(1) }).await;
    shop.store.cancel(order.order, &order.buyer, NOW).await.unwrap();
    refused(&shop, alone, "product: b").await;
    shop.check();
}

pub async fn a_sku_comes_back_after_its_sale_was_closed(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 2).await;
    let paid = shop.accept(attempt(1)).await;
    shop.pay(1, &paid).await;
    let unpaid = shop.accept(attempt(2)).await;
    shop.lend(1).await;
    shop.store.set_sale_state(&SaleName::new("sale").unwrap(), SaleState::Closed, NOW).await.unwrap();
    refused(&shop, sale("sale", vec![spec("a", 5, 2)]), "name").await;
    refused(&shop, sale("again", vec![spec("a", 9, 1)]), "sku: a").await;
    let epoch = shop.fence(Tier::Db).await;
    shop.moved(MoveStep::Settle { lease: lease_id(1) }).await;
    shop.moved(MoveStep::Open { product: sku("a"), epoch }).await;
    assert_eq!(shop.store.apply_sale(sale("again", vec![spec("a", 9, 1)]), NOW).await.unwrap(), SaleApplied::Created);
    assert_eq!(shop.units().await, (9, 0, 1, 1), "what was left over is replaced, what is held stays");
    shop.check();
    let mine = Attempt { key: key(9), order: order_id(9), ..attempt(1) };
    assert_eq!(shop.accept(mine).await.sale.as_str(), "again", "the limit is of the new sale");
    shop.store.cancel(unpaid.order, &unpaid.buyer, NOW).await.unwrap();
    assert_eq!(shop.units().await, (9, 0, 1, 1));
    assert_eq!(
        shop.store.apply_sale(sale("again", vec![spec("a", 9, 1)]), NOW).await.unwrap(),
        SaleApplied::Updated,
        "its file can be applied again"
    );
}
