//! Live updates: every core reads the events of all orders, keeps the newest, and pushes each to whoever holds a
//! connection of its buyer. It decides nothing about orders; SQL says where they stand.
//!
//! A cursor is a sequence of the outbox: one order over all cores, given out in the order of commits. `window` puts
//! what arrives back into that order, `feed` brings it from the event log and fills what is missing from SQL, `hub`
//! knows who is connected, `connection` is one of them, `message` what is said.

pub(crate) mod connection;
pub(crate) mod feed;
pub(crate) mod hub;
pub(crate) mod message;
pub(crate) mod metrics;
pub(crate) mod options;
pub(crate) mod origin;
pub(crate) mod pass;
pub(crate) mod window;

pub(crate) use hub::Live;
