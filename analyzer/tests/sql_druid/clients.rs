//! Druid's own clients, unchanged, and others' Parquet readers on history: Python programs of `bench/clients`, run with
//! what `script/test` installed for them. Where that could not be (no package index), they say so and end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use analyzer::history::{History, HistoryOptions};
use analyzer::sql::{SqlOptions, router};
use analyzer::tables::HeatRow;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use types::{EventKind, Timestamp};

use crate::{Fake, options, rows};

fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")))?;
    let python = cache.join("seckill/clients/bin/python");
    let there = python.exists();
    if !there {
        eprintln!("skipped: {} is not there; script/test installs it", python.display());
    }
    there.then_some(python)
}

/// Runs a program of `bench/clients`; what it printed. It must end well.
async fn run(python: &Path, program: &str, arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/clients");
    let ran =
        tokio::process::Command::new(python).arg(program).args(arguments).current_dir(folder).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout).into_owned(), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{program}: {}\n{out}\n{err}", ran.status);
    out
}

async fn serve(router: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

#[tokio::test]
async fn pydruid_sqlalchemy_and_supersets_path_work_unchanged() {
    let Some(python) = python() else { return };
    let address = serve(router(Arc::new(Fake::small()), options())).await;
    assert!(run(&python, "check_clients.py", &[&address.to_string()]).await.contains("all clients"));
    let shown = run(&python, "merchandiser.py", &[&format!("http://{address}/druid/v2/sql/")]).await;
    assert!(shown.contains("hot since 2026-11-11T00:00:30.000Z"), "{shown}");
}

const BEGIN: i64 = 1_794_355_200;

fn heat(seconds: std::ops::Range<i64>) -> Vec<HeatRow> {
    let seed = 2026;
    eprintln!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut all = Vec::new();
    for second in seconds {
        for page in 0..random.random_range(20..60) {
            let kind = EventKind::ALL[random.random_range(0..3)];
            let events = random.random_range(1..50);
            all.push(HeatRow {
                time: Timestamp::from_seconds(BEGIN + second),
                page: format!("seite-{page:03}-ü").into(),
                kind,
                events,
                weighted: events * 3,
                visitors: events.min(9),
            });
        }
    }
    all
}

#[tokio::test]
async fn history_and_live_seconds_are_one_table_that_others_read_too() {
    let place = tempfile::tempdir().unwrap();
    // Two hours and a bit: what is older than the last minute is on disk, partly joined.
    let all = heat(3000..8000);
    let history = Arc::new(History::open(place.path(), HistoryOptions::default()).unwrap());
    let live_from = Timestamp::from_seconds(BEGIN + 7900);
    for part in all.chunk_by(|a, b| a.time.second() / 500 == b.time.second() / 500) {
        history.append(part.iter().filter(|r| r.time < live_from).cloned().collect()).unwrap();
    }
    history.tidy().unwrap();
    // Live seconds reach back into what is on disk: they must not be counted twice.
    let live =
        Fake { heat: all.iter().filter(|r| r.time.second() >= BEGIN + 7500).cloned().collect(), ..Fake::default() };
    let live = Arc::new(live);
    let router = router(live.clone(), SqlOptions { history: Some(history.clone()), ..options() });

    let sum = |of: &dyn Fn(&HeatRow) -> u64| all.iter().map(of).sum::<u64>();
    assert_eq!(
        rows(&router, "SELECT COUNT(*) AS n, SUM(events) AS e, MIN(__time) AS a, MAX(__time) AS b FROM product_heat")
            .await,
        format!(
            "[\"n\",\"e\",\"a\",\"b\"]\n[{},{},\"{}\",\"{}\"]",
            all.len(),
            sum(&|r| r.events),
            all[0].time,
            all[all.len() - 1].time
        )
    );
    let minute = |r: &&HeatRow| (BEGIN + 3600..BEGIN + 3660).contains(&r.time.second());
    let from = Timestamp::from_seconds(BEGIN + 3600);
    let to = Timestamp::from_seconds(BEGIN + 3660);
    let sql = format!("SELECT SUM(weighted) AS w FROM product_heat WHERE __time >= '{from}' AND __time < '{to}'");
    let expected = all.iter().filter(minute).map(|r| r.weighted).sum::<u64>();
    assert_eq!(rows(&router, &sql).await, format!("[\"w\"]\n[{expected}]"));
    // A product of both halves.
    let one = all.iter().filter(|r| &*r.page == "seite-007-ü").map(|r| r.events).sum::<u64>();
    let sql = "SELECT SUM(events) AS e FROM product_heat WHERE product = 'seite-007-ü'";
    assert_eq!(rows(&router, sql).await, format!("[\"e\"]\n[{one}]"));

    // The same files in DuckDB and in Arrow's reader.
    history.flush(live.as_ref()).unwrap();
    let Some(python) = python() else { return };
    let place = place.path().to_str().unwrap();
    let said = run(&python, "check_history.py", &[place, &from.millis().to_string()]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    let mut by_kind: Vec<Value> = EventKind::ALL
        .into_iter()
        .map(|kind| {
            let of = || all.iter().filter(|r| r.kind == kind);
            let pages: std::collections::BTreeSet<&str> = of().map(|r| &*r.page).collect();
            json!([
                kind.as_str(),
                of().count(),
                of().map(|r| r.events).sum::<u64>(),
                of().map(|r| r.weighted).sum::<u64>(),
                of().map(|r| r.visitors).sum::<u64>(),
                pages.len()
            ])
        })
        .collect();
    by_kind.sort_by_key(|row| row[0].as_str().unwrap().to_owned());
    let expected = json!({ "rows": all.len(), "events": sum(&|r| r.events), "by_kind": by_kind,
                           "minute": all.iter().filter(minute).count() });
    assert_eq!(said, expected);
}
