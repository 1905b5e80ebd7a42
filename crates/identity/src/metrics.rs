//! Names, help texts and labels of the metrics of identity.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Key sets read, by issuer and how it went.
pub const REFRESHES: &str = "seckill_identity_key_refreshes_total";
/// Usable keys held of an issuer.
pub const KEYS: &str = "seckill_identity_keys";
/// Bearer tokens refused, by why.
pub const REFUSED: &str = "seckill_identity_tokens_refused_total";
/// Logins of dashboards, by how they ended.
pub const LOGINS: &str = "seckill_identity_logins_total";

/// Says what they mean.
pub fn describe() {
    describe_counter!(REFRESHES, "Reads of an issuer's key set, by issuer and how they went");
    describe_gauge!(KEYS, Unit::Count, "Usable keys held of an issuer");
    describe_counter!(REFUSED, "Bearer tokens of outside issuers that were refused, by why");
    describe_counter!(LOGINS, "Logins of dashboards, by how they ended");
}

pub(crate) fn refreshed(issuer: &str, how: &'static str) {
    counter!(REFRESHES, "issuer" => issuer.to_owned(), "result" => how).increment(1);
}
pub(crate) fn keys(issuer: &str, held: usize) {
    gauge!(KEYS, "issuer" => issuer.to_owned()).set(held as f64);
}
pub(crate) fn refused(why: &'static str) {
    counter!(REFUSED, "why" => why).increment(1);
}
pub(crate) fn login(end: &'static str) {
    counter!(LOGINS, "end" => end).increment(1);
}
