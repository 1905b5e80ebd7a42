//! What can be set of the Kafka provider. Nothing here weakens durability or order: acknowledgement by all in-sync
//! replicas and the idempotent producer are fixed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

/// Most addresses to begin with: one that answers tells the others.
pub const MAX_BOOTSTRAP: usize = 32;
/// Most further properties: a TLS and SASL setup has about ten.
pub const MAX_PROPERTIES: usize = 32;
/// Properties that may be set freely: who we are and how we prove it. All others are ours.
const FREE: [&str; 3] = ["security.", "sasl.", "ssl."];
/// Those among them that are secrets, by a part of their name: they come from files.
const SECRET: [&str; 4] = ["password", "secret", ".pem", "jaas"];

/// How values travel and lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are.
    None,
    /// Quick: the right one unless disks or links are scarce.
    #[default]
    Lz4,
    /// Smaller, at several times the work.
    Zstd,
}

/// Settings of [`super::KafkaLog`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaLogOptions {
    /// Brokers to begin with, each `host:port`; 1 to 32.
    pub bootstrap: Vec<String>,
    /// The name under which the brokers log this process; letters, digits and `. _ -`.
    pub client_id: String,
    /// Copies of each topic that is made here, 1 to 7. From 3 on, one broker may be missing without loss or halt.
    pub replication_factor: u16,
    /// How values travel and lie.
    pub compression: Compression,
    /// How long a record may wait for others to travel with, 0 to 100 ms.
    #[serde(with = "types::time::duration_text")]
    pub linger: Duration,
    /// Appends that wait for acknowledgement, in MiB of records; more wait in their callers. 1 to 1024.
    pub queue_mib: u32,
    /// Records fetched ahead of the polls, in MiB for each consumer; 1 to 1024.
    pub fetch_mib: u32,
    /// How long an append waits for brokers that are away, 1 s to 10 min; then it fails and may be repeated.
    #[serde(with = "types::time::duration_text")]
    pub append_timeout: Duration,
    /// How long any other request waits, 1 s to 2 min.
    #[serde(with = "types::time::duration_text")]
    pub request_timeout: Duration,
    /// After how long without a sign of life the group gives a member's partitions to others, 1 s to 5 min. The
    /// broker bounds it too (`group.min.session.timeout.ms`, 6 s unless it is changed).
    #[serde(with = "types::time::duration_text")]
    pub session_timeout: Duration,
    /// How long a member may work between two polls before it is taken for stuck, `session_timeout` to 1 h.
    #[serde(with = "types::time::duration_text")]
    pub poll_patience: Duration,
    /// Further properties of librdkafka that begin with `security.`, `sasl.` or `ssl.`; none that is a secret.
    pub properties: BTreeMap<String, String>,
    /// The secret ones among these: the file that holds each.
    pub secret_files: BTreeMap<String, PathBuf>,
}

impl Default for KafkaLogOptions {
    fn default() -> Self {
        Self {
            bootstrap: vec!["127.0.0.1:9092".to_owned()],
            client_id: "seckill".to_owned(),
            replication_factor: 1,
            compression: Compression::default(),
            linger: Duration::from_millis(2),
            queue_mib: 64,
            fetch_mib: 64,
            append_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(3),
            poll_patience: Duration::from_secs(300),
            properties: BTreeMap::new(),
            secret_files: BTreeMap::new(),
        }
    }
}

fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|part| name.contains(part))
}

fn within<T: PartialOrd + std::fmt::Debug>(what: &'static str, value: T, low: T, high: T) -> Result<(), Invalid> {
    let right = (&low..=&high).contains(&&value);
    right.then_some(()).ok_or_else(|| Invalid::new(what, format!("{value:?} is not {low:?} to {high:?}")))
}

