//! What tests and tools beside `script/bench` may use of it: the load generator, its tokens, and a core in a process
//! of its own.

pub mod child;
pub mod load;
pub mod tokens;
