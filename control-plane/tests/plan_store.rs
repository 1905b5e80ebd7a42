//! The plan store's contract, on SQLite and on a real MariaDB: what must survive a process, who may write, and what
//! nobody may change.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use control_plane::plan_store::{
    Action, Change, Freeze, Leader, NewAuditRow, NewPolicy, PlanStore, Saved, Since, StoreError, Target,
};
use control_plane::planner::{Decision, Evidence, Memory, Override};
use control_plane::{Policy, SqlitePlans};
use serde_json::json;
use types::plan::Reason;
use types::{Generation, SaleName, Sku, Term, Tier, Timestamp};

type Store = Arc<dyn PlanStore>;

fn at(s: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + s)
}
fn sku(name: &str) -> Sku {
    Sku::new(name).unwrap()
}

fn decision(tier: Tier, generation: u64) -> Decision {
    Decision {
        tier,
        reason: Reason::Override { by: "ada".into(), until: at(90), why: "a \"test\"; ' -- ä \u{1f680}".into() },
        since: at(1),
        generation: Generation::new(generation),
        evidence: Evidence { attempts_per_s: 1.5, ..Evidence::default() },
        memory: Memory::default(),
    }
}

fn row(second: i64, generation: u64) -> NewAuditRow {
    NewAuditRow {
        at: at(second),
        actor: "ada".into(),
        action: Action::OverrideSet,
        product: Some(sku("a")),
        before: None,
        after: Some(json!({"tier": "queue"})),
        why: "a test".into(),
        generation: Generation::new(generation),
    }
}

fn step(base: u64) -> Change {
    let (base, next) = (Generation::new(base), Generation::new(base + 1));
    let order = Override {
        tier: Tier::Queue,
        by: "ada".into(),
        why: "a test".into(),
        at: at(1),
        until: at(61),
        generation: next,
    };
    let told = Freeze { by: "ada".into(), why: "a leak".into(), at: at(1) };
    Change {
        at: at(1),
        base,
        generation: next,
        decisions: vec![(sku("a"), decision(Tier::Queue, next.get()))],
        overrides: vec![(sku("a"), order)],
        paused: vec![
            (Target::Sale(SaleName::new("autumn").unwrap()), Some(told.clone())),
            (Target::Product(sku("a")), Some(told.clone())),
        ],
        frozen: Some(Some(told)),
        policy: Some(NewPolicy {
            at: at(1),
            by: "ada".into(),
            why: "calmer".into(),
            policy: Policy { moves_per_tick: 7, ..Policy::default() },
        }),
        configured: Some(Policy::default()),
        tiers: [3, 2, 1],
        audit: vec![row(1, next.get())],
        ..Change::default()
    }
}

async fn led(store: &Store, me: &str) -> Term {
    let seen = store.leader().await.unwrap();
    store.campaign(me, "http://me", &seen, at(0)).await.unwrap().unwrap()
}

