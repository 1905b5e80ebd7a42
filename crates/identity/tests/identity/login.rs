//! A browser logs in at a dashboard: the whole way over real HTTP, and every way that must not lead in.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http_kit::{Caller, Problem, SharedAuthenticator, authenticate};
use identity::{IdentityOptions, IssuerOptions, Login, LoginOptions, LoginSecret, OutsideTokens};
use reqwest::{Response, StatusCode, Url};
use serde_json::{Value, json};
use types::{Clock, Role, SystemClock};

use crate::provider::{CLIENT, CLIENT_SECRET, Provider, SigningKey};
use crate::tokens::issuer;

/// A dashboard with one page to read and one thing to do, for operators.
struct Dashboard {
    provider: Provider,
    key: Arc<SigningKey>,
    at: String,
    http: reqwest::Client,
}

/// One browser: its cookies, by name.
#[derive(Default, Clone)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    fn header(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }
    fn keep(&mut self, answer: &Response) {
        for cookie in answer.headers().get_all("set-cookie") {
            let text = cookie.to_str().unwrap();
            assert!(text.contains("; HttpOnly") && text.contains("; SameSite=Lax"), "{text}");
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

async fn operators_only(caller: Caller) -> Result<String, Problem> {
    Ok(caller.require(&[Role::Operator])?.subject.to_string())
}

impl Dashboard {
    async fn open() -> Self {
        let provider = Provider::start().await;
        let key = Arc::new(SigningKey::ed25519("k"));
        provider.publish(&[&key]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let login = LoginOptions {
            issuer: Some(provider.issuer()),
            client_id: CLIENT.to_owned(),
            origins: vec![at.clone()],
            ..LoginOptions::default()
        };
        let issuer = IssuerOptions { subject_prefix: "staff:".to_owned(), ..issuer(&provider) };
        let options = IdentityOptions { issuers: vec![issuer], login };
        options.check().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let secret = LoginSecret::new([5u8; 32]).unwrap();
        let tokens = Arc::new(OutsideTokens::new(&options, Some(secret), &clock).unwrap());
        let (one, sessions) = (tokens.issuer(&provider.issuer()).unwrap(), tokens.sessions().unwrap());
        one.refresh().await.unwrap();
        let login = Arc::new(Login::new(options.login, Some(CLIENT_SECRET.to_owned()), one, sessions));
        let authenticator: SharedAuthenticator = tokens;
        let router = Router::new()
            .route("/plan", get(operators_only))
            .route("/override", post(operators_only))
            .merge(login.router())
            .layer(from_fn_with_state(authenticator, authenticate));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { provider, key, at, http }
    }

    async fn get(&self, browser: &mut Browser, path: &str) -> Response {
        let url = if path.starts_with('/') { format!("{}{path}", self.at) } else { path.to_owned() };
        let answer = self.http.get(url).header("cookie", browser.header()).send().await.unwrap();
        browser.keep(&answer);
        answer
    }

    /// To the issuer and back: the address of the callback with its code.
    async fn come_back(&self, browser: &mut Browser, to: &str) -> String {
        let answer = self.get(browser, &format!("/auth/login?to={to}")).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let at_issuer = answer.headers()["location"].to_str().unwrap().to_owned();
        // The issuer is another place: it is not sent our cookies.
        let agreed = self.http.get(at_issuer).send().await.unwrap();
        assert_eq!(agreed.status(), StatusCode::FOUND);
        agreed.headers()["location"].to_str().unwrap().to_owned()
    }

    async fn log_in(&self, person: Value, twist: Value) -> (Browser, Response) {
        self.provider.next(person, twist);
        let mut browser = Browser::default();
        let back = self.come_back(&mut browser, "/plan").await;
        let answer = self.get(&mut browser, &back).await;
        (browser, answer)
    }
}

fn operator() -> Value {
    json!({"sub": "olga", "realm_access": {"roles": ["shop-ops"]}})
}

async fn problem(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    (status, body["type"].as_str().unwrap().trim_start_matches("/problems/").to_owned())
}

#[tokio::test]
async fn an_operator_logs_in_acts_and_logs_out() {
    let house = Dashboard::open().await;
    let nobody = house.get(&mut Browser::default(), "/plan").await;
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    let (mut browser, answer) = house.log_in(operator(), json!({})).await;
    assert_eq!((answer.status(), answer.headers()["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/plan"));
    assert_eq!(browser.0.keys().collect::<Vec<_>>(), ["seckill_session"], "what the login needed is gone");
    assert_eq!(house.get(&mut browser, "/plan").await.text().await.unwrap(), "staff:olga");
    let me: Value = serde_json::from_str(&house.get(&mut browser, "/auth/me").await.text().await.unwrap()).unwrap();
    assert_eq!((&me["subject"], &me["roles"]), (&json!("staff:olga"), &json!(["operator"])), "she does not shop here");

    // What changes something: from our own page, and from no other.
    let act = |from: Option<&str>| {
        let call = house.http.post(format!("{}/override", house.at)).header("cookie", browser.header());
        match from {
            Some(origin) => call.header("origin", origin),
            None => call,
        }
    };
    assert_eq!(act(Some(&house.at)).send().await.unwrap().status(), StatusCode::OK);
    for foreign in [Some("https://evil.example"), Some("null"), None] {
        assert_eq!(problem(act(foreign).send().await.unwrap()).await, (403, "foreign-page".to_owned()));
    }

    let kept = browser.clone();
    let logout = |browser: &Browser| {
        let call = house.http.post(format!("{}/auth/logout", house.at)).header("origin", &house.at);
        call.header("cookie", browser.header()).send()
    };
    let out = logout(&browser).await.unwrap();
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    browser.keep(&out);
    assert!(browser.0.is_empty());
    let stolen = house.get(&mut kept.clone(), "/plan").await;
    assert_eq!(stolen.status(), StatusCode::UNAUTHORIZED, "a copy of the cookie has ended with it");
    assert_eq!(logout(&browser).await.unwrap().status(), StatusCode::NO_CONTENT, "once more is no mistake");
}

#[tokio::test]
async fn a_code_is_good_for_the_browser_that_began_and_once() {
    let house = Dashboard::open().await;
    house.provider.next(operator(), json!({}));
    let mut browser = Browser::default();
    let back = house.come_back(&mut browser, "/plan").await;

    // Another browser, with a login of its own or none, is not let in by this address.
    assert_eq!(problem(house.get(&mut Browser::default(), &back).await).await, (403, "login-failed".to_owned()));
    let mut other = Browser::default();
    let _own = house.come_back(&mut other, "/plan").await;
    assert_eq!(problem(house.get(&mut other, &back).await).await, (403, "login-failed".to_owned()));
    // A changed state, no code, an error, an answer of another issuer.
    for change in [("state", "x"), ("code", ""), ("error", "access_denied"), ("iss", "https://evil.example")] {
        let mut url = Url::parse(&back).unwrap();
        let pairs: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| name != change.0).collect();
        url.query_pairs_mut().clear().extend_pairs(pairs).append_pair(change.0, change.1);
        let refused = house.get(&mut browser, url.as_str()).await;
        assert_eq!(problem(refused).await, (403, "login-failed".to_owned()), "{change:?}");
    }
    // It is still good for the one that it is for; and then not again.
    let again = browser.clone();
    assert_eq!(house.get(&mut browser, &back).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(problem(house.get(&mut again.clone(), &back).await).await, (403, "login-failed".to_owned()));
}

#[tokio::test]
async fn a_token_that_is_not_for_this_login_opens_no_session() {
    let house = Dashboard::open().await;
    let rows = [
        ("another nonce", operator(), json!({"nonce": "x"})),
        ("no nonce", operator(), json!({"nonce": null})),
        ("for the shop and not for the dashboard", operator(), json!({"aud": "seckill"})),
        ("asked for by another", operator(), json!({"aud": [CLIENT, "other"], "azp": "other"})),
        ("for several, asked for by nobody", operator(), json!({"aud": [CLIENT, "other"]})),
        ("of another issuer", operator(), json!({"iss": "https://evil.example"})),
        ("ended", operator(), json!({"exp": 1_000_000})),
        ("a shopper", json!({"sub": "ann"}), json!({})),
        ("nobody", json!({"sub": ""}), json!({})),
    ];
    for (what, person, twist) in rows {
        let (browser, answer) = house.log_in(person, twist).await;
        assert_eq!(problem(answer).await, (403, "login-failed".to_owned()), "{what}");
        assert!(!browser.0.contains_key("seckill_session"), "{what}");
    }
    // A key that the issuer has made since: looked for at once, since a person waits.
    let new = Arc::new(SigningKey::p256("new"));
    house.provider.publish(&[&new, &house.key]);
    let (browser, answer) = house.log_in(operator(), json!({})).await;
    let status = answer.status();
    assert!(
        status == StatusCode::SEE_OTHER && browser.0.contains_key("seckill_session"),
        "{:?}",
        problem(answer).await
    );
}

#[tokio::test]
async fn no_login_leads_elsewhere_or_begins_elsewhere() {
    let mut house = Dashboard::open().await;
    house.provider.next(operator(), json!({}));
    for to in ["//evil.example", "https://evil.example", "/%5Cevil.example", "plan"] {
        let mut browser = Browser::default();
        let back = house.come_back(&mut browser, to).await;
        let answer = house.get(&mut browser, &back).await;
        assert_eq!(answer.headers()["location"], "/", "{to}");
    }
    let elsewhere = house.http.get(format!("{}/auth/login", house.at)).header("host", "evil.example").send().await;
    assert_eq!(problem(elsewhere.unwrap()).await, (403, "unknown-origin".to_owned()));
    house.provider.go_away().await;
    let away = house.get(&mut Browser::default(), "/auth/login").await;
    assert_eq!(away.headers()["retry-after"], "5");
    assert_eq!(problem(away).await, (502, "issuer-unavailable".to_owned()));
}
