//! Live updates over real sockets: two cores, one store, one log.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]

mod bad_input;
mod house;
mod reconnects;
#[path = "../core/shop.rs"]
mod shop;
mod updates;
