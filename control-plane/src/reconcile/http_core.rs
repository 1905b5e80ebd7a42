//! Provider of the port [`CoreClient`]: a core over HTTP, with a bearer token and limits. It retries nothing.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, StatusCode, Url};
use types::Invalid;
use types::plan::{CoreState, PlanAnswer, PlanPush};

use super::{CoreClient, CoreError};

/// Longest wait for a connection: cores are near.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest wait for a whole answer; a large plan takes a core some time to read.
const ANSWER: Duration = Duration::from_secs(5);
/// Largest answer: 100,000 products at about 400 bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How much of an unexpected answer is told.
const TOLD: usize = 200;

/// The secret by which a core knows the control plane. Never printed.
#[derive(Clone)]
pub struct CoreToken(String);

impl CoreToken {
    /// Checks that it can stand in a header; its text is not repeated in the error.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Invalid::new("core_token", "must be printable ASCII without spaces, and not empty"));
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for CoreToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoreToken(***)")
    }
}

/// Parses a core's base URL, as configuration and [`HttpCore`] both need it.
pub fn base_url(text: &str) -> Result<Url, Invalid> {
    let url = Url::parse(text).map_err(|e| Invalid::new("cores", format!("{text:?} is not a URL: {e}")))?;
    // No TLS stack is built in: the private listener belongs on a private network or behind a mesh.
    if url.scheme() != "http" || url.host_str().is_none() {
        return Err(Invalid::new("cores", format!("{text:?} is not of the form http://host:port")));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::new("cores", "a base URL has no query, fragment or credentials"));
    }
    Ok(url)
}

/// One core's private listener.
#[derive(Debug)]
pub struct HttpCore {
    client: reqwest::Client,
    plan: Url,
    state: Url,
    token: CoreToken,
}

impl HttpCore {
    /// A client for the core at `base` (`http://host:port`).
    pub fn new(base: &str, token: CoreToken) -> Result<Self, Invalid> {
        let base = base_url(base)?;
        let at = |path: &str| {
            let text = format!("{}{path}", base.as_str().trim_end_matches('/'));
            Url::parse(&text).map_err(|e| Invalid::new("cores", format!("{text:?}: {e}")))
        };
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            // A plan goes to the configured core or nowhere.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|e| Invalid::new("cores", format!("no HTTP client: {e}")))?;
        Ok(Self { client, plan: at("/internal/plan")?, state: at("/internal/state")?, token })
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        url: &Url,
        body: Option<Vec<u8>>,
    ) -> Result<T, CoreError> {
        let mut request = self.client.request(method, url.clone()).bearer_auth(&self.token.0);
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut text = Vec::new();
        while let Some(part) = response.chunk().await.map_err(unreachable)? {
            if text.len() + part.len() > MAX_ANSWER {
                return Err(CoreError::Malformed(format!("it is longer than {MAX_ANSWER} bytes")));
            }
            text.extend_from_slice(&part);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(CoreError::Unauthorized(status.as_u16()));
        }
        // A nack may come with a status of its own (409): what counts is whether the body is an answer.
        serde_json::from_slice(&text).map_err(|e| {
            if status.is_success() {
                CoreError::Malformed(e.to_string())
            } else {
                let start = &text[..text.len().min(TOLD)];
                CoreError::Status { status: status.as_u16(), text: String::from_utf8_lossy(start).into_owned() }
            }
        })
    }
}

fn unreachable(error: reqwest::Error) -> CoreError {
    // The error's own text ends at the first cause; the causes say what really happened.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    CoreError::Unreachable(text.chars().take(TOLD).collect())
}

#[async_trait]
impl CoreClient for HttpCore {
    async fn push(&self, push: PlanPush) -> Result<PlanAnswer, CoreError> {
        let body = serde_json::to_vec(&push).map_err(|e| CoreError::Malformed(format!("our own push: {e}")))?;
        self.call(Method::POST, &self.plan, Some(body)).await
    }
    async fn state(&self) -> Result<CoreState, CoreError> {
        self.call(Method::GET, &self.state, None).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed_and_a_bad_one_is_not_repeated() {
        let token = CoreToken::new("geheim").expect("a token");
        assert_eq!(format!("{token:?}"), "CoreToken(***)");
        let core = HttpCore::new("http://127.0.0.1:1", token).expect("a core");
        assert!(!format!("{core:?}").contains("geheim"));
        let refused = CoreToken::new("ge heim").expect_err("a space");
        assert!(!refused.to_string().contains("heim"));
    }

    #[test]
    fn a_base_url_is_checked() {
        assert!(base_url("http://core-1:8081").is_ok());
        for bad in ["core-1:8081", "https://core-1", "http://u:p@core", "http://core/?a=1", "", "ftp://core"] {
            assert!(base_url(bad).is_err(), "{bad:?}");
        }
    }
}
