//! Any bytes as a line: what the reader has read before changes nothing, nor whether it comes as a line or as a record
//! of the topic, and nothing panics.
#![no_main]

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use collector::{ClassifierOptions, Decoder, Fate, Opener, Outcome, Reader};
use libfuzzer_sys::fuzz_target;

// The same line comes many times here, so visitors' rates are left out.
static DECODER: LazyLock<Arc<Decoder>> =
    LazyLock::new(|| Arc::new(Decoder::new(ClassifierOptions::default().without_rates()).expect("the defaults")));

thread_local! {
    static USED: RefCell<(Reader, Opener)> = RefCell::new((Reader::new(Arc::clone(&DECODER)), Opener::default()));
}

fuzz_target!(|bytes: &[u8]| {
    let fresh = Reader::new(Arc::clone(&DECODER)).fate(bytes, 1);
    USED.with_borrow_mut(|(reader, opener)| {
        assert_eq!(fresh, reader.fate(bytes, 1));
        let shipped = match opener.open_any(bytes) {
            Ok(opened) => reader.message(&opened, 1, |_| {}),
            Err(reason) => Outcome::Dead(reason),
        };
        match (fresh, shipped) {
            (Fate::Event(_), Outcome::Event) => {}
            (Fate::Filtered(a), Outcome::Filtered(b)) => assert_eq!(a, b),
            (Fate::Dead(a), Outcome::Dead(b)) => assert_eq!(a, b),
            (a, b) => panic!("{a:?} and {b:?}"),
        }
    });
});
