//! Purchase, stock, orders, payment and the moves of a product between tiers.

pub mod stock;
