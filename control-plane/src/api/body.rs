//! Reads the body of an override order by hand, so that each refusal names the field at fault, also when it
//! is unknown, missing, given twice or of another type.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use http_kit::{Problem, ProblemKind};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use types::Tier;

use super::field;

/// Shortest override: below it the move costs more than it brings.
pub(super) const MIN_TTL: Duration = Duration::from_secs(10);
/// Longest override: nobody remembers an older one.
pub(super) const MAX_TTL: Duration = Duration::from_secs(24 * 3600);
/// Shortest reason in characters.
pub(super) const MIN_REASON: usize = 3;
/// Longest reason in characters.
pub(super) const MAX_REASON: usize = 500;
/// Most fields that are looked at; an order has three.
const MAX_FIELDS: usize = 32;

/// A checked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OrderBody {
    pub tier: Tier,
    pub ttl: Duration,
    pub reason: String,
}

/// Fields in their order, repeats included.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with tier, ttl and reason")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut all = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if all.len() == MAX_FIELDS {
                        return Err(serde::de::Error::custom(format!("more than {MAX_FIELDS} fields")));
                    }
                    all.push(pair);
                }
                Ok(Fields(all))
            }
        }
        source.deserialize_map(Collect)
    }
}

pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<OrderBody, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(ProblemKind::MEDIA_TYPE, "send Content-Type: application/json"));
    }
    let Fields(fields) =
        serde_json::from_slice(body).map_err(|e| Problem::new(ProblemKind::MALFORMED, e.to_string()))?;
    let (mut tier, mut ttl, mut reason) = (None, None, None);
    for (name, value) in fields {
        let place = match name.as_str() {
            "tier" => &mut tier,
            "ttl" => &mut ttl,
            "reason" => &mut reason,
            other => {
                let shown: String = other.chars().take(64).collect();
                return Err(field(&shown, "unknown field; an override has tier, ttl and reason"));
            }
        };
        if place.replace(value).is_some() {
            return Err(field(&name, "given twice"));
        }
    }
    Ok(OrderBody { tier: tier_of(tier)?, ttl: ttl_of(ttl)?, reason: reason_of(reason)? })
}

fn tier_of(value: Option<Value>) -> Result<Tier, Problem> {
    match value {
        Some(Value::String(text)) => {
            // The text is not repeated: it may be as long as the body.
            text.parse().map_err(|_| field("tier", "unknown tier; use db, redis or queue"))
        }
        Some(_) => Err(field("tier", "must be a text: db, redis or queue")),
        None => Err(field("tier", "is missing; use db, redis or queue")),
    }
}

fn ttl_of(value: Option<Value>) -> Result<Duration, Problem> {
    const SHAPE: &str = "10s to 24h, as a text with a unit (\"5m\") or whole seconds (300)";
    let ttl = match value {
        Some(Value::String(text)) if text.len() <= 32 => types::time::duration_text::parse(&text).ok(),
        Some(Value::Number(seconds)) => seconds.as_u64().map(Duration::from_secs),
        None => return Err(field("ttl", format!("is missing; every override has an end: {SHAPE}"))),
        Some(_) => None,
    };
    match ttl {
        Some(ttl) if (MIN_TTL..=MAX_TTL).contains(&ttl) => Ok(ttl),
        Some(_) => Err(field("ttl", format!("is out of range; give {SHAPE}"))),
        None => Err(field("ttl", format!("is not a time; give {SHAPE}"))),
    }
}

fn reason_of(value: Option<Value>) -> Result<String, Problem> {
    let text = match value {
        Some(Value::String(text)) => text,
        Some(_) => return Err(field("reason", "must be a text")),
        None => return Err(field("reason", "is missing; say why, for those who read the audit log")),
    };
    let text = text.trim();
    let length = text.chars().count();
    if !(MIN_REASON..=MAX_REASON).contains(&length) {
        return Err(field("reason", format!("has {length} characters; {MIN_REASON} to {MAX_REASON} are allowed")));
    }
    // A line break or an escape code could forge a line where the reason is printed.
    if text.chars().any(char::is_control) {
        return Err(field("reason", "holds a control character"));
    }
    Ok(text.to_owned())
}
