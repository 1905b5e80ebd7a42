//! The calls of the lease store as Redis commands, and Redis's answers as replies. Pure: it knows no connection.

use std::sync::LazyLock;

use redis::{Cmd, Script, Value};
use sha2::{Digest, Sha256};
use types::{LeaseId, Sku};

use crate::stock::redis::{GrantReply, GrantRequest, LeaseLoad, LeaseLook, LeaseStoreError};

/// The largest whole number up to which Lua counts exactly.
pub(super) const MAX_UNITS: u64 = 1 << 53;
/// Bytes kept of a hash over buyer and key, and of the body's: two alike are not met by chance.
const SHORT_HASH: usize = 16;

/// Asks for a grant.
pub(super) static GRANT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("grant.lua")));
/// Loads a lease.
pub(super) static LOAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("load.lua")));
/// Closes a lease.
pub(super) static CLOSE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("close.lua")));
/// Raises a lease's units.
pub(super) static TOP_UP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("top_up.lua")));
const GRANT_TEXT: &str = include_str!("grant.lua");
const LOAD_TEXT: &str = include_str!("load.lua");
const CLOSE_TEXT: &str = include_str!("close.lua");
const TOP_UP_TEXT: &str = include_str!("top_up.lua");

/// The scripts' texts, as a greeted server is given them.
pub(super) const TEXTS: [&str; 4] = [GRANT_TEXT, LOAD_TEXT, CLOSE_TEXT, TOP_UP_TEXT];

/// What is asked of Redis.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Grant(GrantRequest),
    /// With the milliseconds until the key expires.
    Load(LeaseLoad, u64),
    /// With the milliseconds until the shell expires.
    Close(LeaseId, u64),
    /// With the units lent in all.
    TopUp(LeaseId, u64),
    Look,
}

impl Ask {
    /// Whether it may be done twice. A load may not: between the two another core may have been granted units.
    pub fn repeatable(&self) -> bool {
        !matches!(self, Self::Load(..))
    }
    /// The label of its metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Load(..) => "load",
            Self::Close(..) => "close",
            Self::TopUp(..) => "top_up",
            Self::Look => "look",
        }
    }
    /// The text of its script.
    pub fn text(&self) -> Option<&'static str> {
        match self {
            Self::Grant(_) => Some(GRANT_TEXT),
            Self::Load(..) => Some(LOAD_TEXT),
            Self::Close(..) => Some(CLOSE_TEXT),
            Self::TopUp(..) => Some(TOP_UP_TEXT),
            Self::Look => None,
        }
    }

    /// As a command to the server process `run`.
    pub fn command(&self, key: &str, run: &str) -> Cmd {
        match self {
            Self::Grant(request) => {
                let (grant, buyer) = fields(request);
                let mut command = evalsha(&GRANT, key);
                command
                    .arg(format!("{run}:{}:{}", request.lease, request.epoch.get()))
                    .arg(&grant)
                    .arg(&buyer)
                    .arg(&request.body_hash.0[..SHORT_HASH])
                    .arg(request.quantity)
                    .arg(request.now.millis());
                command
            }
            Self::Load(lease, expires) => {
                let mut command = evalsha(&LOAD, key);
                command
                    .arg(format!("{run}:{}:{}", lease.lease, lease.epoch.get()))
                    .arg(run)
                    .arg(lease.lease.to_string())
                    .arg(format!("{:020}", lease.epoch.get()))
                    .arg(lease.granted)
                    .arg(lease.limit)
                    .arg(lease.opens.millis())
                    .arg(lease.closes.millis())
                    .arg(*expires);
                command
            }
            Self::Close(lease, expires) => {
                let mut command = evalsha(&CLOSE, key);
                command.arg(lease.to_string()).arg(*expires);
                command
            }
            Self::TopUp(lease, granted) => {
                let mut command = evalsha(&TOP_UP, key);
                command.arg(run).arg(lease.to_string()).arg(*granted);
                command
            }
            Self::Look => {
                let mut command = redis::cmd("HMGET");
                command.arg(key).arg(&["run", "lease", "closed", "granted", "left"]);
                command
            }
        }
    }
}

/// The key of a product's lease: the braces make the product alone decide the slot.
pub(super) fn key(prefix: &str, product: &Sku) -> String {
    format!("{prefix}{{{product}}}")
}

fn evalsha(script: &Script, key: &str) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(1).arg(key);
    command
}

/// The hash's fields of a grant and of its buyer. No buyer's name ever gets to Redis.
fn fields(request: &GrantRequest) -> ([u8; SHORT_HASH + 1], [u8; SHORT_HASH + 1]) {
    let buyer = Sha256::new_with_prefix(request.buyer.as_str());
    // A zero byte is in neither.
    let grant = buyer.clone().chain_update([0]).chain_update(request.key.as_str());
    let field = |kind: u8, hash: &[u8]| {
        let mut field = [kind; SHORT_HASH + 1];
        field[1..].copy_from_slice(&hash[..SHORT_HASH]);
        field
    };
    (field(b'g', &grant.finalize()), field(b'h', &buyer.finalize()))
}

