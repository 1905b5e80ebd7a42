//! The shop's own login: it knows its customers and signs the tokens by which the platform knows them. Here it signs
//! as the platform's demo issuer does; in production the platform reads the shop's public keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jsonwebtoken::{EncodingKey, Header};
use serde::{Deserialize, Serialize};

/// The issuer that the platform expects.
const ISSUER: &str = "seckill-demo";
/// How long a customer stays logged in.
const LIFE: Duration = Duration::from_secs(3_600);

/// Signs tokens.
pub struct Login(EncodingKey);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    roles: &'a [&'a str],
    exp: u64,
}

impl Login {
    pub fn new(key: &str) -> Self {
        Self(EncodingKey::from_secret(key.as_bytes()))
    }

    /// A customer's token.
    pub fn customer(&self, name: &str) -> anyhow::Result<String> {
        self.staff(name, &["shopper"])
    }

    /// A token with these roles, for the shop's staff and systems.
    pub fn staff(&self, name: &str, roles: &[&str]) -> anyhow::Result<String> {
        let exp = (SystemTime::now().duration_since(UNIX_EPOCH)? + LIFE).as_secs();
        let claims = Claims { iss: ISSUER, aud: ISSUER, sub: name, roles, exp };
        Ok(jsonwebtoken::encode(&Header::default(), &claims, &self.0)?)
    }
}

#[derive(Deserialize)]
struct Form {
    customer: String,
}

#[derive(Serialize)]
struct LoggedIn {
    token: String,
}

/// `POST /login`: this shop asks for no password; a real one does.
pub fn routes(login: Arc<Login>) -> Router {
    Router::new().route("/login", post(log_in)).with_state(login)
}

async fn log_in(State(login): State<Arc<Login>>, Json(form): Json<Form>) -> Result<Json<LoggedIn>, StatusCode> {
    let token = login.customer(&form.customer).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(LoggedIn { token }))
}
