//! Lease stores: one contract for the in-process one, a real Redis and a real Redis Cluster, and what only a real
//! server can do: die, come back, fall silent, fill up.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[cfg(feature = "redis")]
mod cluster;
mod contract;
#[cfg(feature = "redis")]
mod differential;
#[cfg(feature = "redis")]
mod measure;
#[cfg(feature = "redis")]
mod outages;
#[cfg(feature = "redis")]
mod place;
#[cfg(feature = "redis")]
mod settings;

use std::sync::Arc;

use seckill_core::InProcessLeases;

#[tokio::test(flavor = "multi_thread")]
async fn redis_in_process_keeps_the_contract() {
    contract::contract(Arc::new(InProcessLeases::new())).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() {
    let place = place::Place::start(&[]);
    contract::contract(Arc::new(place.leases().await)).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn redis_cluster_keeps_the_contract() {
    let place = place::Cluster::start();
    contract::contract(Arc::new(place.leases().await)).await;
}
