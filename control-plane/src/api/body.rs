//! Reads bodies by hand, so that each refusal names the field at fault, also when it is unknown, missing, given twice or
//! of another type, and in a batch the place of the order.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use http_kit::{Problem, ProblemKind};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use types::{Sku, Tier};

use super::field;
use crate::brain::MAX_BATCH;
use crate::policy::Policy;

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
                f.write_str("an object")
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

/// Orders in their order; of those beyond the most only the number is kept.
struct Orders(Vec<Fields>, usize);

impl<'de> Deserialize<'de> for Orders {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Orders;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of overrides, each with product, tier, ttl and reason")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Orders, A::Error> {
                let mut all = Orders(Vec::new(), 0);
                loop {
                    if all.0.len() < MAX_BATCH {
                        let Some(order) = list.next_element()? else { return Ok(all) };
                        all.0.push(order);
                    } else if list.next_element::<serde::de::IgnoredAny>()?.is_none() {
                        return Ok(all);
                    }
                    all.1 += 1;
                }
            }
        }
        source.deserialize_seq(Collect)
    }
}

fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::MEDIA_TYPE, "send Content-Type: application/json"))
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(ProblemKind::MALFORMED, error.to_string())
}

/// The values of these fields, each given at most once, and no others. `at`: what stands before a field's name.
fn known<const N: usize>(fields: Fields, names: [&'static str; N], at: &str) -> Result<[Option<Value>; N], Problem> {
    let mut values = [const { None }; N];
    for (name, value) in fields.0 {
        let Some(place) = names.iter().position(|known| *known == name) else {
            let shown: String = name.chars().take(64).collect();
            return Err(field(&format!("{at}{shown}"), format!("unknown field; there are: {}", names.join(", "))));
        };
        if values[place].replace(value).is_some() {
            return Err(field(&format!("{at}{name}"), "given twice"));
        }
    }
    Ok(values)
}

fn fields(headers: &HeaderMap, body: &[u8]) -> Result<Fields, Problem> {
    is_json(headers)?;
    serde_json::from_slice(body).map_err(|e| malformed(&e))
}

/// `{tier, ttl, reason}`.
pub(super) fn order(headers: &HeaderMap, body: &[u8]) -> Result<OrderBody, Problem> {
    let [tier, ttl, reason] = known(fields(headers, body)?, ["tier", "ttl", "reason"], "")?;
    Ok(OrderBody { tier: tier_of(tier, "tier")?, ttl: ttl_of(ttl, "ttl")?, reason: reason_of(reason, "reason")? })
}

/// `{reason}`.
pub(super) fn reason(headers: &HeaderMap, body: &[u8]) -> Result<String, Problem> {
    let [reason] = known(fields(headers, body)?, ["reason"], "")?;
    reason_of(reason, "reason")
}

/// `{overrides: [{product, tier, ttl, reason}]}`.
pub(super) fn batch(headers: &HeaderMap, body: &[u8]) -> Result<Vec<(Sku, OrderBody)>, Problem> {
    #[derive(serde::Deserialize)]
    struct Batch {
        overrides: Option<Orders>,
        #[serde(flatten)]
        more: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
    }
    is_json(headers)?;
    let Batch { overrides, more } = serde_json::from_slice(body).map_err(|e| malformed(&e))?;
    if let Some(name) = more.keys().next() {
        let shown: String = name.chars().take(64).collect();
        return Err(field(&shown, "unknown field; a batch has overrides"));
    }
    let Orders(orders, count) = overrides.ok_or_else(|| field("overrides", "is missing"))?;
    if count == 0 || count > MAX_BATCH {
        return Err(field("overrides", format!("{count} overrides; a batch has 1 to {MAX_BATCH}")));
    }
    let mut seen = BTreeSet::new();
    let mut all = Vec::with_capacity(orders.len());
    for (n, order) in orders.into_iter().enumerate() {
        let at = |name: &str| format!("overrides[{n}].{name}");
        let [product, tier, ttl, reason] = known(order, ["product", "tier", "ttl", "reason"], &at(""))?;
        let product = match product {
            Some(Value::String(text)) => Sku::new(text).map_err(|e| field(&at("product"), e.why))?,
            Some(_) => return Err(field(&at("product"), "must be a text")),
            None => return Err(field(&at("product"), "is missing")),
        };
        if !seen.insert(product.clone()) {
            return Err(field(&at("product"), format!("{product} appears twice")));
        }
        let (tier, ttl) = (tier_of(tier, &at("tier"))?, ttl_of(ttl, &at("ttl"))?);
        all.push((product, OrderBody { tier, ttl, reason: reason_of(reason, &at("reason"))? }));
    }
    Ok(all)
}

/// `{policy: {every number}, reason}`. A number that is left out is not silently the default.
pub(super) fn policy(headers: &HeaderMap, body: &[u8]) -> Result<(Policy, String), Problem> {
    let [policy, reason] = known(fields(headers, body)?, ["policy", "reason"], "")?;
    let Some(Value::Object(given)) = policy else {
        return Err(field("policy", "must be an object with every number of the policy; read it with GET first"));
    };
    let Ok(Value::Object(shape)) = serde_json::to_value(Policy::default()) else {
        return Err(Problem::new(ProblemKind::INTERNAL, "the policy cannot be written"));
    };
    if let Some(name) = given.keys().find(|name| !shape.contains_key(*name)) {
        let shown: String = name.chars().take(64).collect();
        return Err(field(&format!("policy.{shown}"), "unknown number"));
    }
    for name in shape.keys() {
        let path = format!("policy.{name}");
        let value = given.get(name).ok_or_else(|| field(&path, "is missing"))?;
        let mut one = shape.clone();
        one.insert(name.clone(), value.clone());
        Policy::deserialize(Value::Object(one)).map_err(|e| field(&path, e.to_string()))?;
    }
    let policy = Policy::deserialize(Value::Object(given)).map_err(|e| field("policy", e.to_string()))?;
    policy.check()?;
    Ok((policy, reason_of(reason, "reason")?))
}

fn tier_of(value: Option<Value>, at: &str) -> Result<Tier, Problem> {
    match value {
        Some(Value::String(text)) => {
            // The text is not repeated: it may be as long as the body.
            text.parse().map_err(|_| field(at, "unknown tier; use db, redis or queue"))
        }
        Some(_) => Err(field(at, "must be a text: db, redis or queue")),
        None => Err(field(at, "is missing; use db, redis or queue")),
    }
}

fn ttl_of(value: Option<Value>, at: &str) -> Result<Duration, Problem> {
    const SHAPE: &str = "10s to 24h, as a text with a unit (\"5m\") or whole seconds (300)";
    let ttl = match value {
        Some(Value::String(text)) if text.len() <= 32 => types::time::duration_text::parse(&text).ok(),
        Some(Value::Number(seconds)) => seconds.as_u64().map(Duration::from_secs),
        None => return Err(field(at, format!("is missing; every override has an end: {SHAPE}"))),
        Some(_) => None,
    };
    match ttl {
        Some(ttl) if (MIN_TTL..=MAX_TTL).contains(&ttl) => Ok(ttl),
        Some(_) => Err(field(at, format!("is out of range; give {SHAPE}"))),
        None => Err(field(at, format!("is not a time; give {SHAPE}"))),
    }
}

fn reason_of(value: Option<Value>, at: &str) -> Result<String, Problem> {
    let text = match value {
        Some(Value::String(text)) => text,
        Some(_) => return Err(field(at, "must be a text")),
        None => return Err(field(at, "is missing; say why, for those who read the audit log")),
    };
    reason_text(&text, at)
}

/// A reason as it is kept.
pub(super) fn reason_text(text: &str, at: &str) -> Result<String, Problem> {
    let text = text.trim();
    let length = text.chars().count();
    if !(MIN_REASON..=MAX_REASON).contains(&length) {
        return Err(field(at, format!("has {length} characters; {MIN_REASON} to {MAX_REASON} are allowed")));
    }
    // A line break or an escape code could forge a line where the reason is printed.
    if text.chars().any(char::is_control) {
        return Err(field(at, "holds a control character"));
    }
    Ok(text.to_owned())
}
