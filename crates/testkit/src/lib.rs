//! What tests share: contract suites, faults by seed, seeded traffic, temporary places, real servers.

pub mod contract;
pub mod faults;
pub mod openapi;

pub use servers;
