//! Dashboards log in here: `/auth/login` sends the browser to the issuer, `/auth/callback` takes the code that comes
//! back to the issuer and opens a session, `/auth/me` says who one is, `/auth/logout` ends it. Roles come from the
//! issuer's token alone; a person without a role here gets no session.

mod flow;
mod session;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_kit::{Problem, ProblemKind, auth};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use types::{Identity, Role, Timestamp};

pub use session::{LoginSecret, Session, Sessions};

use crate::claims::Refused;
use crate::issuer::{Issuer, IssuerError};
use crate::metrics;
use crate::options::LoginOptions;
use flow::{Begun, Brought, Odd};

/// Cookie of a login that was begun.
const BEGUN: &str = "seckill_login";
/// Largest answer of the token endpoint.
const MAX_ANSWER: usize = 64 * 1024;
/// Calls to the issuer at once: people log in one by one, and who sends more is no person.
const AT_ONCE: usize = 16;

/// The login did not come from where it may.
const ELSEWHERE: ProblemKind = ProblemKind::new("unknown-origin", "No login at this host", StatusCode::FORBIDDEN);
/// The login cannot be finished.
const NOT_LOGGED_IN: ProblemKind = ProblemKind::new("login-failed", "The login failed", StatusCode::FORBIDDEN);
/// The issuer does not answer, or not as it should.
const ISSUER: ProblemKind =
    ProblemKind::new("issuer-unavailable", "The login is not reachable", StatusCode::BAD_GATEWAY);

/// The login of dashboards at one issuer.
pub struct Login {
    options: LoginOptions,
    secret: Option<String>,
    issuer: Arc<Issuer>,
    sessions: Arc<Sessions>,
    at_once: Semaphore,
}

impl Login {
    /// With our secret at the issuer, if we have one; the options must have been checked.
    pub fn new(options: LoginOptions, secret: Option<String>, issuer: Arc<Issuer>, sessions: Arc<Sessions>) -> Self {
        Self { options, secret, issuer, sessions, at_once: Semaphore::new(AT_ONCE) }
    }

    /// Its routes, for every listener that serves a dashboard.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/auth/login", get(login))
            .route("/auth/callback", get(callback))
            .route("/auth/me", get(me))
            .route("/auth/logout", post(logout))
            .with_state(self)
    }

    fn origin(&self, headers: &HeaderMap) -> Result<&str, Problem> {
        let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
        flow::origin_of(&self.options.origins, host).ok_or_else(|| {
            Problem::new(ELSEWHERE, "dashboards log in where identity.login.origins says; this host is not among them")
        })
    }

    /// What the issuer answers to a code.
    async fn exchange(&self, begun: &Begun, code: &str) -> Result<Identity, Problem> {
        let verifier = begun.verifier(&self.sessions.secret);
        let callback = begun.callback();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &callback),
            ("code_verifier", &verifier),
        ];
        let basic = self.secret.as_deref().map(|secret| (self.options.client_id.as_str(), secret));
        if basic.is_none() {
            form.push(("client_id", &self.options.client_id));
        }
        let discovery = self.issuer.discover().await.map_err(|e| away(&e))?;
        let at = self.issuer.endpoint("token_endpoint", discovery.token_endpoint.as_deref()).map_err(|e| away(&e))?;
        let answer = self.issuer.fetch.post(&at, &form, basic, MAX_ANSWER).await;
        let (status, body) = answer.map_err(|e| away(&e.into()))?;
        if !status.is_success() {
            tracing::warn!(%status, "the issuer did not take a login's code");
            return Err(failed("code", "the issuer did not take the code; log in again"));
        }
        #[derive(Deserialize)]
        struct Answer {
            id_token: String,
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| failed("answer", "the issuer's answer has no id_token"))?;
        let judged = match self.issuer.judge(&answer.id_token, &self.options.client_id) {
            // Its key is newer than our keys, and it comes from the issuer itself: no stranger makes us ask.
            Err(Refused::UnknownKey) => {
                self.issuer.refresh().await.map_err(|e| away(&e))?;
                self.issuer.judge(&answer.id_token, &self.options.client_id)
            }
            judged => judged,
        };
        let claims = judged.map_err(|_| failed("token", "the issuer's token is not good for this dashboard"))?;
        let nonce = begun.nonce(&self.sessions.secret);
        if claims.text("nonce") != Some(nonce.as_str()) || claims.asked_by_another(&self.options.client_id) {
            return Err(failed("nonce", "the issuer's token answers another login"));
        }
        let mut identity =
            claims.identity(&self.issuer.options).map_err(|_| failed("subject", "the issuer's token names nobody"))?;
        // Nobody shops through a dashboard: its cookie must not buy.
        identity.roles.remove(&Role::Shopper);
        if identity.roles.is_empty() {
            return Err(failed("no_role", "you are known and have no role here; ask who administers your login"));
        }
        Ok(identity)
    }
}

fn failed(end: &'static str, why: &str) -> Problem {
    metrics::login(end);
    Problem::new(NOT_LOGGED_IN, why)
}

fn away(error: &IssuerError) -> Problem {
    tracing::warn!(%error, "a login found no issuer");
    metrics::login("issuer_away");
    Problem::new(ISSUER, "the login does not answer at present; try again").retry_after(5)
}

