//! What webhooks can be told by configuration: secrets, patience, and which networks may be reached.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

/// Most secrets: there are no more subscriptions.
const MAX_SECRETS: usize = 64;
/// Longest name of a secret.
const MAX_NAME: usize = 64;

/// Options of the webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookOptions {
    /// Files that hold secrets, by the name under which a subscription refers to each. A file with two lines holds
    /// two secrets, and every event is signed with both: so a secret is changed without a lost event.
    pub secret_files: BTreeMap<String, PathBuf>,
    /// Which addresses may be sent to.
    pub networks: Networks,
    /// Longest time of one delivery, until the answer is there.
    #[serde(with = "types::time::duration_text")]
    pub timeout: Duration,
    /// Deliveries of one subscription at once. Those of one order are never at once.
    pub parallel: usize,
    /// Wait before the second try of a refused event; it doubles from try to try.
    #[serde(with = "types::time::duration_text")]
    pub first_retry: Duration,
    /// Longest wait between two tries of one event.
    #[serde(with = "types::time::duration_text")]
    pub longest_retry: Duration,
    /// Longest wait between two looks whether a receiver that was away is back.
    #[serde(with = "types::time::duration_text")]
    pub longest_probe: Duration,
    /// Tries after which an event is given up: its dead letter can be replayed. Tries while the receiver was away for
    /// all do not count.
    pub attempts: u32,
    /// Age of its first try at which an event is given up in any case.
    #[serde(with = "types::time::duration_text")]
    pub give_up_after: Duration,
}

/// Which addresses may be sent to. Link-local (where clouds keep their metadata), multicast and unspecified ones
/// never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Networks {
    /// Loopback and private ones: events hold buyers, and this build speaks plain HTTP.
    Private,
    /// All.
    Any,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            secret_files: BTreeMap::new(),
            networks: Networks::Private,
            timeout: Duration::from_secs(5),
            parallel: 16,
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(3_600),
            longest_probe: Duration::from_secs(10),
            attempts: 16,
            give_up_after: Duration::from_secs(72 * 3_600),
        }
    }
}

impl WebhookOptions {
    /// Checks what serde cannot; the refusal names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.secret_files.len() > MAX_SECRETS {
            return Err(Invalid::new("webhooks.secret_files", format!("holds more than {MAX_SECRETS}")));
        }
        if let Some(name) = self.secret_files.keys().find(|name| name.is_empty() || name.len() > MAX_NAME) {
            return Err(Invalid::new("webhooks.secret_files", format!("{name:?} has not 1 to {MAX_NAME} characters")));
        }
        let second = Duration::from_secs(1);
        let within = |field: &'static str, value: Duration, least: Duration, most: Duration| {
            if value < least || value > most {
                return Err(Invalid::new(field, format!("{value:?} is not in {least:?} to {most:?}")));
            }
            Ok(())
        };
        let week = second * 7 * 86_400;
        within("webhooks.timeout", self.timeout, second / 10, second * 10)?;
        within("webhooks.first_retry", self.first_retry, second / 100, second * 3_600)?;
        within("webhooks.longest_retry", self.longest_retry, self.first_retry, week)?;
        within("webhooks.longest_probe", self.longest_probe, second / 100, second * 3_600)?;
        within("webhooks.give_up_after", self.give_up_after, second, week * 4)?;
        if !(1..=64).contains(&self.parallel) {
            return Err(Invalid::new("webhooks.parallel", format!("{} is not in 1 to 64", self.parallel)));
        }
        if !(1..=100).contains(&self.attempts) {
            return Err(Invalid::new("webhooks.attempts", format!("{} is not in 1 to 100", self.attempts)));
        }
        Ok(())
    }
}

impl Networks {
    /// Whether this address may be sent to.
    pub(crate) fn allows(self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let never = match ip {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast() || v4.is_unspecified() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified(),
        };
        !never && (self == Self::Any || is_private(ip))
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        // 100.64/10: shared address space, used between the parts of one operator (RFC 6598).
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn events_stay_in_the_shops_own_networks_unless_told_otherwise() {
        let allowed = |networks: Networks, text: &str| networks.allows(text.parse().unwrap());
        for own in
            ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.3.4", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert!(allowed(Networks::Private, own), "{own}");
        }
        for public in ["93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:2800::1", "::ffff:8.8.8.8"] {
            assert!(!allowed(Networks::Private, public), "{public}");
            assert!(allowed(Networks::Any, public), "{public}");
        }
        for never in [
            "169.254.169.254",
            "224.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "fe80::1",
            "ff02::1",
            "::",
            "::ffff:169.254.169.254",
        ] {
            assert!(!allowed(Networks::Any, never), "{never}");
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(WebhookOptions::default().check(), Ok(()));
        let refused = |o: WebhookOptions| o.check().expect_err("must be refused").what;
        assert_eq!(refused(WebhookOptions { parallel: 0, ..WebhookOptions::default() }), "webhooks.parallel");
        let timeout = Duration::from_secs(11);
        assert_eq!(refused(WebhookOptions { timeout, ..WebhookOptions::default() }), "webhooks.timeout");
    }
}