impl KafkaLogOptions {
    /// Says which field is out of its range.
    pub fn check(&self) -> Result<(), Invalid> {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        within("bootstrap", self.bootstrap.len(), 1, MAX_BOOTSTRAP)?;
        for address in &self.bootstrap {
            let port = address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().map(|p| (host, p)));
            if !port.is_some_and(|(host, port)| !host.is_empty() && !host.contains(',') && port != 0) {
                return Err(Invalid::new("bootstrap", format!("{address:?} is not host:port")));
            }
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if self.client_id.is_empty() || self.client_id.len() > 100 || !self.client_id.bytes().all(legal) {
            return Err(Invalid::new("client_id", "1 to 100 letters, digits and . _ - are allowed".to_owned()));
        }
        within("replication_factor", self.replication_factor, 1, 7)?;
        within("linger", self.linger, Duration::ZERO, Duration::from_millis(100))?;
        within("queue_mib", self.queue_mib, 1, 1024)?;
        within("fetch_mib", self.fetch_mib, 1, 1024)?;
        within("append_timeout", self.append_timeout, second, 10 * minute)?;
        within("request_timeout", self.request_timeout, second, 2 * minute)?;
        within("session_timeout", self.session_timeout, second, 5 * minute)?;
        within("poll_patience", self.poll_patience, self.session_timeout, 60 * minute)?;
        within("properties", self.properties.len(), 0, MAX_PROPERTIES)?;
        within("secret_files", self.secret_files.len(), 0, MAX_PROPERTIES)?;
        let free = |name: &str| FREE.iter().any(|prefix| name.starts_with(prefix));
        for name in self.properties.keys() {
            if is_secret(name) {
                return Err(Invalid::new("properties", format!("{name} is a secret: name its file in secret_files")));
            }
            if !free(name) {
                return Err(Invalid::new("properties", format!("{name} begins with none of {FREE:?}")));
            }
        }
        if let Some(name) = self.secret_files.keys().find(|name| !free(name) || self.properties.contains_key(*name)) {
            let why = format!("{name} begins with none of {FREE:?}, or is among the properties too");
            return Err(Invalid::new("secret_files", why));
        }
        Ok(())
    }

    /// The free properties with the secrets read from their files; a line end behind a secret is not part of it.
    pub(super) fn security(&self) -> Result<BTreeMap<String, String>, Invalid> {
        let mut all = self.properties.clone();
        for (name, path) in &self.secret_files {
            // Says which file, never what is in it.
            let text = std::fs::read_to_string(path)
                .map_err(|e| Invalid::new("secret_files", format!("{name}: {}: {e}", path.display())))?;
            all.insert(name.clone(), text.trim_end_matches(['\r', '\n']).to_owned());
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_defaults_are_within_their_ranges_and_an_unknown_name_is_refused() {
        let defaults = KafkaLogOptions::default();
        assert_eq!(defaults.check(), Ok(()));
        let parse = serde_json::from_str::<KafkaLogOptions>;
        assert_eq!(parse("{}").unwrap(), defaults);
        assert!(parse(r#"{"acks": "1"}"#).is_err());
        let set = parse(r#"{"bootstrap": ["kafka-1:9092", "kafka-2:9092"], "compression": "zstd", "linger": "5ms"}"#);
        assert_eq!(set.unwrap().check(), Ok(()));
    }

    #[test]
    fn each_field_out_of_its_range_is_named() {
        let named = |change: &dyn Fn(&mut KafkaLogOptions)| {
            let mut options = KafkaLogOptions::default();
            change(&mut options);
            options.check().map_err(|e| e.what)
        };
        assert_eq!(named(&|o| o.bootstrap = vec![]), Err("bootstrap"));
        assert_eq!(named(&|o| o.bootstrap = vec!["kafka".into()]), Err("bootstrap"));
        assert_eq!(named(&|o| o.bootstrap = vec!["a:1,b:2".into()]), Err("bootstrap"));
        assert_eq!(named(&|o| o.client_id = "a b".into()), Err("client_id"));
        assert_eq!(named(&|o| o.replication_factor = 0), Err("replication_factor"));
        assert_eq!(named(&|o| o.linger = Duration::from_secs(1)), Err("linger"));
        assert_eq!(named(&|o| o.queue_mib = 0), Err("queue_mib"));
        assert_eq!(named(&|o| o.poll_patience = Duration::from_secs(2)), Err("poll_patience"));
        let property = |name: &str| {
            let name = name.to_owned();
            named(&move |o| drop(o.properties.insert(name.clone(), "x".into())))
        };
        assert_eq!(property("security.protocol"), Ok(()));
        assert_eq!(property("acks"), Err("properties"), "durability is not for sale");
        assert_eq!(property("sasl.password"), Err("properties"), "a secret in plain sight");
        let stray = |o: &mut KafkaLogOptions| drop(o.secret_files.insert("acks".into(), "x".into()));
        assert_eq!(named(&stray), Err("secret_files"));
    }

    #[test]
    fn secrets_come_from_their_files_and_a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "s3cret\n").unwrap();
        let mut options = KafkaLogOptions::default();
        options.secret_files.insert("sasl.password".to_owned(), file);
        assert_eq!(options.check(), Ok(()));
        assert_eq!(options.security().unwrap()["sasl.password"], "s3cret");
        assert!(!format!("{options:?}").contains("s3cret"));
        options.secret_files.insert("ssl.key.password".to_owned(), folder.path().join("absent"));
        assert!(options.security().unwrap_err().to_string().contains("absent"));
    }
}