async fn everything_is_there_after_a_restart(open: &dyn AsyncOpen) {
    let store = open.open().await;
    assert_eq!(store.load().await.unwrap(), Saved::default());
    let term = led(&store, "one").await;
    let change = step(0);
    store.commit(term, change.clone()).await.unwrap();
    drop(store);
    let store = open.open().await;
    let saved = store.load().await.unwrap();
    assert_eq!((saved.generation, saved.revision), (Generation::new(1), 1));
    assert_eq!(saved.decisions.into_iter().collect::<Vec<_>>(), change.decisions);
    assert_eq!(saved.overrides.into_iter().collect::<Vec<_>>(), change.overrides);
    assert_eq!(saved.paused.len(), 2);
    assert_eq!(saved.frozen.map(|f| f.why), Some("a leak".to_owned()));
    assert_eq!(saved.policy.map(|(_, p)| p.moves_per_tick), Some(7));
    assert_eq!(saved.configured, Some(Policy::default()));
    let gone = Change {
        at: at(2),
        base: Generation::new(1),
        generation: Generation::new(2),
        dropped: vec![sku("a")],
        overrides_gone: vec![sku("a")],
        paused: vec![(Target::Product(sku("a")), None)],
        frozen: Some(None),
        ..Change::default()
    };
    store.commit(term, gone).await.unwrap();
    let saved = store.load().await.unwrap();
    assert!(saved.decisions.is_empty() && saved.overrides.is_empty() && saved.frozen.is_none());
    assert_eq!(saved.paused.keys().map(Target::name).collect::<Vec<_>>(), ["autumn"]);

    let policies = store.policies(10).await.unwrap();
    assert_eq!((policies.len(), policies[0].by.as_str(), policies[0].why.as_str()), (1, "ada", "calmer"));
    let generations = store.generations(None, 10).await.unwrap();
    let numbers: Vec<_> = generations.iter().map(|g| (g.generation.get(), g.products, g.tiers)).collect();
    assert_eq!(numbers, [(2, 0, [0, 0, 0]), (1, 1, [3, 2, 1])]);
    assert_eq!(store.generations(Some(Generation::new(2)), 10).await.unwrap().len(), 1);
    assert_eq!(store.history(Some(&sku("a")), at(0), 10).await.unwrap(), change.decisions);
    assert!(store.history(Some(&sku("b")), at(0), 10).await.unwrap().is_empty());
    assert!(store.history(None, at(3), 10).await.unwrap().is_empty());
    assert_eq!(store.compact(at(2)).await.unwrap(), 1, "the first generation is forgotten");
    assert!(store.history(None, at(0), 10).await.unwrap().is_empty());
    assert_eq!(store.load().await.unwrap().generation, Generation::new(2), "the plan stays");
}

async fn only_the_leader_writes_and_only_on_what_is_stored(open: &dyn AsyncOpen) {
    let (one, two) = (open.open().await, open.open().await);
    let seen = one.leader().await.unwrap();
    assert_eq!(seen, Leader::default());
    let first = one.campaign("one", "http://one", &seen, at(0)).await.unwrap();
    assert_eq!(first, Some(Term::new(1)));
    assert_eq!(two.campaign("two", "http://two", &seen, at(0)).await.unwrap(), None, "one was faster");
    let (first, seen) = (first.unwrap(), two.leader().await.unwrap());
    assert_eq!((seen.holder.as_deref(), seen.url.as_str()), (Some("one"), "http://one"));
    assert!(one.renew(first, at(1)).await.unwrap());
    assert_eq!(two.campaign("two", "", &seen, at(2)).await.unwrap(), None, "it has renewed meanwhile");
    one.commit(first, step(0)).await.unwrap();

    let second = led(&two, "two").await;
    assert_eq!(second, Term::new(2));
    assert!(!one.renew(first, at(3)).await.unwrap());
    let late = one.commit(first, step(1)).await.unwrap_err();
    assert!(matches!(late, StoreError::NotLeader { term, .. } if term == second), "{late}");
    assert_eq!(one.raise_term(first, Term::new(50)).await.unwrap(), None, "an old leader raises nothing");
    let stale = two.commit(second, step(0)).await.unwrap_err();
    assert!(matches!(stale, StoreError::NotLeader { generation, .. } if generation == Generation::new(1)), "{stale}");
    let back = Change { base: Generation::new(1), generation: Generation::new(0), ..Change::default() };
    assert!(two.commit(second, back).await.is_err(), "a generation never goes back");
    assert_eq!(two.audit(Since::Id(0), 10).await.unwrap().len(), 1, "what was refused left nothing");
    two.commit(second, step(1)).await.unwrap();

    assert_eq!(two.raise_term(second, Term::new(50)).await.unwrap(), Some(Term::new(51)));
    assert!(two.commit(second, step(2)).await.is_err(), "its own former term");
    two.resign(Term::new(51)).await.unwrap();
    assert_eq!(one.leader().await.unwrap().holder, None);
    assert!(two.commit(Term::new(51), step(2)).await.is_err(), "it has given the lease back");
    assert_eq!(led(&one, "one").await, Term::new(52));
}

