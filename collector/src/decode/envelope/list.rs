//! Records that a shipper sent as one: a JSON array of them. It finds where each begins and ends, and that the whole is
//! JSON; it must never judge what a record says.

use std::ops::Range;

use super::super::DeadReason;
use super::super::json::Scanner;

/// Most records of one list. Kafka takes 1 MiB at once unless it is told otherwise: 10,000 of the shortest lines.
pub const MAX_RECORDS: usize = 1 << 14;
/// Longest list that is looked at, in bytes: what our own event log takes at once.
pub const MAX_LIST: usize = types::codec::MAX_VALUE;
/// Fewest bytes of a record with a line in it, about.
const LEAST: usize = 64;

/// Where the records of a list stand; `None` if this is no list of objects. A list that is no JSON is refused whole, as
/// nobody knows where its records end.
pub fn list(value: &[u8]) -> Result<Option<Vec<Range<usize>>>, DeadReason> {
    if !is_list(value) {
        return Ok(None);
    }
    if value.len() > MAX_LIST {
        return Err(DeadReason::TooLong);
    }
    let mut scanner = Scanner::new(value);
    scanner.blanks();
    let mut records = Vec::new();
    let mut more = scanner.open(b'[', b']')?;
    while more {
        let start = scanner.at();
        // Each may be as deep as if it stood alone.
        scanner.skip(0)?;
        if records.len() == MAX_RECORDS {
            return Err(DeadReason::Array);
        }
        records.push(start..scanner.at());
        more = scanner.another(b']')?;
    }
    scanner.end()?;
    Ok(Some(records))
}

/// How many lines stand in a record, about: enough to take a bounded number of them at once.
pub(crate) fn lines_about(value: &[u8]) -> usize {
    if is_list(value) { (value.len() / LEAST + 1).min(MAX_RECORDS) } else { 1 }
}

#[inline]
fn is_list(value: &[u8]) -> bool {
    let rest = value.trim_ascii_start();
    rest.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b'{'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn parts(text: &str) -> Result<Option<Vec<&str>>, DeadReason> {
        Ok(list(text.as_bytes())?.map(|all| all.into_iter().map(|at| &text[at]).collect()))
    }

    #[test]
    fn each_case_of_a_list_has_its_end() {
        let nested = |levels: usize| format!("[{{\"a\":{}{}}}]", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(parts(r#"[{"a":1},{"b":[{}]} , {}]"#), Ok(Some(vec![r#"{"a":1}"#, r#"{"b":[{}]}"#, "{}"])));
        assert_eq!(parts(" [\n{} ]\r\n"), Ok(Some(vec!["{}"])));
        assert_eq!(parts("[{},5,[{}]]"), Ok(Some(vec!["{}", "5", "[{}]"])), "for their reader to judge");
        for none in ["", "[", "[]", "[1,2]", "{}", "[22/Jan/2019:03:56:14 +0330] x", "[[{}]]", "x[{}]"] {
            assert_eq!(parts(none), Ok(None), "{none}");
        }
        for (wrong, reason) in [
            ("[{}", DeadReason::Truncated),
            ("[{},", DeadReason::Truncated),
            ("[{},]", DeadReason::BadJson),
            ("[{} {}]", DeadReason::BadJson),
            ("[{}] x", DeadReason::BadJson),
            ("[{}][{}]", DeadReason::BadJson),
            ("[{'a':1}]", DeadReason::BadJson),
        ] {
            assert_eq!(parts(wrong), Err(reason), "{wrong}");
        }
        assert!(parts(&nested(63)).is_ok());
        assert_eq!(parts(&nested(64)), Err(DeadReason::TooDeep));
        let many = |count: usize| format!("[{}{{}}]", "{},".repeat(count - 1));
        assert_eq!(parts(&many(MAX_RECORDS)).unwrap().unwrap().len(), MAX_RECORDS);
        assert_eq!(parts(&many(MAX_RECORDS + 1)), Err(DeadReason::Array));
        let long = format!("[{{\"a\":\"{}\"}}]", "x".repeat(MAX_LIST));
        assert_eq!(parts(&long), Err(DeadReason::TooLong));
        assert_eq!((lines_about(b"x"), lines_about(long.as_bytes())), (1, MAX_RECORDS));
    }

    proptest! {
        /// The records of a list are those that serde_json finds, and what it refuses is refused.
        #[test]
        fn lists_read_as_serde_json_reads_them(
            texts in proptest::collection::vec("[a-z\\\\\"{}\\[\\],]{0,12}", 1..6),
            pretty in any::<bool>(),
            edit in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let values: Vec<Value> = texts.iter().map(|text| serde_json::json!({"message": text, "n": [1, {}]})).collect();
            let write = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
            let mut bytes = write(&values).unwrap();
            if let Some((place, byte)) = edit {
                let at = place.index(bytes.len());
                bytes[at] = byte;
            }
            let theirs = serde_json::from_slice::<Vec<Value>>(&bytes);
            match list(&bytes) {
                Ok(Some(found)) => {
                    let ours: Vec<Value> = found.into_iter().map(|at| serde_json::from_slice(&bytes[at]).unwrap()).collect();
                    prop_assert_eq!(Some(ours), theirs.ok());
                }
                Ok(None) => prop_assert!(theirs.is_err() || !theirs.unwrap().first().is_some_and(Value::is_object)),
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }
    }
}
