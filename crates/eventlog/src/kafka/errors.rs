//! What Kafka's error codes mean in the port's words. Pure.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::{EventLogError, Topic};

/// What a failed request was about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    /// What was being done, for the reader of the message.
    pub(super) doing: &'a str,
    /// The topic, if it was one.
    pub(super) topic: Option<&'a Topic>,
}

/// The port's error for an error of the client library.
pub(super) fn of(error: &KafkaError, about: About<'_>) -> EventLogError {
    match code(error) {
        Some(code) => of_code(code, about),
        // What has no code is a wrong configuration, or a call that the library refused.
        None if matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) => {
            let said = error.to_string();
            // The library's own word for a build without TLS, in which SCRAM is missing too.
            let hint = if !cfg!(feature = "kafka-tls") && said.to_lowercase().contains("openssl") {
                "; TLS and SCRAM need a program that was built with the feature kafka-tls"
            } else {
                ""
            };
            EventLogError::Refused(format!("kafka: {}: {said}{hint}", about.doing))
        }
        None => EventLogError::Unavailable(format!("kafka: {}: {error}", about.doing)),
    }
}

/// The code inside, which the library gives only for some kinds.
pub(super) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) | KafkaError::MessageConsumptionFatal(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// The port's error for a code.
pub(super) fn of_code(code: Code, about: About<'_>) -> EventLogError {
    match (code, about.topic) {
        (Code::UnknownTopicOrPartition | Code::UnknownTopic, Some(topic)) => EventLogError::NoSuchTopic(topic.clone()),
        _ if is_refusal(code) => EventLogError::Refused(format!("kafka: {}: {code}{}", about.doing, hint(code))),
        _ => EventLogError::Unavailable(format!("kafka: {}: {code}", about.doing)),
    }
}

/// Whether asking again cannot help before somebody has changed something. Everything else is a broker that is away,
/// slow, or between two leaders.
const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidReplicaAssignment
            | Code::InvalidGroupId
            | Code::InvalidSessionTimeout
            | Code::InconsistentGroupProtocol
            | Code::PolicyViolation
            | Code::UnsupportedCompressionType
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::NotImplemented
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::Authentication
            | Code::SecurityDisabled
    )
}

const fn hint(code: Code) -> &'static str {
    match code {
        Code::InvalidSessionTimeout => "; session_timeout is below the broker's group.min.session.timeout.ms",
        Code::InvalidReplicationFactor => "; replication_factor is more than there are brokers",
        Code::InconsistentGroupProtocol => "; other members of the group share partitions in another way",
        Code::MessageSizeTooLarge => "; the topic's max.message.bytes is smaller than the record",
        _ => "",
    }
}

/// What a failed commit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitFailure {
    /// The group is just sharing anew; the same commit may pass in a moment.
    Again,
    /// This member has lost its partitions; it will be told by its next poll.
    Lost,
    /// Anything else.
    Other(Code),
}

pub(super) const fn commit_failure(code: Code) -> CommitFailure {
    match code {
        Code::RebalanceInProgress => CommitFailure::Again,
        Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedInstanceId | Code::AssignmentLost => {
            CommitFailure::Lost
        }
        other if passes(other) => CommitFailure::Again,
        other => CommitFailure::Other(other),
    }
}

/// Whether a broker or coordinator is only just starting, moving or learning of a topic: the same question again gets
/// an answer in a moment.
pub(super) const fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::ReplicaNotAvailable
            | Code::OffsetNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::NotController
            | Code::BrokerTransportFailure
            | Code::NetworkException
    )
}

/// What an error between two records means to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFailure {
    /// The library goes on by itself, and has said so in the log.
    GoesOn,
    /// A topic of the subscription is gone.
    TopicGone,
    /// The reader has to know.
    Tell(Code),
}

pub(super) const fn read_failure(code: Code) -> ReadFailure {
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => ReadFailure::TopicGone,
        _ if is_refusal(code) => ReadFailure::Tell(code),
        Code::Fatal | Code::BadCompression | Code::BadMessage | Code::InvalidMessage => ReadFailure::Tell(code),
        _ => ReadFailure::GoesOn,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_broker_that_is_away_is_retryable_and_a_refusal_is_not() {
        let topic = Topic::new("t").unwrap();
        let about = About { doing: "append", topic: Some(&topic) };
        let retryable = |code| of_code(code, about).retryable();
        for code in [
            Code::MessageTimedOut,
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::NotEnoughReplicas,
            Code::NotLeaderForPartition,
            Code::PurgeQueue,
        ] {
            assert!(retryable(code), "{code:?}");
        }
        for code in [Code::MessageSizeTooLarge, Code::TopicAuthorizationFailed, Code::UnknownTopicOrPartition] {
            assert!(!retryable(code), "{code:?}");
        }
        let gone = of_code(Code::UnknownTopic, about);
        assert!(matches!(gone, EventLogError::NoSuchTopic(t) if t == topic));
        let text = of_code(Code::InvalidSessionTimeout, About { doing: "join", topic: None }).to_string();
        assert!(text.contains("group.min.session.timeout.ms"), "{text}");
    }

    #[test]
    fn codes_are_found_where_the_library_hides_them() {
        assert_eq!(code(&KafkaError::AdminOp(Code::PolicyViolation)), Some(Code::PolicyViolation));
        assert_eq!(code(&KafkaError::ConsumerCommit(Code::UnknownMemberId)), Some(Code::UnknownMemberId));
        assert_eq!(commit_failure(Code::UnknownMemberId), CommitFailure::Lost);
        assert_eq!(commit_failure(Code::RebalanceInProgress), CommitFailure::Again);
        assert_eq!(read_failure(Code::AllBrokersDown), ReadFailure::GoesOn);
        assert_eq!(read_failure(Code::UnknownTopicOrPartition), ReadFailure::TopicGone);
    }
}
