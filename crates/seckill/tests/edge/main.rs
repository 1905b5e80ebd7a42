//! The edge as it runs in production: a real Nginx with the files of `edge/` in front of real cores, under more attempts
//! than there are units. What reaches the cores is counted by the edge's own log and by the cores.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod abuse;
mod crowd;
mod faults;
mod place;
mod sells;
mod tls;
#[path = "../town/mod.rs"]
mod town;
