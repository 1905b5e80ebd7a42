//! The differential suite: every statement of `tests/druid/statements.sql` over `product_heat.csv`, held to what a
//! real Druid 33 answered (`answers.jsonl`): status, content type, header, names, both types, values, row format; of
//! errors their codes. What is not equal is listed, with the reason, in `docs/druid-compatibility.md`, and only that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use analyzer::sql::router;
use analyzer::tables::HeatRow;
use axum::Router;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::{EventKind, Timestamp};

use crate::{Fake, ask, at, options};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/druid")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

struct Statement {
    name: String,
    unordered: bool,
    request: Value,
}

/// A table of statements; what a line does not say is as `deploy/druid/record.py` has it.
fn statements(table: &str) -> Vec<Statement> {
    let mut all = Vec::new();
    let table = text(folder().join(table));
    let mut lines = table.lines();
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix("query ") else { continue };
        let (words, members) = head.split_at(head.find('{').unwrap_or(head.len()));
        let mut words = words.split_whitespace();
        let query: Vec<&str> = lines.by_ref().take_while(|l| !l.is_empty()).collect();
        let mut request = json!({ "resultFormat": "array", "header": true, "typesHeader": true, "sqlTypesHeader": true,
                                  "query": query.join("\n") });
        if !members.is_empty() {
            let members: Map<String, Value> = serde_json::from_str(members).unwrap();
            request.as_object_mut().unwrap().extend(members);
        }
        all.push(Statement {
            name: words.next().unwrap().to_owned(),
            unordered: words.any(|w| w == "unordered"),
            request,
        });
    }
    all
}

#[derive(Deserialize)]
struct Recorded {
    name: String,
    status: u16,
    r#type: String,
    header: Option<String>,
    body: String,
}

fn recorded(answers: &str) -> BTreeMap<String, Recorded> {
    let all = text(folder().join(answers));
    all.lines().map(|l| serde_json::from_str::<Recorded>(l).unwrap()).map(|r| (r.name.clone(), r)).collect()
}

/// The recorded table, as live rows.
fn table() -> Fake {
    let rows = text(folder().join("product_heat.csv"));
    let heat = rows.lines().skip(1).map(|line| {
        let [time, page, kind, events, weighted, visitors] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        HeatRow {
            time: at(time),
            page: page.into(),
            kind: EventKind::ALL.into_iter().find(|k| k.as_str() == kind).unwrap(),
            events: events.parse().unwrap(),
            weighted: weighted.parse().unwrap(),
            visitors: visitors.parse().unwrap(),
        }
    });
    Fake { heat: heat.collect(), ..Fake::default() }
}

/// The real trace as a Druid read it from `product-events-json` (`deploy/druid/record.py` makes the same events), rolled
/// up to the second as the engine does: a hundred requests a second from midnight.
fn trace() -> Fake {
    let packed =
        std::fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/web07.trace.gz")).unwrap();
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut raw).unwrap();
    let begin = at("2026-11-11T00:00:00Z").second();
    let mut seconds: BTreeMap<(i64, String, &str), (EventKind, u64)> = BTreeMap::new();
    for (i, page) in raw.as_chunks::<4>().0.iter().enumerate() {
        let kind = match i {
            i if i % 40 == 39 => EventKind::Attempt,
            i if i % 13 == 12 => EventKind::Cart,
            _ => EventKind::View,
        };
        let key = (begin + i as i64 / 100, i32::from_be_bytes(*page).to_string(), kind.as_str());
        seconds.entry(key).or_insert((kind, 0)).1 += 1;
    }
    let row = |((second, page, _), (kind, events)): ((i64, String, &str), (EventKind, u64))| HeatRow {
        time: Timestamp::from_seconds(second),
        page: page.as_str().into(),
        kind,
        events,
        weighted: events
            * if kind == EventKind::Attempt {
                5
            } else if kind == EventKind::Cart {
                3
            } else {
                1
            },
        visitors: events,
    };
    Fake { heat: seconds.into_iter().map(row).collect(), ..Fake::default() }
}

/// Equal, with the last bits of doubles set aside: sums are added in another order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() && y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            (x - y).abs() <= 1e-12 * x.abs().max(y.abs())
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

fn sorted(rows: &Value, header: usize) -> Value {
    let mut rows = rows.as_array().cloned().unwrap_or_default();
    let from = header.min(rows.len());
    rows[from..].sort_by_key(Value::to_string);
    Value::Array(rows)
}

