//! DuckDB, in a process of its own that inherits our one core; it times its query alone, not its start.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// What it runs.
const SCRIPT: &str = include_str!("duckdb_ingest.py");

/// DuckDB by its Python package.
pub struct DuckDb {
    python: PathBuf,
    version: String,
}

/// What it answers.
#[derive(Debug, Deserialize)]
pub struct Answer {
    pub seconds: f64,
    pub pages: u64,
    pub views: u64,
}

impl DuckDb {
    pub fn new(python: PathBuf) -> Self {
        let asked = Command::new(&python).args(["-c", "import duckdb; print(duckdb.__version__)"]).output();
        let version = asked.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
        Self { python, version }
    }
    pub fn name(&self) -> String {
        format!("DuckDB {}, one thread", self.version)
    }
    /// `raw`: every view of every page; `views`: without bots.
    pub fn run(&self, path: &Path, what: &str) -> anyhow::Result<Answer> {
        let out = Command::new(&self.python).arg("-c").arg(SCRIPT).arg(path).arg(what).output();
        let out = out.with_context(|| format!("cannot start {}", self.python.display()))?;
        ensure!(out.status.success(), "DuckDB failed: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).context("DuckDB's answer cannot be read")
    }
}
