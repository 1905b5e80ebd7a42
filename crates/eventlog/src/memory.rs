//! Provider `memory`: for simulation and tests; nothing survives the process.
/// stub
pub struct MemoryLog;
