//! Headers as bytes: for each one its name and its value, each behind its length (4 bytes, little-endian).
//! A record without headers has no bytes at all.

use bytes::Bytes;

/// The headers as bytes; `None` without headers.
pub(super) fn encode(headers: &[(String, Bytes)]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (name, value) in headers {
        for part in [name.as_bytes(), value.as_ref()] {
            // Lengths are bounded by `MAX_KEY_AND_HEADERS`.
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    (!headers.is_empty()).then_some(out)
}

/// The headers again; `None` if these bytes were not written by [`encode`].
pub(super) fn decode(bytes: Option<&[u8]>) -> Option<Vec<(String, Bytes)>> {
    let mut rest = bytes.unwrap_or_default();
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let name = String::from_utf8(part(&mut rest)?.to_vec()).ok()?;
        headers.push((name, Bytes::copy_from_slice(part(&mut rest)?)));
    }
    Some(headers)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_read_back(headers in prop::collection::vec((".{0,8}", prop::collection::vec(any::<u8>(), 0..9)), 0..5)) {
            let headers: Vec<(String, Bytes)> = headers.into_iter().map(|(n, v)| (n, v.into())).collect();
            prop_assert_eq!(decode(encode(&headers).as_deref()), Some(headers));
        }

        #[test]
        fn foreign_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(Some(&bytes));
        }
    }
}
