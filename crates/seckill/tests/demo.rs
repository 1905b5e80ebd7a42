//! The whole loop as a real process: the demo ends well, survives `kill -9`, and one's own log is accounted
//! for line by line. Each run works in a directory of its own on free ports.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest time to wait for a condition; only a broken run ever waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

fn seckill(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seckill"));
    command.arg("--data").arg(data).stdin(Stdio::null()).env_remove("SECKILL_CONFIG");
    command
}

fn demo(data: &Path, run_for: &str, speed: &str, seed: &str) -> Command {
    let mut command = seckill(data);
    command.args(["demo", "--any-port", "--for", run_for, "--speed", speed, "--seed", seed]);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A child that does not outlive a failing test.
struct Killed(Child);
impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_loop_closes_and_every_promise_holds() {
    let seed = "7";
    let data = tempfile::tempdir().unwrap();
    println!("seed {seed}, data {}", data.path().display());
    let output = demo(data.path(), "40s", "4", seed).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("PASSED"), "{said}");
    for seen in ["db → redis", "redis → queue", "Cooled"] {
        assert!(said.contains(seen), "{seen:?} was not seen:\n{said}");
    }
    let orders = said.lines().find(|l| l.trim_start().starts_with("orders ")).unwrap().to_owned();
    for tier in ["db ", "redis ", "queue "] {
        assert!(orders.contains(tier), "no order in tier {tier}: {orders}");
    }
    let audit = seckill(data.path()).arg("audit").output().unwrap();
    assert!(audit.status.success(), "{}", text(&audit));
}

#[test]
fn the_loop_closes_through_a_real_edge() {
    let seed = "7";
    let data = tempfile::tempdir().unwrap();
    println!("seed {seed}, data {}", data.path().display());
    let arguments = ["demo", "--any-port", "--edge", "--for", "25s", "--seed", seed];
    let output = seckill(data.path()).args(arguments).output().unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.contains("PASSED"), "{said}");
    // The log that was read is Nginx's own: it knows how long the core took, and who was refused before it.
    let log = fs::read_to_string(data.path().join("access.log")).unwrap();
    assert!(log.contains(r#""upstream_status":"201""#) || log.contains(r#""upstream_status":"202""#), "{said}");
    assert!(log.lines().all(|line| line.contains(r#""refused":""#)), "every line is the edge's");
    let refused = seckill(data.path()).args(["demo", "--edge", "--speed", "4"]).output().unwrap();
    assert!(!refused.status.success() && text(&refused).contains("--speed 1"), "{}", text(&refused));
}

#[test]
fn kill_minus_nine_loses_no_order_and_counts_nothing_twice() {
    let seed = "11";
    let data = tempfile::tempdir().unwrap();
    println!("seed {seed}, data {}", data.path().display());
    let mut first = Killed(demo(data.path(), "600s", "4", seed).stdout(Stdio::piped()).spawn().unwrap());
    // Killed in the middle: as soon as a product is on the queue and has sold there.
    let mut out = BufReader::new(first.0.stdout.take().unwrap());
    let began = Instant::now();
    let mut line = String::new();
    while !line.contains("redis → queue") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the demo ended by itself");
        assert!(began.elapsed() < PATIENCE, "no product came to the queue");
    }
    first.0.kill().unwrap();
    first.0.wait().unwrap();

    let second = demo(data.path(), "25s", "4", seed).output().unwrap();
    let said = text(&second);
    assert!(second.status.success(), "{said}");
    assert!(said.contains("PASSED"), "{said}");
    let journals = fs::read_dir(data.path().join("journals")).unwrap().count();
    assert_eq!(journals, 2, "the auditor judges what the shoppers of both runs saw");
}

#[test]
fn every_line_of_a_real_log_is_accounted_for() {
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/shop_access.log");
    let log = log.canonicalize().unwrap_or_else(|_| PathBuf::from("absent"));
    if !log.is_file() {
        println!("skipped: ../shared/data/shop_access.log is not here");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let output = seckill(data.path())
        .args(["all-in-one", "--any-port", "--from-start", "--for", "5s", "--log"])
        .arg(&log)
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let books = said.lines().find_map(|l| l.strip_prefix("lines: ")).unwrap();
    let books: serde_json::Value = serde_json::from_str(books).unwrap();
    let sum = |v: &serde_json::Value| v.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!(books["lines"], 10_018, "{said}");
    assert_eq!(books["events"].as_u64().unwrap() + sum(&books["filtered"]) + sum(&books["dead"]), 10_018, "{said}");
}

#[test]
fn the_small_example_log_shows_every_kind_of_line() {
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/access.log");
    let data = tempfile::tempdir().unwrap();
    let output = seckill(data.path()).arg("top").arg(&log).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("window ending 2026-11-10T23:01:00Z: 5 active pages, k 1, threshold 91, 1 hot"), "{said}");
    assert!(said.contains("lines 157 = events 131 + filtered 21 + undecodable 5"), "{said}");
}

#[test]
fn top_equals_a_recount_of_the_raw_lines() {
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/shop_access.log");
    if !log.is_file() {
        println!("skipped: ../shared/data/shop_access.log is not here");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let output = seckill(data.path()).args(["top", "--raw", "--json"]).arg(&log).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let raw = fs::read(&log).unwrap();
    let raw = String::from_utf8_lossy(&raw);
    let recounted: Vec<_> =
        audit::heat::top_raw(raw.lines()).iter().map(|w| serde_json::to_string(w).unwrap()).collect();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), recounted.len());
    for (ours, right) in lines.iter().zip(&recounted) {
        assert_eq!(ours, right);
    }
}
