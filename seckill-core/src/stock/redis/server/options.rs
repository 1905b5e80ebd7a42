//! What the Redis leases can be told by configuration. It holds the place of the password, never the password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

/// Most connections to one server: it is one thread, which two or three connections keep busy.
const MAX_CONNECTIONS: u16 = 64;
/// Most calls under way: each holds some 1 KiB here and in Redis's buffers.
const MAX_IN_FLIGHT: u32 = 100_000;
/// Longest prefix of a key: it is stored with every product.
const MAX_PREFIX: usize = 64;
/// Longest time for an answer: a shopper waits for it.
const MAX_ANSWER: Duration = Duration::from_secs(10);
/// Longest time that keys are kept behind a sale's end: memory is bounded by it.
const MAX_KEEP: Duration = Duration::from_secs(7 * 86_400);

/// A server's address, `host:port` (`[::1]:6379` for an IPv6 address).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeAddress {
    host: String,
    port: u16,
}

impl NodeAddress {
    /// The address of a host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
    /// The host's name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for NodeAddress {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = || Invalid::new("nodes", format!("{text:?} is not host:port, for example 127.0.0.1:6379"));
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let bare = bracketed.unwrap_or(host);
        // A bare IPv6 address cannot be told from one with a port; a user or path is no part of an address.
        let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | '[' | ']');
        if bare.is_empty() || bare.contains(odd) || (bracketed.is_none() && bare.contains(':')) {
            return Err(refuse());
        }
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(refuse)?;
        Ok(Self::new(bare, port))
    }
}
impl TryFrom<String> for NodeAddress {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}
impl From<NodeAddress> for String {
    fn from(address: NodeAddress) -> Self {
        address.to_string()
    }
}
impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Options of [`RedisLeases`](super::RedisLeases).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisLeasesOptions {
    /// The server; of a cluster one or several of its nodes, which name the others.
    pub nodes: Vec<NodeAddress>,
    /// Whether they are a Redis Cluster.
    pub cluster: bool,
    /// The user, if not the default one.
    pub username: Option<String>,
    /// A file with the password (the line end behind it does not count), read anew for each connection, so that a
    /// changed password needs no restart.
    pub password_file: Option<PathBuf>,
    /// What every key begins with. The product follows it in braces, so that it decides the cluster's slot.
    pub prefix: String,
    /// Longest time of one call, tries and redirections included.
    #[serde(with = "types::time::duration_text")]
    pub answer_within: Duration,
    /// Longest time until a connection is made and greeted.
    #[serde(with = "types::time::duration_text")]
    pub connect_within: Duration,
    /// How long a lease stays behind its sale's end, or closed, before its key expires.
    #[serde(with = "types::time::duration_text")]
    pub keep: Duration,
    /// Connections to each server.
    pub connections: u16,
    /// Most calls under way; one more is refused at once.
    pub in_flight: u32,
}

impl Default for RedisLeasesOptions {
    fn default() -> Self {
        Self {
            nodes: vec![NodeAddress::new("127.0.0.1", 6379)],
            cluster: false,
            username: None,
            password_file: None,
            prefix: "seckill:lease:".to_owned(),
            answer_within: Duration::from_millis(250),
            connect_within: Duration::from_secs(1),
            keep: Duration::from_secs(3_600),
            connections: 2,
            in_flight: 8_192,
        }
    }
}

impl RedisLeasesOptions {
    /// Checks what serde cannot; the refusal names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        match (self.nodes.len(), self.cluster) {
            (0, _) => return Err(Invalid::new("nodes", "is empty; give one address, or several of a cluster")),
            (1, _) | (_, true) => {}
            (_, false) => return Err(Invalid::new("nodes", "are several; that needs cluster = true")),
        }
        if self.prefix.len() > MAX_PREFIX || self.prefix.bytes().any(|b| !b.is_ascii_graphic() || b"{}".contains(&b)) {
            let why = format!("{:?} is not at most {MAX_PREFIX} printable characters without braces", self.prefix);
            return Err(Invalid::new("prefix", why));
        }
        if self.username.is_some() && self.password_file.is_none() {
            return Err(Invalid::new("password_file", "is missing; a username needs one"));
        }
        within("answer_within", self.answer_within, Duration::from_millis(1), MAX_ANSWER)?;
        within("connect_within", self.connect_within, Duration::from_millis(1), MAX_ANSWER)?;
        within("keep", self.keep, Duration::from_secs(1), MAX_KEEP)?;
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            let why = format!("{} is not in 1 to {MAX_CONNECTIONS}", self.connections);
            return Err(Invalid::new("connections", why));
        }
        if !(1..=MAX_IN_FLIGHT).contains(&self.in_flight) {
            return Err(Invalid::new("in_flight", format!("{} is not in 1 to {MAX_IN_FLIGHT}", self.in_flight)));
        }
        Ok(())
    }
}

fn within(what: &'static str, d: Duration, least: Duration, most: Duration) -> Result<(), Invalid> {
    if (least..=most).contains(&d) {
        return Ok(());
    }
    let print = types::time::duration_text::print;
    Err(Invalid::new(what, format!("{} is not between {} and {}", print(d), print(least), print(most))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_what_it_prints() {
        for good in ["127.0.0.1:6379", "redis-1.shop.example:7000", "[::1]:6379"] {
            assert_eq!(good.parse::<NodeAddress>().map(|a| a.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", ":1", "host", "host:", "host:0", "host:65536", "::1:6379", "a b:1", "user@host:1", "[::1:1"] {
            assert!(bad.parse::<NodeAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_check_names_the_field() {
        let with = |change: fn(&mut RedisLeasesOptions)| {
            let mut options = RedisLeasesOptions::default();
            change(&mut options);
            options.check().err().map(|e| e.what)
        };
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|o| o.nodes.clear()), Some("nodes"));
        assert_eq!(with(|o| o.nodes.push(NodeAddress::new("b", 1))), Some("nodes"));
        assert_eq!(with(|o| o.prefix = "a{b}".to_owned()), Some("prefix"));
        assert_eq!(with(|o| o.username = Some("shop".to_owned())), Some("password_file"));
        assert_eq!(with(|o| o.answer_within = Duration::ZERO), Some("answer_within"));
        assert_eq!(with(|o| o.keep = Duration::ZERO), Some("keep"));
        assert_eq!(with(|o| o.connections = 0), Some("connections"));
        assert_eq!(with(|o| o.in_flight = 0), Some("in_flight"));
    }

    #[test]
    fn an_unknown_setting_is_refused_and_times_need_units() {
        let read = serde_json::from_str::<RedisLeasesOptions>;
        assert!(read(r#"{"nodes": ["a:1", "b:2"], "cluster": true, "answer_within": "100ms"}"#).is_ok());
        assert!(read(r#"{"node": "a:1"}"#).is_err());
        assert!(read(r#"{"answer_within": 100}"#).is_err());
        assert!(read(r#"{"nodes": ["redis://a:1"]}"#).is_err());
    }
}
