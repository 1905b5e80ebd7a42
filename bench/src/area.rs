//! The areas that can be measured, and what each is told.

use std::path::PathBuf;

use crate::figure::Figure;

/// What a run is told.
#[derive(Debug)]
pub struct Settings {
    /// Less input, fewer rounds.
    pub quick: bool,
    /// Seed of everything that is made up.
    pub seed: u64,
    /// Folder for made inputs.
    pub cache: PathBuf,
    /// A Python that has the peers.
    pub python: Option<PathBuf>,
    /// Real logs.
    pub data: PathBuf,
    /// Run through so many lines instead, watching memory.
    pub lines: Option<u64>,
    /// Only figures on standard output.
    pub quiet: bool,
}

impl Settings {
    /// Tells whoever watches; on standard error, so that figures can be piped.
    pub fn say(&self, what: &str) {
        if !self.quiet {
            eprintln!("{what}");
        }
    }
}

/// Something that can be measured.
pub trait Area: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// What it measures, in a line.
    fn about(&self) -> &'static str;
    /// Runs all rounds of all contestants.
    fn run(&self, settings: &Settings) -> anyhow::Result<Vec<Figure>>;
}

/// All areas; a new one is one line here and its module.
pub const AREAS: &[&dyn Area] = &[
    &crate::heat::Heat,
    &crate::ingest::Ingest,
    &crate::purchase::Purchase,
    &crate::live::Live,
    &crate::expiry::Expiry,
    &crate::edge::EdgeArea,
];
