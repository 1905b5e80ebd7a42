//! The OpenAPI documents as they are served, by each listener, to anybody: those that are checked in.

use std::path::Path;

use serde_json::Value;
use testkit::openapi::is_checked_in;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_serves_the_document_that_is_checked_in() {
    let shop = Shop::open().await;
    let listeners =
        [("public", shop.handle.public()), ("admin", shop.handle.admin()), ("private", shop.handle.private())];
    for (name, address) in listeners {
        let answer = shop.http.get(format!("http://{address}/openapi.json")).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
        let document: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi");
        is_checked_in(&document, &docs.join(format!("core-{name}.json")));
    }
}
