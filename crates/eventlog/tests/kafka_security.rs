//! A broker that asks who comes: SASL/PLAIN in every build, TLS and SCRAM in one with the feature `kafka-tls`, and a clear
//! word where the build, the password or the certificate is not right.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)]

mod kafka_broker;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use eventlog::kafka::KafkaLogOptions;
use eventlog::{EventLog, EventLogError, KafkaLog, NewRecord, Retention, Topic, TopicPartition, TopicSpec};
use testkit::servers::{Kafka, Secured};
use types::{SystemClock, Timestamp};

fn broker() -> &'static Kafka {
    static BROKER: OnceLock<Kafka> = OnceLock::new();
    BROKER.get_or_init(|| Kafka::start_secured(&kafka_broker::folder("broker-secured")).unwrap())
}

fn secured() -> &'static Secured {
    broker().secured().unwrap()
}

/// A password as an operator keeps it: in a file, with a line end behind it.
fn password_file(folder: &Path, password: &str) -> PathBuf {
    let file = folder.join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    file
}

fn options(address: String, properties: &[(&str, &str)], password: PathBuf) -> KafkaLogOptions {
    let mut options = KafkaLogOptions {
        bootstrap: vec![address],
        request_timeout: Duration::from_secs(5),
        ..KafkaLogOptions::default()
    };
    options.properties.insert("sasl.username".to_owned(), Secured::USER.to_owned());
    options.properties.extend(properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    options.secret_files.insert("sasl.password".to_owned(), password);
    options.check().unwrap();
    options
}

/// Makes a topic, writes to it and asks for its end.
async fn works(options: KafkaLogOptions, name: &str) -> Result<u64, EventLogError> {
    let log = KafkaLog::connect(options, Arc::new(SystemClock::new()))?;
    let topic = Topic::new(name).unwrap();
    let retention = Retention::Time(Duration::from_secs(3600));
    log.ensure_topic(&TopicSpec { topic: topic.clone(), partitions: 1, retention }).await?;
    log.append(&topic, vec![NewRecord::to_partition(0, "x", Timestamp::from_seconds(1))]).await?;
    log.end_offset(&TopicPartition { topic, partition: 0 }).await
}

const PLAIN: [(&str, &str); 2] = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_password_comes_in_and_who_has_not_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let right = password_file(folder.path(), Secured::PASSWORD);
    assert_eq!(works(options(secured().sasl(), &PLAIN, right), "plain").await.unwrap(), 1);

    let wrong = password_file(folder.path(), "another");
    let refused = works(options(secured().sasl(), &PLAIN, wrong), "plain").await.unwrap_err();
    assert!(refused.to_string().to_lowercase().contains("authentication"), "{refused}");
    assert!(!refused.to_string().contains("another"), "a password is never said: {refused}");
}

/// What the library was not built with, it is not quietly done without.
#[cfg(not(feature = "kafka-tls"))]
#[test]
fn without_the_feature_tls_and_scram_are_refused_at_once_and_the_feature_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let password = password_file(folder.path(), Secured::PASSWORD);
    let refused = |properties: &[(&str, &str)]| {
        let options = options("localhost:9092".to_owned(), properties, password.clone());
        KafkaLog::connect(options, Arc::new(SystemClock::new())).err().unwrap()
    };
    for properties in [
        [("security.protocol", "sasl_ssl"), ("sasl.mechanism", "PLAIN")],
        [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "SCRAM-SHA-512")],
        [("security.protocol", "ssl"), ("ssl.ca.location", "/etc/ca.pem")],
    ] {
        let error = refused(&properties);
        assert!(matches!(error, EventLogError::Refused(_)) && error.to_string().contains("kafka-tls"), "{error}");
    }
}

#[cfg(feature = "kafka-tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_scram_together_and_a_certificate_that_nobody_vouches_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let password = password_file(folder.path(), Secured::PASSWORD);
    let certificate = secured().certificate.display().to_string();
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let properties =
            [("security.protocol", "sasl_ssl"), ("sasl.mechanism", mechanism), ("ssl.ca.location", &certificate)];
        let name = mechanism.to_lowercase();
        assert_eq!(works(options(secured().tls(), &properties, password.clone()), &name).await.unwrap(), 1);
    }
    let untrusting = [("security.protocol", "sasl_ssl"), ("sasl.mechanism", "PLAIN")];
    let refused = works(options(secured().tls(), &untrusting, password.clone()), "plain").await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let wrong = password_file(folder.path(), "another");
    let scram =
        [("security.protocol", "sasl_ssl"), ("sasl.mechanism", "SCRAM-SHA-512"), ("ssl.ca.location", &certificate)];
    let refused = works(options(secured().tls(), &scram, wrong), "plain").await.unwrap_err();
    assert!(refused.to_string().to_lowercase().contains("authentication"), "{refused}");
}
