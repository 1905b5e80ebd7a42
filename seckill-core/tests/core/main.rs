//! Stories of a whole core over real HTTP, on SQLite and the in-memory event log.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod adjustments;
mod bad_input;
mod db_path;
mod fast_paths;
mod moves;
mod plan;
mod shop;