fn busy() -> Problem {
    Problem::new(ProblemKind::OVERLOADED, "too many logins at once; try again").retry_after(1)
}

fn cookie(name: &str, value: &str, path: &str, seconds: u64, origin: &str) -> Result<HeaderValue, Problem> {
    let secure = if origin.starts_with("https://") { "; Secure" } else { "" };
    // Lax, not Strict: the browser comes back from the issuer's page and must bring it. What changes something asks
    // for the page's own origin besides (`http_kit::auth`).
    let text = format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).map_err(|_| Problem::new(ProblemKind::INTERNAL, "the cookie could not be written"))
}

fn redirect(to: &str, cookies: Vec<HeaderValue>) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(to)
        .map_err(|_| Problem::new(ProblemKind::INTERNAL, "the location could not be written"))?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A code stands in the address that one comes from.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[derive(Deserialize)]
struct Asked {
    /// The path to come back to.
    to: Option<String>,
}

async fn login(
    State(login): State<Arc<Login>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let origin = login.origin(&headers)?;
    let _permit = login.at_once.try_acquire().map_err(|_| busy())?;
    let discovery = login.issuer.discover().await.map_err(|e| away(&e))?;
    let named = discovery.authorization_endpoint.as_deref();
    let endpoint = login.issuer.endpoint("authorization_endpoint", named).map_err(|e| away(&e))?;
    let to = flow::local_path(asked.as_ref().ok().and_then(|Query(asked)| asked.to.as_deref()));
    let begun = Begun::new(rand::random(), login.sessions.clock.now(), origin, to);
    let secret = &login.sessions.secret;
    let sealed = begun.seal(secret).ok_or_else(|| Problem::new(ProblemKind::INTERNAL, "the cookie is too long"))?;
    let url = begun.authorization(secret, &login.options, &endpoint);
    redirect(url.as_str(), vec![cookie(BEGUN, &sealed, "/auth", flow::PATIENCE.as_secs(), origin)?])
}

async fn callback(
    State(login): State<Arc<Login>>,
    headers: HeaderMap,
    brought: Result<Query<Brought>, QueryRejection>,
) -> Result<Response, Problem> {
    let origin = login.origin(&headers)?;
    let _permit = login.at_once.try_acquire().map_err(|_| busy())?;
    let secret = &login.sessions.secret;
    let begun = auth::cookie(&headers, BEGUN).and_then(|c| Begun::open(secret, c, login.sessions.clock.now()));
    let begun = begun.filter(|begun| begun.origin == origin);
    let begun = begun.ok_or_else(|| failed("state", "this browser has begun no login lately; begin at /auth/login"))?;
    let brought = brought.map(|Query(brought)| brought).unwrap_or_default();
    let code = brought.code(&begun, secret, &login.options.issuer.clone().unwrap_or_default()).map_err(|odd| {
        let (end, why) = match odd {
            Odd::State => ("state", "this answers another login; begin at /auth/login"),
            Odd::Issuer => ("issuer", "this comes from another issuer"),
            Odd::Denied => ("denied", "the issuer has refused the login"),
            Odd::Code => ("code", "the issuer has sent no code"),
        };
        if let Some(error) = &brought.error {
            tracing::info!(error = error.chars().take(100).collect::<String>(), "the issuer refused a login");
        }
        failed(end, why)
    })?;
    let identity = login.exchange(&begun, code).await?;
    let session = login.sessions.begin(&identity);
    let session = session.ok_or_else(|| Problem::new(ProblemKind::INTERNAL, "the session is too long for a cookie"))?;
    metrics::login("logged_in");
    tracing::info!(subject = %identity.subject, "logged in");
    let cookies = vec![
        cookie(auth::SESSION_COOKIE, &session, "/", login.sessions.life.as_secs(), origin)?,
        cookie(BEGUN, "", "/auth", 0, origin)?,
    ];
    redirect(&begun.to, cookies)
}

#[derive(Serialize)]
struct Me {
    subject: types::BuyerId,
    roles: std::collections::BTreeSet<Role>,
    expires_at: Timestamp,
}

fn session(login: &Login, headers: &HeaderMap) -> Result<Session, Problem> {
    let cookie = auth::cookie(headers, auth::SESSION_COOKIE);
    cookie.and_then(|c| login.sessions.open(c).ok()).ok_or_else(|| {
        Problem::new(ProblemKind::UNAUTHENTICATED, "you are not logged in, or no longer; begin at /auth/login")
    })
}

async fn me(State(login): State<Arc<Login>>, headers: HeaderMap) -> Result<Response, Problem> {
    let Session { identity, until, .. } = session(&login, &headers)?;
    let me = Json(Me { subject: identity.subject, roles: identity.roles, expires_at: until });
    Ok(([(header::CACHE_CONTROL, "no-store")], me).into_response())
}

async fn logout(State(login): State<Arc<Login>>, headers: HeaderMap) -> Result<Response, Problem> {
    let origin = login.origin(&headers)?;
    auth::own_page(&headers)?;
    if let Ok(open) = session(&login, &headers) {
        login.sessions.end(&open);
        metrics::login("logged_out");
    }
    let gone = cookie(auth::SESSION_COOKIE, "", "/", 0, origin)?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, gone)]).into_response())
}
