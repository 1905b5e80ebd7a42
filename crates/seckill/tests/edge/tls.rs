//! TLS and HTTP/2 as a real client sees them, with a certificate made for the test.

use std::process::Command;

use types::Role;

use crate::crowd::AGENT;
use crate::place::{PRODUCT, SALE, has_credits, options, sell, start};
use crate::town::Town;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn shoppers_buy_by_tls_and_http_2_and_get_the_headers_that_protect_them() {
    let town = Town::embedded("");
    sell(&town, &[(PRODUCT, 5)]).await;
    let file = |name: &str| town.data().join(name);
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let [certificate_name, key_name] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
    let made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
    run("openssl", &[&made[..], &subject[..], &["-keyout", key_name, "-out", certificate_name]].concat());
    let mut with_tls = options(&town, "edge-1");
    with_tls.certificate = Some((certificate.clone(), key.clone()));
    let edge = start(&town, &with_tls);
    has_credits(&town, &edge, PRODUCT).await;
    let base = format!("https://127.0.0.1:{}", edge.tls_port().unwrap());

    let curl = |more: &[&str]| {
        let common = ["-s", "-i", "--noproxy", "*", "--cacert", certificate_name, "-A", AGENT];
        run("curl", &[&common[..], more].concat())
    };
    let page = curl(&["--http2", &format!("{base}/v1/sales")]);
    assert!(page.starts_with("HTTP/2 200"), "{page}");
    let lower = page.to_ascii_lowercase();
    for header in [
        "strict-transport-security: max-age=",
        "content-security-policy: default-src 'self'",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "referrer-policy: ",
    ] {
        assert!(lower.contains(header), "{header} is missing: {page}");
    }
    assert!(!lower.contains("server: nginx/"), "it does not say its version: {page}");
    let token = format!("Authorization: Bearer {}", town.token("ann", &[Role::Shopper]));
    let buy = |http: &str, key: &str, buyer: &str| {
        let key = format!("Idempotency-Key: {key}");
        let url = format!("{base}/v1/sales/{SALE}/products/{PRODUCT}/purchases");
        curl(&[http, "-H", buyer, "-H", &key, "-H", "Content-Type: application/json", "-d", r#"{"quantity":1}"#, &url])
    };
    let bought = buy("--http2", "k1", &token);
    assert!(bought.starts_with("HTTP/2 201"), "{bought}");
    assert!(!bought.to_ascii_lowercase().contains("x-nothing-left"), "{bought}");
    let ben = format!("Authorization: Bearer {}", town.token("ben", &[Role::Shopper]));
    let bought = buy("--http1.1", "k1", &ben);
    assert!(bought.starts_with("HTTP/1.1 201"), "{bought}");
    // A refusal of the edge's own carries them too.
    let refused = buy("--http2", "k2", "Authorization: Bearer a.b.c");
    assert!(refused.starts_with("HTTP/2 401") && refused.to_ascii_lowercase().contains("nosniff"), "{refused}");
    // Old protocols are not spoken.
    let old = Command::new("curl")
        .args(["-s", "--noproxy", "*", "--cacert", certificate_name, "--tls-max", "1.1", &base])
        .output()
        .unwrap();
    assert!(!old.status.success());
}
