//! Stories of a whole core over real HTTP, on SQLite and the in-memory event log.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod adjustments;
mod administration;
mod bad_input;
#[cfg(feature = "redis")]
mod cores;
mod db_path;
mod documents;
mod edge;
mod fast_paths;
mod imports;
mod initial_tier;
mod moves;
mod orders;
mod plan;
mod purchase_tokens;
#[cfg(feature = "redis")]
mod real_redis;
mod shop;
mod webhooks;
