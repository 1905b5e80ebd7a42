//! Any bytes as a shipper's record, or as a list of them: what is accepted is JSON to serde_json too and says the same,
//! memory or none.
#![no_main]

use std::cell::RefCell;

use collector::{Envelope, Opener};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

thread_local! {
    static OPENER: RefCell<Opener> = RefCell::new(Opener::default());
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(records)) = collector::decode::envelope::list(bytes) {
        assert!(serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(bytes).is_ok_and(|all| all.len() == records.len()));
        records.into_iter().for_each(|record| one(&bytes[record]));
    }
    one(bytes);
});

fn one(bytes: &[u8]) {
    let fresh = Opener::default().open(bytes).map(Envelope::into_owned);
    let used = OPENER.with_borrow_mut(|opener| opener.open(bytes).map(Envelope::into_owned));
    assert_eq!(fresh, used);
    let Ok(envelope) = used else { return };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok());
    // A number may be too large for serde_json's tree and still be JSON.
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        assert_eq!(value["message"].as_str().map(str::as_bytes), Some(&*envelope.message));
    }
}
