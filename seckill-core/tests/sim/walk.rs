//! How long the mover's walk takes over ten thousand products at rest: it prints, and asserts no time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::MemoryLog;
use types::plan::{PlanEntry, Reason};
use types::{Generation, ManualClock, Money, ProductSpec, SaleName, SaleSpec, Sku, Tier, Timestamp};

use crate::ids::Ids;
use crate::mover::Mover;
use crate::options::Options;
use crate::plan_client::PlanClient;
use crate::service::{Ports, share};
use crate::stock::db::sqlite::inline::InlineStore;
use crate::stock::redis::InProcessLeases;
use crate::stock::store::StockStore;
use crate::ticket::TicketSecret;

const PRODUCTS: usize = 10_000;
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

#[tokio::test]
async fn a_walk_over_ten_thousand_products() {
    let store = Arc::new(InlineStore::create("walk", None));
    let product = |n: usize| ProductSpec {
        sku: Sku::new(format!("sku-{n:05}")).expect("a sku"),
        name: "It".into(),
        price: Money::new(100, "EUR".parse().expect("a currency")).expect("money"),
        stock: 10,
        limit: 1,
        initial_tier: None,
        pages: Vec::new(),
    };
    let sale = SaleSpec {
        policy: types::SalePolicy::default(),
        name: SaleName::new("sale").expect("a name"),
        zone: "Europe/Berlin".into(),
        opens: NOW,
        closes: NOW.plus(Duration::from_secs(3_600)),
        products: (0..PRODUCTS).map(product).collect(),
    };
    store.apply_sale(sale, NOW).await.expect("the sale");
    let ports = Ports {
        store,
        leases: Arc::new(InProcessLeases::new()),
        log: Arc::new(MemoryLog::new()),
        clock: Arc::new(ManualClock::at(NOW)),
    };
    let secret = TicketSecret::new([7u8; 32]).expect("long enough");
    let shared = Arc::new(share(Options::default(), ports, secret, Ids::from_seed(1)).await.expect("a core"));
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Arc::new(PlanClient::open(folder.path()).expect("a plan"));
    let entry = |slot: &Arc<crate::tier_table::Slot>| PlanEntry {
        product: slot.row().state.product.clone(),
        tier: Tier::Db,
        reason: Reason::Cold,
    };
    plan.hold(Generation::new(1), shared.table.slots().iter().map(entry).collect(), NOW);
    let mover = Mover::new(shared.clone(), plan);
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        assert!(mover.with_work(shared.table.slots()).is_empty());
        best = best.min(begun.elapsed());
    }
    println!("a walk over {PRODUCTS} products at rest: {:.2} ms", best.as_secs_f64() * 1e3);
}
