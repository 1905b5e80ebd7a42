//! The walls of the house, checked on the sources: services never import each other, heavy providers are
//! known to one room each, and `wire.rs` alone names providers.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

const SERVICES: [(&str, &str); 4] = [
    ("collector", "collector"),
    ("analyzer", "analyzer"),
    ("control-plane", "control_plane"),
    ("seckill-core", "seckill_core"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target" && n != "node_modules" && n != ".git") {
                found.extend(sources(&path));
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The code of a file without comments and with strings left in; good enough to look for `name::`.
fn code(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .map(|l| format!("{l}\n"))
        .collect()
}

fn names(code: &str, krate: &str) -> bool {
    let mut done = 0;
    while let Some(found) = code[done..].find(krate) {
        let (before, after) = (&code[..done + found], &code[done + found + krate.len()..]);
        done += found + krate.len();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        // `crate::stock::redis::…` names a module of that name; `::redis::…` and `redis::…` name the crate.
        let module = before.strip_suffix("::").is_some_and(|path| path.ends_with(word));
        let whole = !before.ends_with(word) && !module;
        let imported = before_is_use(before) && after.starts_with(';');
        if whole && (after.starts_with("::") || imported) {
            return true;
        }
    }
    false
}

fn before_is_use(before: &str) -> bool {
    before.trim_end().ends_with("use") || before.trim_end().ends_with("extern crate")
}

/// Every file under `dirs` (but not under `except`) that names `krate`.
fn who_names(krate: &str, except: &[&str]) -> Vec<PathBuf> {
    let root = root();
    sources(&root)
        .into_iter()
        .filter(|p| {
            let relative = p.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            !except.iter().any(|e| relative.starts_with(e)) && names(&code(p), krate)
        })
        .collect()
}

#[test]
fn the_looking_glass_finds_a_broken_wall() {
    assert!(names("use datafusion::prelude::*;", "datafusion"));
    assert!(names("let x = ::rdkafka::Client;", "rdkafka"));
    assert!(names("use collector;", "collector"));
    assert!(!names("my_collector::run()", "collector"));
    assert!(!names("let collector = 1;", "collector"));
    assert!(!names("use crate::stock::redis::LeaseLoad;", "redis"));
}

#[test]
fn services_never_import_each_other() {
    for (folder, _) in SERVICES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        for (other, krate) in SERVICES {
            if other == folder {
                continue;
            }
            let declared =
                manifest.lines().any(|l| l.starts_with(&format!("{other}.")) || l.starts_with(&format!("{other} ")));
            assert!(!declared, "{folder}/Cargo.toml depends on {other}");
            for file in sources(&root().join(folder)) {
                assert!(!names(&code(&file), krate), "{} names {krate}", file.display());
            }
        }
    }
}

#[test]
fn heavy_parts_are_known_to_one_room_each() {
    let rooms: [(&str, &[&str]); 6] = [
        ("datafusion", &["analyzer/"]),
        ("arrow", &["analyzer/"]),
        ("rdkafka", &["crates/eventlog/"]),
        // The servers' own module of that name is no use of the crate.
        ("redis", &["seckill-core/src/stock/redis", "crates/servers/src/lib.rs"]),
        // The auditor reads the same databases with code of its own.
        (
            "sqlx",
            &[
                "seckill-core/src/stock/db",
                "seckill-core/tests/mariadb",
                "crates/audit/",
                "control-plane/src/plan_store/",
            ],
        ),
        // Real servers are started by tests, benchmarks and the demo, never by a service.
        (
            "servers",
            &["crates/servers/", "control-plane/tests/", "crates/testkit/", "crates/seckill/src/demo", "bench/"],
        ),
    ];
    for (krate, rooms) in rooms {
        // This file names them all, in strings.
        let strangers = who_names(krate, &[rooms, &["crates/seckill/tests/architecture.rs"]].concat());
        assert!(strangers.is_empty(), "{krate} is named outside {rooms:?}: {strangers:?}");
    }
}

#[test]
fn wire_alone_names_concrete_providers() {
    for provider in [
        "SqliteLog",
        "MemoryLog",
        "KafkaLog",
        "SqliteStore",
        "MariaStore",
        "InProcessLeases",
        "RedisLeases",
        "SqlitePlans",
        "MariaPlans",
    ] {
        let root = root();
        for file in sources(&root.join("crates/seckill/src")) {
            if file.ends_with("wire.rs") {
                continue;
            }
            assert!(!code(&file).contains(provider), "{} names {provider}; wire.rs chooses providers", file.display());
        }
        // Inside services only tests may name another room's provider.
        for (folder, _) in SERVICES {
            for file in sources(&root.join(folder).join("src")) {
                let text = code(&file);
                let production = text.split("#[cfg(test)]").next().unwrap();
                let room = match provider {
                    "SqliteStore" | "MariaStore" | "InProcessLeases" | "RedisLeases" => "seckill-core",
                    "SqlitePlans" | "MariaPlans" => "control-plane",
                    _ => "",
                };
                assert!(folder == room || !production.contains(provider), "{} names {provider}", file.display());
            }
        }
    }
}

#[test]
fn the_auditor_shares_no_code_with_the_writers() {
    let manifest = fs::read_to_string(root().join("crates/audit/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split('[').next().unwrap();
    for (folder, _) in SERVICES {
        assert!(!dependencies.contains(&format!("{folder}.")), "crates/audit depends on {folder}");
    }
    assert!(!dependencies.contains("types."), "crates/audit depends on types");
}

#[test]
fn types_does_no_input_or_output() {
    for file in sources(&root().join("crates/types/src")) {
        for forbidden in ["std::fs", "std::net", "tokio::", "std::process"] {
            assert!(!code(&file).contains(forbidden), "{} uses {forbidden}", file.display());
        }
    }
}

#[test]
fn every_file_says_its_one_job_first() {
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).unwrap();
        let first = text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
        assert!(first.starts_with("//!"), "{} does not begin with a sentence on its one job", file.display());
    }
}
