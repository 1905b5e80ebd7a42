//! What an error of Redis or of the way to it means for the call that met it: was it done, may it be tried again,
//! where. Pure.

use redis::{ErrorKind, RedisError, ServerError};

use super::options::NodeAddress;
use super::route;

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not done: the script has to be loaded first.
    NoScript,
    /// Not done: another node has the slot, and will keep it.
    Moved(Option<NodeAddress>),
    /// Not done: another node has the key just now, while a slot is being moved.
    Ask(Option<NodeAddress>),
    /// Not done, but perhaps soon: loading, without a quorum, out of memory.
    NotNow(String),
    /// Not done: a replica. It is nobody's owner.
    Replica,
    /// Not done, and it will not be until an operator mends something.
    Refused(String),
    /// The connection is lost. Whether the call was done is not known.
    Lost(String),
}

impl Fault {
    /// From an error that the library answers, met at `asked`.
    pub fn of(error: &RedisError, asked: &NodeAddress) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported => {
                Self::Refused(error.to_string())
            }
            _ => match error.code() {
                Some(code) => Self::coded(code, error.detail().unwrap_or_default(), asked),
                None => Self::Lost(error.to_string()),
            },
        }
    }

    /// From an error among the answers.
    pub fn answered(error: &ServerError, asked: &NodeAddress) -> Self {
        Self::coded(error.code(), error.details().unwrap_or_default(), asked)
    }

    fn coded(code: &str, detail: &str, asked: &NodeAddress) -> Self {
        let text = || format!("{code} {detail}");
        match code {
            "NOSCRIPT" => Self::NoScript,
            "MOVED" => Self::Moved(route::redirected(detail, asked)),
            "ASK" => Self::Ask(route::redirected(detail, asked)),
            "READONLY" => Self::Replica,
            "LOADING" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "BUSY" | "OOM" | "MISCONF" | "NOREPLICAS" => {
                Self::NotNow(text())
            }
            _ => Self::Refused(text()),
        }
    }

    /// Its label in metrics, from a closed set.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoScript => "no_script",
            Self::Moved(_) => "moved",
            Self::Ask(_) => "ask",
            Self::NotNow(_) => "not_now",
            Self::Replica => "replica",
            Self::Refused(_) => "refused",
            Self::Lost(_) => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_code_says_whether_the_call_was_done() {
        let asked = NodeAddress::new("h", 1);
        let of = |code: &str, detail: &str| Fault::coded(code, detail, &asked);
        assert_eq!(of("NOSCRIPT", "No matching script."), Fault::NoScript);
        assert_eq!(of("MOVED", "1 10.0.0.1:7"), Fault::Moved(Some(NodeAddress::new("10.0.0.1", 7))));
        assert_eq!(of("ASK", "1 nonsense"), Fault::Ask(None));
        assert_eq!(of("READONLY", ""), Fault::Replica);
        assert!(matches!(of("OOM", "used memory > 'maxmemory'"), Fault::NotNow(_)));
        assert!(matches!(of("WRONGTYPE", ""), Fault::Refused(_)));
        assert!(matches!(of("NOPERM", ""), Fault::Refused(_)));
    }

    #[test]
    fn a_broken_pipe_leaves_it_open_whether_the_call_was_done() {
        let error = RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(Fault::of(&error, &NodeAddress::new("h", 1)), Fault::Lost(_)));
    }
}
