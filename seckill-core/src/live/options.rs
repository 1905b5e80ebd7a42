//! What can be told about live updates by configuration, with defaults and checks.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

/// Most connections of one core: each takes a file handle and some 20 KiB with the kernel's buffers.
const MAX_CONNECTIONS: usize = 200_000;
/// Most connections of one buyer: his tabs and devices.
const MAX_PER_BUYER: usize = 64;
/// Most origins: a shop and its faces.
const MAX_ORIGINS: usize = 64;

/// Options of live updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiveOptions {
    /// Origins (`https://shop.example`) whose pages may connect, beside the core's own host. Who sends none is no
    /// browser and needs none.
    pub origins: Vec<String>,
    /// How often a connection is asked whether it lives; one that is silent for two of these is closed.
    #[serde(with = "types::time::duration_text")]
    pub heartbeat: Duration,
    /// How long a pass is good before it is used.
    #[serde(with = "types::time::duration_text")]
    pub pass_life: Duration,
    /// Connections of one core; one more is told to try again.
    pub max_connections: usize,
    /// Connections of one buyer; one more ends his oldest.
    pub per_buyer: usize,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            heartbeat: Duration::from_secs(15),
            pass_life: Duration::from_secs(30),
            max_connections: 20_000,
            per_buyer: 8,
        }
    }
}

impl LiveOptions {
    /// Checks what serde cannot; the refusal names the field.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let spans: [(&'static str, Duration, Duration); 2] = [
            ("live.heartbeat", self.heartbeat, Duration::from_secs(300)),
            ("live.pass_life", self.pass_life, Duration::from_secs(600)),
        ];
        for (field, value, most) in spans {
            if value < Duration::from_millis(100) || value > most {
                return Err(Invalid::new(field, format!("{value:?} is not in 100ms to {most:?}")));
            }
        }
        let counts: [(&'static str, usize, usize); 2] = [
            ("live.max_connections", self.max_connections, MAX_CONNECTIONS),
            ("live.per_buyer", self.per_buyer, MAX_PER_BUYER),
        ];
        for (field, value, most) in counts {
            if value == 0 || value > most {
                return Err(Invalid::new(field, format!("{value} is not in 1 to {most}")));
            }
        }
        if self.origins.len() > MAX_ORIGINS {
            return Err(Invalid::new("live.origins", format!("more than {MAX_ORIGINS}")));
        }
        for origin in &self.origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or_default();
            let legal =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
            if host.is_empty() || !host.bytes().all(legal) {
                let why =
                    format!("{origin:?} is not an origin: write scheme and host as a browser does, without a path");
                return Err(Invalid::new("live.origins", why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_legal_and_a_wrong_field_is_named() {
        assert_eq!(LiveOptions::default().check(), Ok(()));
        let refused = |o: LiveOptions| o.check().expect_err("must be refused").what;
        let origins = |text: &str| LiveOptions { origins: vec![text.to_owned()], ..LiveOptions::default() };
        assert_eq!(origins("https://shop.example:8443").check(), Ok(()));
        for wrong in ["shop.example", "https://shop.example/", "https://Shop.example", "*", "null", ""] {
            assert_eq!(refused(origins(wrong)), "live.origins", "{wrong}");
        }
        assert_eq!(refused(LiveOptions { heartbeat: Duration::ZERO, ..LiveOptions::default() }), "live.heartbeat");
        assert_eq!(refused(LiveOptions { per_buyer: 0, ..LiveOptions::default() }), "live.per_buyer");
    }
}
