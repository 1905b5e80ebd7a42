//! A small OpenID provider over real HTTP: discovery, key set, authorization with PKCE, token endpoint. Its keys are
//! made in the test, can be changed, and it can go away and come back. It is strict, as a real one is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::EncodePrivateKey as _;
use parking_lot::Mutex;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use types::{Clock, SystemClock};

pub const AUDIENCE: &str = "seckill";
pub const CLIENT: &str = "dashboards";
pub const CLIENT_SECRET: &str = "a secret of the dashboards: 100%";

/// The machine's randomness for crates of an older generation of it.
struct Dice;

impl rsa::rand_core::RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        rand::random()
    }
    fn next_u64(&mut self) -> u64 {
        rand::random()
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        rand::fill(bytes);
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        rand::fill(bytes);
        Ok(())
    }
}
impl rsa::rand_core::CryptoRng for Dice {}

/// A private key and what is published of it.
pub struct SigningKey {
    pub name: String,
    pub algorithm: Algorithm,
    pub signs: EncodingKey,
    pub public: Value,
}

impl SigningKey {
    pub fn rsa(name: &str, algorithm: Algorithm) -> Self {
        let key = rsa::RsaPrivateKey::new(&mut Dice, 2048).unwrap();
        let part = |n: &rsa::BigUint| URL_SAFE_NO_PAD.encode(n.to_bytes_be());
        let public = json!({"kty": "RSA", "use": "sig", "kid": name, "n": part(key.n()), "e": part(key.e())});
        let signs = EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes());
        Self { name: name.to_owned(), algorithm, signs, public }
    }

    pub fn p256(name: &str) -> Self {
        let key = p256::SecretKey::random(&mut Dice);
        let point = key.public_key().to_encoded_point(false);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (part(point.x().unwrap()), part(point.y().unwrap()));
        let public = json!({"kty": "EC", "crv": "P-256", "kid": name, "x": x, "y": y});
        let signs = EncodingKey::from_ec_der(key.to_pkcs8_der().unwrap().as_bytes());
        Self { name: name.to_owned(), algorithm: Algorithm::ES256, signs, public }
    }

    pub fn ed25519(name: &str) -> Self {
        let seed: [u8; 32] = rand::random();
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let x = URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes());
        let public = json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "x": x});
        // RFC 8410: the fixed head of a PKCS #8 text of this kind of key.
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let signs = EncodingKey::from_ed_der(&[&head[..], &seed].concat());
        Self { name: name.to_owned(), algorithm: Algorithm::EdDSA, signs, public }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.name.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.signs).unwrap()
    }
}

/// What was asked for a code.
struct Granted {
    challenge: String,
    redirect: String,
    nonce: String,
}

struct Inner {
    issuer: String,
    keys: Vec<Value>,
    signing: Option<Arc<SigningKey>>,
    codes: HashMap<String, Granted>,
    /// How often the key set was read.
    reads: usize,
    /// Claims of the one who logs in next.
    person: Value,
    /// What is put into the next token over what belongs there.
    twist: Value,
}

type Shared = Arc<Mutex<Inner>>;

pub struct Provider {
    pub address: SocketAddr,
    inner: Shared,
    running: Option<JoinHandle<()>>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner {
            issuer: format!("http://{address}"),
            keys: Vec::new(),
            signing: None,
            codes: HashMap::new(),
            reads: 0,
            person: json!({}),
            twist: json!({}),
        }));
        let mut provider = Self { address, inner, running: None };
        provider.serve(listener);
        provider
    }

    fn serve(&mut self, listener: tokio::net::TcpListener) {
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(self.inner.clone());
        self.running = Some(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
    }

    pub fn issuer(&self) -> String {
        self.inner.lock().issuer.clone()
    }

    /// Publishes these keys and no others; signs with the first.
    pub fn publish(&self, keys: &[&Arc<SigningKey>]) {
        let mut inner = self.inner.lock();
        inner.keys = keys.iter().map(|key| key.public.clone()).collect();
        inner.signing = keys.first().map(|key| (*key).clone());
    }

    pub fn reads(&self) -> usize {
        self.inner.lock().reads
    }

    /// Who logs in next, and what is wrong with his token.
    pub fn next(&self, person: Value, twist: Value) {
        let mut inner = self.inner.lock();
        (inner.person, inner.twist) = (person, twist);
    }

    pub async fn go_away(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _aborted = running.await;
        }
    }

    pub async fn come_back(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    /// Claims of a good access token, with `change` over them; null takes a claim away.
    pub fn claims(&self, change: Value) -> Value {
        let now = SystemClock::new().now();
        let exp = now.plus(Duration::from_secs(600)).second();
        let good = json!({"iss": self.issuer(), "aud": AUDIENCE, "sub": "ann", "exp": exp, "iat": now.second()});
        changed(good, &change)
    }
}

fn changed(mut good: Value, change: &Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            good.as_object_mut().unwrap().remove(name);
        } else {
            good[name] = value.clone();
        }
    }
    good
}

async fn discovery(State(inner): State<Shared>) -> Json<Value> {
    let issuer = inner.lock().issuer.clone();
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/keys"),
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
    }))
}

async fn keys(State(inner): State<Shared>) -> Json<Value> {
    let mut inner = inner.lock();
    inner.reads += 1;
    Json(json!({"keys": inner.keys}))
}

/// The person agrees at once.
async fn authorize(State(inner): State<Shared>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let whole = of("response_type") == "code"
        && of("client_id") == CLIENT
        && of("code_challenge_method") == "S256"
        && of("scope").split(' ').any(|word| word == "openid")
        && !of("nonce").is_empty();
    if !whole {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let code = format!("{:032x}", rand::random::<u128>());
    let granted = Granted { challenge: of("code_challenge"), redirect: of("redirect_uri"), nonce: of("nonce") };
    inner.lock().codes.insert(code.clone(), granted);
    let to = format!("{}?code={code}&state={}", of("redirect_uri"), of("state"));
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

/// Gives a token for a code, once, to the client that has begun, over the same address.
async fn token(State(inner): State<Shared>, headers: HeaderMap, Form(form): Form<HashMap<String, String>>) -> Response {
    let of = |name: &str| form.get(name).cloned().unwrap_or_default();
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let basic = STANDARD.encode(format!("{}:{}", encoded(CLIENT), encoded(CLIENT_SECRET)));
    let known = headers.get(header::AUTHORIZATION).is_some_and(|v| v.to_str().unwrap() == format!("Basic {basic}"));
    let mut inner = inner.lock();
    let Some(granted) = inner.codes.remove(&of("code")) else { return StatusCode::BAD_REQUEST.into_response() };
    let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(of("code_verifier").as_bytes()));
    if !known || granted.challenge != proof || granted.redirect != of("redirect_uri") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let exp = SystemClock::new().now().plus(Duration::from_secs(300)).second();
    let good = json!({"iss": inner.issuer, "aud": CLIENT, "sub": "nobody", "exp": exp, "nonce": granted.nonce});
    let claims = changed(changed(good, &inner.person), &inner.twist);
    let id_token = inner.signing.clone().unwrap().sign(&claims);
    Json(json!({"access_token": "opaque", "token_type": "Bearer", "id_token": id_token})).into_response()
}
