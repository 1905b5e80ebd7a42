//! What an answer of the core means to a shopper: read from its status and the few members that matter, without
//! parsing the rest. What makes no sense is an error, never a guess.

use std::time::Duration;

use types::Timestamp;

use super::journal::Told;

/// An answer, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Understood<'a> {
    pub(super) told: Told,
    /// The problem's name, a ticket's state or reason, or nothing.
    pub(super) name: &'a str,
    pub(super) order: Option<&'a str>,
    /// Milliseconds since the epoch.
    pub(super) deadline: Option<i64>,
    /// Whether the same call may be made again with the same key.
    pub(super) again: bool,
}

/// The text value of the first member of this name.
fn member<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = body;
    loop {
        rest = &rest[rest.find(name)? + name.len()..];
        if let Some(value) = rest.strip_prefix("\":\"") {
            return value.split('"').next();
        }
    }
}

fn refusal(name: &str) -> Told {
    match name {
        "sold-out" | "sold_out" => Told::SoldOut,
        "all-reserved" | "all_reserved" => Told::AllReserved,
        "limit" => Told::Limit,
        _ => Told::Refused,
    }
}

/// Understands the answer to a purchase call, or (`ticket`) to a look at a ticket.
pub(super) fn understand(status: u16, body: &[u8], ticket: bool) -> Understood<'_> {
    let body = std::str::from_utf8(body).unwrap_or_default();
    let blank = Understood { told: Told::Error, name: "", order: None, deadline: None, again: false };
    let deadline = || member(body, "deadline").and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::millis);
    match status {
        200 if ticket => match member(body, "state") {
            Some("pending") => Understood { told: Told::Queued, name: "pending", deadline: deadline(), ..blank },
            Some("accepted") => {
                Understood { told: Told::Accepted, name: "accepted", order: member(body, "order"), ..blank }
            }
            Some("refused") => {
                let name = member(body, "reason").unwrap_or_default();
                Understood { told: refusal(name), name, ..blank }
            }
            _ => blank,
        },
        201 if !ticket => Understood { told: Told::Accepted, order: member(body, "order"), ..blank },
        202 if !ticket => Understood { told: Told::Queued, deadline: deadline(), ..blank },
        400..=599 => {
            let name = member(body, "type").and_then(|kind| kind.strip_prefix("/problems/")).unwrap_or_default();
            let again = matches!(status, 408 | 429 | 503);
            let refused = !ticket && (again || matches!(status, 409 | 410 | 422 | 425) || status == 404);
            Understood { told: if refused { refusal(name) } else { Told::Error }, name, again, ..blank }
        }
        _ => blank,
    }
}

/// How long to wait before the next try.
pub(super) fn back_off(retry_after: Option<u64>, tried: u32) -> Duration {
    match retry_after {
        Some(seconds) => Duration::from_secs(seconds.min(60)),
        None => Duration::from_millis(100 << tried.min(5)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_means_one_thing() {
        let accepted = br#"{"order":"00ff","sale":"s","state":"accepted"}"#;
        assert_eq!(understand(201, accepted, false).order, Some("00ff"));
        let ended = br#"{"state":"accepted","order":{"order":"00ff","state":"paid"}}"#;
        let ended = understand(200, ended, true);
        assert_eq!((ended.told, ended.order), (Told::Accepted, Some("00ff")));
        let refused = understand(200, br#"{"state":"refused","reason":"sold_out"}"#, true);
        assert_eq!((refused.told, refused.name), (Told::SoldOut, "sold_out"));
        let queued = br#"{"ticket":"x","state":"pending","deadline":"1970-01-01T00:00:01.500Z"}"#;
        assert_eq!(understand(202, queued, false).deadline, Some(1_500));
        let problem = |name: &str| format!(r#"{{"type":"/problems/{name}","title":"T","status":1,"detail":"d"}}"#);
        for (status, name, told, again) in [
            (410, "sold-out", Told::SoldOut, false),
            (409, "all-reserved", Told::AllReserved, false),
            (409, "limit", Told::Limit, false),
            (503, "draining", Told::Refused, true),
            (429, "backlog", Told::Refused, true),
            (500, "internal", Told::Error, false),
            (401, "unauthenticated", Told::Error, false),
        ] {
            let text = problem(name);
            let said = understand(status, text.as_bytes(), false);
            assert_eq!((said.told, said.name, said.again), (told, name, again));
        }
        assert_eq!(understand(200, b"hello", false).told, Told::Error);
    }
}
