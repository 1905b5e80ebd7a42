//! What tests share: contract suites, seeded traffic, temporary places, real servers.

pub mod contract;

pub use servers;