fn strange(what: &str, value: &Value) -> LeaseStoreError {
    // The value holds counts and states, never a buyer.
    LeaseStoreError::Refused(format!("{what} was answered with {value:?}"))
}

fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Int(n) => u64::try_from(*n).ok(),
        _ => None,
    }
}

/// What the grant script said.
pub(super) fn grant_reply(value: &Value) -> Result<GrantReply, LeaseStoreError> {
    let parse = || {
        let Value::Array(parts) = value else { return None };
        let numbers = parts.iter().map(count).collect::<Option<Vec<_>>>()?;
        Some(match numbers[..] {
            [0, seq, quantity, left] => GrantReply::Granted { seq, quantity: u32::try_from(quantity).ok()?, left },
            [1] => GrantReply::OtherBody,
            [2, _, _, left] => GrantReply::Short { left },
            [3] => GrantReply::Limit,
            [4] => GrantReply::Closed,
            [5] => GrantReply::NotOwner,
            [6] => GrantReply::OutsideWindow,
            _ => return None,
        })
    };
    parse().ok_or_else(|| strange("a grant", value))
}

/// Whether a load, close or top-up was done.
pub(super) fn done_reply(value: &Value) -> Result<bool, LeaseStoreError> {
    match value {
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        _ => Err(strange("a load, close or top-up", value)),
    }
}

/// What the server process `run` has of `lease`.
pub(super) fn look_reply(value: &Value, lease: LeaseId, run: &str) -> Result<Option<LeaseLook>, LeaseStoreError> {
    let number = |value: &Value| match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    };
    let Value::Array(parts) = value else { return Err(strange("a look", value)) };
    match &parts[..] {
        [Value::BulkString(here), Value::BulkString(of), Value::Nil, granted @ Value::BulkString(_), left]
            if here == run.as_bytes() && *of == lease.to_string().as_bytes() =>
        {
            match (number(granted), number(left)) {
                (Some(granted), Some(left)) => Ok(Some(LeaseLook { granted, left })),
                _ => Err(strange("a look", value)),
            }
        }
        [_, _, _, _, _] => Ok(None),
        _ => Err(strange("a look", value)),
    }
}

#[cfg(test)]
mod tests {
    use types::{BuyerId, Epoch, IdempotencyKey, Timestamp};

    use super::*;
    use crate::stock::store::BodyHash;

    fn request(buyer: &str, key: &str) -> GrantRequest {
        GrantRequest {
            product: Sku::new("lamp").expect("sku"),
            lease: LeaseId::from_bits(7),
            epoch: Epoch::new(3),
            buyer: BuyerId::new(buyer).expect("buyer"),
            key: IdempotencyKey::new(key).expect("key"),
            body_hash: BodyHash([b'B'; 32]),
            quantity: 2,
            now: Timestamp::from_millis(1_500),
        }
    }

    #[test]
    fn a_grant_on_the_wire() {
        let command = Ask::Grant(request("anna", "k")).command("p:{lamp}", "RUN");
        let parts: Vec<_> = command
            .args_iter()
            .map(|arg| match arg {
                redis::Arg::Simple(bytes) => bytes.escape_ascii().to_string(),
                _ => "?".to_owned(),
            })
            .collect();
        assert_eq!(parts[0], "EVALSHA");
        assert_eq!(parts[1].len(), 40);
        insta::assert_snapshot!(parts[2..].join("\n"), @r"
        1
        p:{lamp}
        RUN:00000000000000000000000000000007:3
        g\xad\xa6\xf5l7\xf4\xa4 F\xf1\xdb*R\xf6\xa8Z
        hUW\x9bUx\x96\xd0\xce\x17d\xc4\x7f\xeddO\x9b
        BBBBBBBBBBBBBBBB
        2
        1500
        ");
    }

    #[test]
    fn names_that_share_letters_share_no_field() {
        let (a, b) = (fields(&request("ab", "c")), fields(&request("a", "bc")));
        assert_ne!(a.0, b.0);
        assert_ne!(a.1, b.1);
        assert_eq!(fields(&request("ab", "d")).1, a.1);
    }

    #[test]
    fn an_answer_that_no_script_gives_is_no_grant() {
        let int = Value::Int;
        for bad in [
            Value::Nil,
            Value::Okay,
            int(0),
            Value::Array(vec![]),
            Value::Array(vec![int(0)]),
            Value::Array(vec![int(0), int(1), int(-1), int(0)]),
            Value::Array(vec![int(0), int(1), int(1 << 40), int(0)]),
            Value::Array(vec![int(9)]),
        ] {
            assert!(grant_reply(&bad).is_err(), "{bad:?}");
            assert!(!matches!(look_reply(&bad, LeaseId::from_bits(1), "r"), Ok(Some(_))), "{bad:?}");
        }
    }
}
