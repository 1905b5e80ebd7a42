//! Any bytes as a line: the decoder alone and the reader with a memory agree, and nothing panics.
#![no_main]

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use collector::{ClassifierOptions, Decoder, Fate, Outcome, Reader};
use libfuzzer_sys::fuzz_target;

static DECODER: LazyLock<Arc<Decoder>> =
    LazyLock::new(|| Arc::new(Decoder::new(ClassifierOptions::default()).expect("the defaults")));

thread_local! {
    static READER: RefCell<Reader> = RefCell::new(Reader::new(Arc::clone(&DECODER)));
}

fuzz_target!(|bytes: &[u8]| {
    let alone = DECODER.line(bytes, 1);
    let mut page = None;
    let remembered = READER.with_borrow_mut(|reader| reader.line(bytes, 1, |event| page = Some(event.page.to_owned())));
    match (alone, remembered) {
        (Fate::Event(event), Outcome::Event) => assert_eq!(Some(event.page.as_str()), page.as_deref()),
        (Fate::Filtered(a), Outcome::Filtered(b)) => assert_eq!(a, b),
        (Fate::Dead(a), Outcome::Dead(b)) => assert_eq!(a, b),
        (a, b) => panic!("{a:?} and {b:?}"),
    }
});