async fn the_audit_log_grows_and_is_read_by_id_and_time(open: &dyn AsyncOpen) {
    let store = open.open().await;
    let term = led(&store, "one").await;
    for n in 0..5 {
        let generation = Generation::new(n);
        let audit = vec![row(10 * i64::try_from(n).unwrap(), n)];
        let change = Change { base: generation, generation: generation.next(), audit, ..Change::default() };
        store.commit(term, change).await.unwrap();
    }
    let rows = store.audit(Since::Id(2), 2).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.id).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(store.audit(Since::Time(at(30)), 10).await.unwrap().len(), 2);
    assert_eq!(rows[0].after, Some(json!({"tier": "queue"})));
}

async fn a_large_step_is_one_step(open: &dyn AsyncOpen) {
    let store = open.open().await;
    let term = led(&store, "one").await;
    let decisions: Vec<_> = (0..5_000).map(|n| (sku(&format!("p{n:05}")), decision(Tier::Redis, 1))).collect();
    let all: Vec<_> = decisions.iter().map(|(s, _)| s.clone()).collect();
    let next = Generation::new(1);
    store.commit(term, Change { generation: next, decisions, ..Change::default() }).await.unwrap();
    assert_eq!(store.load().await.unwrap().decisions.len(), 5_000);
    let dropped = Change { base: next, generation: next.next(), dropped: all, ..Change::default() };
    store.commit(term, dropped).await.unwrap();
    assert!(store.load().await.unwrap().decisions.is_empty());
}

/// Opens the same place again and again.
#[async_trait::async_trait]
trait AsyncOpen: Sync {
    async fn open(&self) -> Store;
}

async fn contract(fresh: &dyn Fn() -> Box<dyn AsyncOpen>) {
    everything_is_there_after_a_restart(&*fresh()).await;
    only_the_leader_writes_and_only_on_what_is_stored(&*fresh()).await;
    the_audit_log_grows_and_is_read_by_id_and_time(&*fresh()).await;
    a_large_step_is_one_step(&*fresh()).await;
}

struct File(tempfile::TempDir);
#[async_trait::async_trait]
impl AsyncOpen for File {
    async fn open(&self) -> Store {
        Arc::new(SqlitePlans::open(&self.0.path().join("made/on/the/way")).unwrap())
    }
}

#[tokio::test]
async fn on_sqlite() {
    contract(&|| Box::new(File(tempfile::tempdir().unwrap()))).await;
}

#[test]
fn a_place_that_cannot_be_used_is_named_and_what_is_there_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "not a directory").unwrap();
    let Err(refused) = SqlitePlans::open(&file) else { panic!("a file is no directory") };
    assert!(refused.to_string().contains("a-file"), "{refused}");
    let name = control_plane::plan_store::sqlite::FILE;
    std::fs::write(dir.path().join(name), "this is not a database, and it is long enough to be read as one").unwrap();
    assert!(SqlitePlans::open(dir.path()).is_err());
}

#[tokio::test]
async fn nobody_changes_the_past_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let store: Store = Arc::new(SqlitePlans::open(dir.path()).unwrap());
    let term = led(&store, "one").await;
    store.commit(term, step(0)).await.unwrap();
    let outside = rusqlite::Connection::open(dir.path().join(control_plane::plan_store::sqlite::FILE)).unwrap();
    outside.busy_timeout(Duration::from_secs(5)).unwrap();
    for change in [
        "DELETE FROM audit",
        "UPDATE audit SET actor = 'eve'",
        "UPDATE head SET generation = 0",
        "UPDATE leader SET term = 0",
    ] {
        assert!(outside.execute(change, []).is_err(), "{change}");
    }
}

#[cfg(feature = "mysql")]
struct Database(String);
#[cfg(feature = "mysql")]
#[async_trait::async_trait]
impl AsyncOpen for Database {
    async fn open(&self) -> Store {
        let options = control_plane::MariaPlansOptions { url: Some(self.0.clone()), ..Default::default() };
        Arc::new(control_plane::MariaPlans::connect(&options).await.unwrap())
    }
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread")]
async fn on_mariadb() {
    let dir = tempfile::tempdir().unwrap();
    let server = servers::MariaDb::start(dir.path()).unwrap();
    contract(&|| Box::new(Database(server.create_database().unwrap()))).await;
}
