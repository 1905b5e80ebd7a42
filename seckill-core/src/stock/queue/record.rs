//! The wire format of the topics `purchase-queue` and `purchase-grants`. A record that does not parse, or lies
//! in the wrong place, is poison: it is dead-lettered with its reason and never decided.

use bytes::Bytes;
use eventlog::{NewRecord, Record};
use serde::{Deserialize, Serialize};
use types::codec::{self, CodecError};
use types::{BuyerId, Epoch, IdempotencyKey, LeaseId, OrderId, RequestId, Sku, Timestamp};

use crate::recent::AttemptName;
use crate::stock::store::{Attempt, BodyHash, Claim};

/// The header with the HTTP request's id.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// The grant by which a redis attempt asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantName {
    pub(crate) lease: LeaseId,
    pub(crate) seq: u64,
}

/// A purchase attempt on its way to a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttemptRecord {
    pub(crate) buyer: BuyerId,
    pub(crate) key: IdempotencyKey,
    #[serde(with = "hex")]
    pub(crate) body_hash: BodyHash,
    pub(crate) product: Sku,
    pub(crate) quantity: u32,
    pub(crate) deadline: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<RequestId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<GrantName>,
}

impl AttemptRecord {
    pub(crate) fn name(&self) -> AttemptName {
        AttemptName { buyer: self.buyer.clone(), key: self.key.clone(), body_hash: self.body_hash }
    }

    /// As the store decides it: by its grant, or from `free`.
    pub(crate) fn attempt(&self, order: OrderId) -> Attempt {
        let claim = match self.grant {
            Some(GrantName { lease, seq }) => Claim::Grant { lease, seq },
            None => Claim::Queue,
        };
        Attempt {
            buyer: self.buyer.clone(),
            key: self.key.clone(),
            body_hash: self.body_hash,
            product: self.product.clone(),
            quantity: self.quantity,
            claim,
            deadline: self.deadline,
            request: self.request.clone(),
            order,
            token: self.token.clone(),
        }
    }
}

/// One record of either topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum PurchaseRecord {
    /// To be decided.
    Attempt(AttemptRecord),
    /// H3: every grant of this lease that was appended before it lies before this.
    Barrier {
        /// The product.
        product: Sku,
        /// The fenced lease.
        lease: LeaseId,
        /// The epoch of the fence.
        epoch: Epoch,
    },
}

/// Which of the two topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// `purchase-grants`.
    Grants,
    /// `purchase-queue`.
    Queue,
}

impl Source {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Grants => "grants",
            Self::Queue => "queue",
        }
    }
}

/// Why a record cannot be decided. A closed set: it is a metric label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Poison {
    /// No value.
    #[error("the record has no value")]
    Empty,
    /// The bytes are not ours.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Its key is not its product: it may lie in a partition where it breaks the order.
    #[error("the record's key is not its product")]
    WrongKey,
    /// It stands in the other topic's place.
    #[error("the record does not belong into this topic")]
    WrongTopic,
    /// It asks for no unit.
    #[error("the record asks for 0 units")]
    NoUnits,
}

impl Poison {
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Codec(_) => "malformed",
            Self::WrongKey => "wrong_key",
            Self::WrongTopic => "wrong_topic",
            Self::NoUnits => "no_units",
        }
    }
}

impl PurchaseRecord {
    fn product(&self) -> &Sku {
        match self {
            Self::Attempt(attempt) => &attempt.product,
            Self::Barrier { product, .. } => product,
        }
    }

    /// As a record for the log, keyed by product.
    pub(crate) fn encode(&self, at: Timestamp) -> Result<NewRecord, CodecError> {
        let record =
            NewRecord::keyed(Bytes::copy_from_slice(self.product().as_str().as_bytes()), codec::encode(self)?, at);
        Ok(match self {
            Self::Attempt(AttemptRecord { request: Some(id), .. }) => {
                record.header(REQUEST_ID, Bytes::copy_from_slice(id.as_str().as_bytes()))
            }
            _ => record,
        })
    }

