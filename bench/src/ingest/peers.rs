//! Who does the same work beside us: each in a process of its own that inherits our one core, timing its query alone
//! and not its start.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// Somebody else's engine, by its Python package.
pub struct Peer {
    /// What it is called.
    pub called: &'static str,
    /// The same with its version.
    pub name: String,
    /// The least that we have to be quicker, if there is such a bar.
    pub bar: Option<f64>,
    script: &'static str,
    python: PathBuf,
}

/// What it answers.
#[derive(Debug, Deserialize)]
pub struct Answer {
    pub seconds: f64,
    pub pages: u64,
    pub views: u64,
}

/// Name, package, script, bar.
const PEERS: [(&str, &str, &str, Option<f64>); 3] = [
    ("DuckDB", "duckdb", include_str!("duckdb_ingest.py"), Some(2.0)),
    ("Polars", "polars", include_str!("polars_ingest.py"), None),
    ("chDB", "chdb", include_str!("chdb_ingest.py"), None),
];

/// The peers whose packages this Python has.
pub fn installed(python: &Path) -> Vec<Peer> {
    let version = |package: &str| {
        let ask = format!("import {package}; print({package}.__version__)");
        let out = Command::new(python).args(["-c", &ask]).output().ok().filter(|out| out.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    PEERS
        .into_iter()
        .filter_map(|(called, package, script, bar)| {
            let name = format!("{called} {}, one thread", version(package)?);
            Some(Peer { called, name, bar, script, python: python.to_owned() })
        })
        .collect()
}

impl Peer {
    /// `raw`: every view of every page; `views`: without bots.
    pub fn run(&self, path: &Path, what: &str) -> anyhow::Result<Answer> {
        let out = Command::new(&self.python).arg("-c").arg(self.script).arg(path).arg(what).output();
        let out = out.with_context(|| format!("cannot start {}", self.python.display()))?;
        ensure!(out.status.success(), "{} failed: {}", self.name, String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).with_context(|| format!("{}'s answer cannot be read", self.name))
    }
}
