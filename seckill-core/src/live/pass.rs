//! Passes: random text that is good for one connection. The store keeps only digests; whose a pass is stands there,
//! not in the text, because the text goes through access logs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::stock::live_store::PassDigest;

/// Random bytes of a pass: nobody finds one by trying.
pub(crate) const BYTES: usize = 32;
/// Length of its text.
const TEXT: usize = 43;

/// The text of a pass.
pub(crate) fn text(random: [u8; BYTES]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}

/// The digest by which the store knows a pass; `None` for what cannot be one.
pub(crate) fn digest(text: &str) -> Option<PassDigest> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (text.len() == TEXT && text.bytes().all(legal)).then(|| PassDigest::new(Sha256::digest(text.as_bytes()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_issued_has_a_digest_and_nonsense_has_none() {
        let (a, b) = (text([1; BYTES]), text([2; BYTES]));
        assert_eq!((a.len(), digest(&a) == digest(&b)), (TEXT, false));
        assert_eq!(digest(&a).map(|d| d.as_str().len()), Some(64));
        for nonsense in ["", "x", &"=".repeat(TEXT), &"a".repeat(10_000)] {
            assert_eq!(digest(nonsense), None);
        }
    }
}