    /// Reads a record that lies in `source`.
    pub(crate) fn decode(source: Source, record: &Record) -> Result<Self, Poison> {
        let value = record.value.as_deref().ok_or(Poison::Empty)?;
        let parsed: Self = codec::decode(value)?;
        if record.key.as_deref() != Some(parsed.product().as_str().as_bytes()) {
            return Err(Poison::WrongKey);
        }
        let at_home = match &parsed {
            Self::Attempt(attempt) if attempt.quantity == 0 => return Err(Poison::NoUnits),
            Self::Attempt(attempt) => attempt.grant.is_some() == (source == Source::Grants),
            Self::Barrier { .. } => source == Source::Grants,
        };
        if at_home { Ok(parsed) } else { Err(Poison::WrongTopic) }
    }
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::stock::store::BodyHash;

    pub(super) fn serialize<S: Serializer>(hash: &BodyHash, s: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in hash.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        s.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BodyHash, D::Error> {
        let text = String::deserialize(d)?;
        parse(text.as_bytes())
            .ok_or_else(|| serde::de::Error::custom("a body hash is 64 lower-case hexadecimal digits"))
    }

    fn parse(text: &[u8]) -> Option<BodyHash> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        let (pairs, rest) = text.as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Some(BodyHash(hash))
    }
}

#[cfg(test)]
mod tests {
    use eventlog::Topic;

    use super::*;

    fn attempt(grant: Option<GrantName>) -> PurchaseRecord {
        PurchaseRecord::Attempt(AttemptRecord {
            buyer: BuyerId::new("anna").expect("id"),
            key: IdempotencyKey::new("k-1").expect("key"),
            body_hash: BodyHash([0xab; 32]),
            product: Sku::new("lamp").expect("sku"),
            quantity: 2,
            deadline: Timestamp::from_millis(1_794_355_260_123),
            request: Some(RequestId::new("r1").expect("id")),
            token: None,
            grant,
        })
    }
    fn lying(record: NewRecord) -> Record {
        Record {
            topic: Topic::new("t").expect("name"),
            partition: 0,
            offset: 0,
            key: record.key,
            value: record.value,
            headers: record.headers,
            at: record.at,
        }
    }

    #[test]
    fn the_format_is_stable() {
        let grant = GrantName { lease: LeaseId::from_bits(7), seq: 3 };
        let record = attempt(Some(grant)).encode(Timestamp::default()).expect("encodes");
        let value = record.value.clone().expect("a value");
        assert_eq!(value[0], codec::VERSION);
        insta::assert_snapshot!(std::str::from_utf8(&value[1..]).expect("utf-8"), @r#"{"record":"attempt","buyer":"anna","key":"k-1","body_hash":"abababababababababababababababababababababababababababababababab","product":"lamp","quantity":2,"deadline":"2026-11-11T00:01:00.123Z","request":"r1","grant":{"lease":"00000000000000000000000000000007","seq":3}}"#);
        assert_eq!(record.headers, vec![(REQUEST_ID.to_owned(), Bytes::from_static(b"r1"))]);
        assert_eq!(PurchaseRecord::decode(Source::Grants, &lying(record)), Ok(attempt(Some(grant))));
    }

    #[test]
    fn poison_is_named() {
        let good = || lying(attempt(None).encode(Timestamp::default()).expect("encodes"));
        let said = |r: Record, s| PurchaseRecord::decode(s, &r).expect_err("poison").label();
        assert_eq!(said(Record { value: None, ..good() }, Source::Queue), "empty");
        assert_eq!(said(Record { value: Some(Bytes::from_static(b"\x01{")), ..good() }, Source::Queue), "malformed");
        assert_eq!(said(Record { value: Some(Bytes::from_static(b"\x02{}")), ..good() }, Source::Queue), "malformed");
        assert_eq!(said(Record { key: Some(Bytes::from_static(b"other")), ..good() }, Source::Queue), "wrong_key");
        assert_eq!(said(Record { key: None, ..good() }, Source::Queue), "wrong_key");
        assert_eq!(said(good(), Source::Grants), "wrong_topic");
        let PurchaseRecord::Attempt(mut none) = attempt(None) else { unreachable!("an attempt") };
        none.quantity = 0;
        let none = PurchaseRecord::Attempt(none).encode(Timestamp::default()).expect("encodes");
        assert_eq!(said(lying(none), Source::Queue), "no_units");
    }
}
