//! How the types that write themselves as one text or number look in an OpenAPI document. Types with fields derive
//! theirs beside their definition. It must say what the parsers enforce, no more and no less.

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::ids::{MAX_BUYER, MAX_KEY, MAX_NAME, MAX_PAGE};
use crate::{
    BuyerId, CoreId, Currency, EdgeId, Epoch, Generation, IdempotencyKey, LeaseId, Nonce, OrderId, PageId, PaymentId,
    RequestId, SaleName, SaleSpec, Sku, Term, Timestamp,
};

const NAME: &str = "^[A-Za-z0-9._~-]+$";
const PRINTABLE: &str = "^[!-~]+$";
const PAGE: &str = "^[!-\"$-.0->@-~]+$";
const HEX: &str = "^[0-9a-f]{32}$";

fn text(pattern: &str, least: usize, most: usize, about: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .min_length(Some(least))
        .max_length(Some(most))
        .description(Some(about))
        .build()
}

fn number(about: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .description(Some(about))
        .build()
}

macro_rules! schema {
    ($($type:ident: $object:expr;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::Object($object))
            }
        }
        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($type))
            }
        }
    )*};
}

schema! {
    Sku: text(NAME, 1, MAX_NAME, "The shop's own id of a product.");
    SaleName: text(NAME, 1, MAX_NAME, "The name of a sale.");
    PageId: text(PAGE, 1, MAX_PAGE, "A product page as the access log shows it.");
    BuyerId: text(PRINTABLE, 1, MAX_BUYER, "A buyer as the token issuer names him.");
    IdempotencyKey: text(PRINTABLE, 1, MAX_KEY, "The caller's own name for one call: the same key has the same answer for ever.");
    CoreId: text(NAME, 1, MAX_NAME, "The name of one core.");
    EdgeId: text(NAME, 1, MAX_NAME, "The name of one edge.");
    RequestId: text(NAME, 1, MAX_NAME, "One HTTP request's id.");
    OrderId: text(HEX, 32, 32, "An order: 128 random bits.");
    PaymentId: text(HEX, 32, 32, "A payment: 128 random bits.");
    LeaseId: text(HEX, 32, 32, "A lease of units: 128 random bits.");
    Currency: text("^[A-Z]{3}$", 3, 3, "An ISO 4217 code.");
    Generation: number("Orders plans; the newest wins.");
    Epoch: number("Counts a product's moves.");
    Nonce: number("Tells two pushes of one generation apart.");
    Term: number("Counts the leaders of the control plane.");
    Timestamp: ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("RFC 3339 in UTC, with milliseconds."))
        .build();
}

/// A sale as it is written, with its local times and one currency; [`SaleSpec::deserialize`] reads that.
impl PartialSchema for SaleSpec {
    fn schema() -> RefOr<Schema> {
        crate::sale::RawSale::schema()
    }
}
impl ToSchema for SaleSpec {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Sale")
    }
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        crate::sale::RawSale::schemas(schemas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_says_its_pattern() {
        let schema = serde_json::to_value(Sku::schema()).expect("JSON");
        assert_eq!(schema["pattern"], NAME);
        assert_eq!(schema["maxLength"], 64);
        let sale = serde_json::to_value(SaleSpec::schema()).expect("JSON");
        assert_eq!(sale["additionalProperties"], false, "unknown fields are refused: {sale}");
    }
}