/// How ours differs from Druid's; empty if it does not.
async fn difference(router: &Router, statement: &Statement, druid: &Recorded) -> String {
    let ours = ask(router, statement.request.clone()).await;
    let mut said = String::new();
    let mut differ = |what: &str, ours: &str, druids: &str| {
        if ours != druids {
            let _ = writeln!(said, "  {what}: ours {ours}\n  {}  druid {druids}", " ".repeat(what.len()));
        }
    };
    differ("status", &ours.status.as_u16().to_string(), &druid.status.to_string());
    let kind = ours.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
    differ("type", &kind, &druid.r#type);
    if druid.status != 200 || ours.status != 200 {
        let codes = |body: &str| {
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            ["error", "errorCode", "persona", "category"].map(|f| body[f].clone()).map(|v| v.to_string()).join(" ")
        };
        // The oldest of Druid's errors, of requests that it cannot read, has no code: its text is all.
        let coded = |codes: String| if codes.ends_with("null null null") { "without a code".to_owned() } else { codes };
        differ("error", &coded(codes(&ours.body)), &coded(codes(&druid.body)));
        if ours.status != 200 && !said.is_empty() {
            let message = ours.body.chars().take(600).collect::<String>();
            let _ = writeln!(said, "  ours says {message}");
        }
        return said;
    }
    differ("header", ours.header("x-druid-sql-header-included").unwrap_or("-"), druid.header.as_deref().unwrap_or("-"));
    if ours.body == druid.body {
        return said;
    }
    let parsed = (serde_json::from_str::<Value>(&ours.body), serde_json::from_str::<Value>(&druid.body));
    if let (Ok(a), Ok(b)) = parsed {
        let header = if statement.request["typesHeader"] == json!(true) { 3 } else { 0 };
        let equal = if statement.unordered { same(&sorted(&a, header), &sorted(&b, header)) } else { same(&a, &b) };
        if equal {
            return said;
        }
    }
    let short = |s: &str| s.chars().take(1500).collect::<String>();
    differ("body", &short(&ours.body), &short(&druid.body));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchandisers_twenty_queries_are_answered_alike_by_both() {
    let router = router(Arc::new(trace()), options());
    let (all, druids) = (statements("dashboard.sql"), recorded("dashboard.jsonl"));
    assert_eq!((all.len(), druids.len()), (20, 20));
    for statement in &all {
        let druid = &druids[&statement.name];
        assert_eq!(druid.status, 200, "{}: {}", statement.name, druid.body);
        let difference = difference(&router, statement, druid).await;
        assert!(difference.is_empty(), "{}\n{difference}", statement.name);
    }
}

/// Name → `differs` or `absent`, from the tables of the document.
fn listed(document: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let verdict = cells.next()?.to_owned();
        ["differs", "absent"].contains(&verdict.as_str()).then_some((name, verdict))
    };
    document.lines().filter_map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_is_answered_as_druid_answers_it_or_listed() {
    let router = router(Arc::new(table()), options());
    let druids = recorded("answers.jsonl");
    let all = statements("statements.sql");
    let names: BTreeSet<&str> = all.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a name stands for two statements");
    assert!(all.len() >= 150, "{} statements", all.len());
    assert_eq!(names, druids.keys().map(String::as_str).collect(), "record the answers again: script/druid record");

    let only = std::env::var("STATEMENT").ok();
    let mut differing = BTreeMap::new();
    for statement in all.iter().filter(|s| only.as_ref().is_none_or(|o| s.name.contains(o.as_str()))) {
        let difference = difference(&router, statement, &druids[&statement.name]).await;
        if !difference.is_empty() {
            differing.insert(statement.name.clone(), difference);
        }
    }
    for (name, how) in &differing {
        eprintln!("{name}\n{how}");
    }
    eprintln!("{} statements, {} differ", all.len(), differing.len());
    if only.is_some() {
        return;
    }

    let document = text(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/druid-compatibility.md"));
    let listed = listed(&document);
    let (found, told): (BTreeSet<_>, BTreeSet<_>) = (differing.keys().collect(), listed.keys().collect());
    assert_eq!(
        found,
        told,
        "docs/druid-compatibility.md must list what differs, and nothing else\n  not listed: {:?}\n  listed but equal: {:?}",
        found.difference(&told).collect::<Vec<_>>(),
        told.difference(&found).collect::<Vec<_>>()
    );
    let absent = listed.values().filter(|v| *v == "absent").count();
    let counts = format!(
        "{} statements: {} equal, {} differ, {absent} absent",
        all.len(),
        all.len() - listed.len(),
        listed.len() - absent
    );
    assert!(document.contains(&counts), "docs/druid-compatibility.md must say: {counts}");
}
