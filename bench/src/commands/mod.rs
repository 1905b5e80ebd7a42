//! What `bench` does beside measuring areas: `load` sends load to a running core, `core` is the process that is
//! measured.

pub mod core;
pub mod load;
