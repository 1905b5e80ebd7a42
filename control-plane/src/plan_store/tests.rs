//! What must survive a process, and what nobody may change.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;
use types::plan::Reason;
use types::{Generation, Tier};

use super::*;
use crate::fixtures::{seconds, sku};
use crate::planner::{Evidence, Memory};

fn decision(tier: Tier, generation: u64) -> Decision {
    Decision {
        tier,
        reason: Reason::Override { by: "ada".into(), until: seconds(90), why: "a test".into() },
        since: seconds(1),
        generation: Generation::new(generation),
        evidence: Evidence { attempts_per_s: 1.5, ..Evidence::default() },
        memory: Memory::default(),
    }
}

fn row(at: i64, generation: u64) -> NewAuditRow {
    NewAuditRow {
        at: seconds(at),
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
    let order = Override {
        tier: Tier::Queue,
        by: "ada".into(),
        why: "a test".into(),
        at: seconds(1),
        until: seconds(1).plus(Duration::from_secs(60)),
        generation: Generation::new(base + 1),
    };
    Change {
        base: Generation::new(base),
        generation: Generation::new(base + 1),
        decisions: vec![(sku("a"), decision(Tier::Queue, base + 1))],
        overrides: vec![(sku("a"), order)],
        policy: Some((seconds(1), Policy::default())),
        audit: vec![row(1, base + 1)],
        ..Change::default()
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, saved) = PlanStore::open(&dir.path().join("made/on/the/way")).unwrap();
    assert_eq!(saved, Saved::default());
    let change = step(0);
    store.commit(change.clone()).await.unwrap();
    drop(store);
    let (store, saved) = PlanStore::open(&dir.path().join("made/on/the/way")).unwrap();
    assert_eq!(saved.generation, Generation::new(1));
    assert_eq!(saved.decisions.into_iter().collect::<Vec<_>>(), change.decisions);
    assert_eq!(saved.overrides.into_iter().collect::<Vec<_>>(), change.overrides);
    assert_eq!(saved.policy, Some(Policy::default()));

    let gone = Change {
        base: Generation::new(1),
        generation: Generation::new(2),
        dropped: vec![sku("a")],
        overrides_gone: vec![sku("a")],
        ..Change::default()
    };
    store.commit(gone).await.unwrap();
    drop(store);
    let (_, saved) = PlanStore::open(&dir.path().join("made/on/the/way")).unwrap();
    assert!(saved.decisions.is_empty() && saved.overrides.is_empty());
}

#[tokio::test]
async fn a_step_on_an_old_generation_changes_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = PlanStore::open(dir.path()).unwrap();
    store.commit(step(0)).await.unwrap();
    let refused = store.commit(step(0)).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotOwner { found, .. } if found == Generation::new(1)), "{refused}");
    assert!(!refused.retryable());
    let back = Change { base: Generation::new(1), generation: Generation::new(0), ..Change::default() };
    assert!(store.commit(back).await.is_err(), "a generation never goes back");
    assert_eq!(store.audit(Since::Id(0), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_log_can_only_grow() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = PlanStore::open(dir.path()).unwrap();
    for n in 0..5 {
        let generation = Generation::new(n);
        let audit = vec![row(10 * i64::try_from(n).unwrap(), n)];
        store
            .commit(Change { base: generation, generation: generation.next(), audit, ..Change::default() })
            .await
            .unwrap();
    }
    let rows = store.audit(Since::Id(2), 2).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.id).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(store.audit(Since::Time(seconds(30)), 10).await.unwrap().len(), 2);
    let outside = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    for change in ["DELETE FROM audit", "UPDATE audit SET actor = 'eve'", "UPDATE head SET generation = 0"] {
        assert!(outside.execute(change, []).is_err(), "{change}");
    }
    assert_eq!(store.audit(Since::Id(0), 10).await.unwrap().len(), 5);
}

#[test]
fn a_place_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "not a directory").unwrap();
    let Err(refused) = PlanStore::open(&file) else { panic!("a file is no directory") };
    assert!(refused.to_string().contains("a-file"), "{refused}");
    std::fs::write(dir.path().join(FILE), "this is not a database, and it is long enough to be read as one").unwrap();
    assert!(PlanStore::open(dir.path()).is_err(), "what is there is not overwritten");
}
