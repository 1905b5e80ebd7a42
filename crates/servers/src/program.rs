//! Any other program as a child under the same care as the servers: its output in a file, signals to its whole
//! group, its end sure. It knows nothing of the program but where it answers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::controls;
use crate::page::get;
use crate::process::{Process, Recipe};
use crate::{ServerError, place};

/// How long it may take until it answers. Generous: machines are busy, and what was killed mends its files first.
const BOUND: Duration = Duration::from_secs(120);

/// What to start and how to see that it serves.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its name in errors.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// What it is told.
    pub arguments: Vec<OsString>,
    /// The loopback port of its health page; nobody else may take it while the program is down ([`crate::Port`]).
    pub port: u16,
    /// The health page: it serves once this answers 200.
    pub page: &'static str,
}

/// A running program.
pub struct Program {
    process: Process,
    port: u16,
    page: &'static str,
}
controls!(Program);

impl Program {
    /// Starts it with `dir` as its working directory, where `output.log` keeps what it prints; returns when it serves.
    pub fn start(dir: &Path, launch: Launch) -> Result<Self, ServerError> {
        let Launch { name, program, arguments, port, page } = launch;
        let directory = place::own(dir)?;
        let recipe = Recipe { server: name, program, arguments, directory, input: None, bound: BOUND };
        let process = Process::start(recipe, move || get(port, page).is_ok())?;
        Ok(Self { process, port, page })
    }

    /// Whether its health page answers 200 now.
    pub fn is_ready(&self) -> bool {
        get(self.port, self.page).is_ok()
    }
}
