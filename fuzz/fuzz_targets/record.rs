//! Any bytes as a record of `product-events`: a batch that is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(batch) = product_events::decode(bytes) {
        let again = product_events::encode(&batch).expect("what was read can be written");
        assert_eq!(product_events::decode(&again), Ok(batch));
    }
});
