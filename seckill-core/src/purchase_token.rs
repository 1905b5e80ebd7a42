//! One-time purchase tokens: a text that says that its buyer asked for this product after the sale had opened. It is
//! its own proof and stored nowhere before it is used; that it is used once is the store's to say (`used_token`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use types::{BuyerId, SaleName, Sku, Timestamp};

use crate::admission::Refusal;
use crate::stock::store::ProductRow;
use crate::ticket::TicketSecret;

/// Random bytes by which the store knows a used token.
const ID: usize = 16;
const MAC: usize = 32;
/// Length of its text: MAC, id and end, in base64.
pub(crate) const TEXT: usize = (MAC + ID + 8usize).div_ceil(3) * 4;
/// Why no token was needed and none was given, or by which name the store knows the one that was.
pub(crate) type Used = Option<String>;

/// What a token is bound to.
fn bound(buyer: &BuyerId, sale: &SaleName, product: &Sku, rest: &[u8]) -> Vec<u8> {
    // Neither name can hold a line break, and a buyer's length keeps him apart from them.
    let mut text = format!("{}\n{sale}\n{product}\n{}", buyer.as_str().len(), buyer.as_str()).into_bytes();
    text.extend_from_slice(rest);
    text
}

impl TicketSecret {
    /// A new token, good until `until`.
    pub(crate) fn purchase_token(
        &self,
        id: [u8; ID],
        buyer: &BuyerId,
        sale: &SaleName,
        product: &Sku,
        until: Timestamp,
    ) -> String {
        let rest = [&until.millis().to_be_bytes()[..], &id].concat();
        let mac = self.keyed(b"seckill purchase token 1\0", &bound(buyer, sale, product, &rest)).finalize();
        URL_SAFE_NO_PAD.encode([&mac.into_bytes()[..], &rest].concat())
    }

    /// Its name in the store and its end, if it is one of ours for this buyer and product.
    fn open_purchase_token(
        &self,
        text: &str,
        buyer: &BuyerId,
        sale: &SaleName,
        product: &Sku,
    ) -> Option<(String, Timestamp)> {
        if text.len() > TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (mac, rest) = bytes.split_at_checked(MAC)?;
        let (until, id) = rest.split_at_checked(8)?;
        // Compares in constant time.
        self.keyed(b"seckill purchase token 1\0", &bound(buyer, sale, product, rest)).verify_slice(mac).ok()?;
        let until = Timestamp::from_millis(i64::from_be_bytes(until.try_into().ok()?));
        Some((id.iter().map(|b| format!("{b:02x}")).collect(), until))
    }

    /// Whether a purchase with this token, or with none, may go on; by which name the store knows the token. One that
    /// is given where none is needed must be good all the same.
    pub(crate) fn admit_token(
        &self,
        row: &ProductRow,
        buyer: &BuyerId,
        token: Option<&str>,
        now: Timestamp,
    ) -> Result<Used, Refusal> {
        match token {
            None if row.policy.token_required => Err(Refusal::TokenMissing),
            None => Ok(None),
            Some(text) => {
                let (sale, product) = (&row.state.sale, &row.state.product);
                let (id, until) = self.open_purchase_token(text, buyer, sale, product).ok_or(Refusal::TokenInvalid)?;
                if now < until { Ok(Some(id)) } else { Err(Refusal::TokenInvalid) }
            }
        }
    }
}

/// Longest life that can be configured: a token is for a purchase that one is about to make.
pub(crate) const MAX_LIFE: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{SalePolicy, Tier};

    use super::*;
    use crate::handover::tests::row;

    fn secret() -> TicketSecret {
        TicketSecret::new([7u8; 32]).expect("long enough")
    }
    fn name(text: &str) -> BuyerId {
        BuyerId::new(text).expect("a buyer")
    }
    fn token(row: &ProductRow, buyer: &str, until: i64) -> String {
        let until = Timestamp::from_millis(until);
        secret().purchase_token([5; ID], &name(buyer), &row.state.sale, &row.state.product, until)
    }

    #[test]
    fn it_is_good_for_its_buyer_its_product_and_its_time() {
        let mut row = row(Tier::Db);
        row.policy = SalePolicy { token_required: true, proof_of_work: 0 };
        let text = token(&row, "anna", 1_000);
        let says = |row: &ProductRow, buyer: &str, text: Option<&str>, now: i64| {
            secret().admit_token(row, &name(buyer), text, Timestamp::from_millis(now))
        };
        assert_eq!(text.len(), TEXT - 1, "56 bytes without padding");
        assert_eq!(says(&row, "anna", Some(&text), 999), Ok(Some("05".repeat(16))));
        assert_eq!(says(&row, "anna", Some(&text), 1_000), Err(Refusal::TokenInvalid), "too late");
        assert_eq!(says(&row, "ben", Some(&text), 999), Err(Refusal::TokenInvalid), "another's");
        assert_eq!(says(&row, "anna", None, 999), Err(Refusal::TokenMissing));
        let mut other = row.clone();
        other.state.product = "another".parse().expect("a sku");
        assert_eq!(says(&other, "anna", Some(&text), 999), Err(Refusal::TokenInvalid), "of another product");
        let mut other = row.clone();
        other.state.sale = "another".parse().expect("a sale");
        assert_eq!(says(&other, "anna", Some(&text), 999), Err(Refusal::TokenInvalid), "of another sale");
        row.policy = SalePolicy::default();
        assert_eq!(says(&row, "anna", None, 999), Ok(None));
        assert_eq!(says(&row, "anna", Some("x"), 999), Err(Refusal::TokenInvalid), "given is given");
    }

    proptest! {
        #[test]
        fn no_other_text_is_good(text in "[A-Za-z0-9_-]{0,120}", at in 0usize..56, flip in 1u8..255) {
            let row = row(Tier::Db);
            let says = |text: &str| secret().admit_token(&row, &name("anna"), Some(text), Timestamp::from_millis(0));
            prop_assert_eq!(says(&text), Err(Refusal::TokenInvalid));
            let mut bytes = URL_SAFE_NO_PAD.decode(token(&row, "anna", 1_000)).expect("base64");
            bytes[at] ^= flip;
            prop_assert_eq!(says(&URL_SAFE_NO_PAD.encode(bytes)), Err(Refusal::TokenInvalid));
        }
    }
}
