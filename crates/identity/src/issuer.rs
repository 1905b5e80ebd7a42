//! One issuer and the newest good keys of it that are known: read at the start, now and then, and when a token names
//! a key that is not there. Keys are never forgotten because their issuer is away, and an attacker who invents key
//! names cannot make us ask more than once in [`PAUSE`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_kit::VerifiedTokens;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{AuthError, Clock, Identity};
use url::Url;

use crate::claims::{Claims, Peeked, Refused};
use crate::fetch::{Fetch, FetchError};
use crate::keys::{KeySet, MAX_SET};
use crate::metrics;
use crate::options::{IssuerOptions, is_url};

/// Shortest time between two reads of the keys.
const PAUSE: Duration = Duration::from_secs(5);
/// First wait after a read that failed; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a read that failed.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Largest discovery document, in bytes.
const MAX_DISCOVERY: usize = 64 * 1024;

/// Why keys were not read.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The issuer did not answer well.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file could not be read.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// What was read is no key set that can be used.
    #[error("the keys of {0}: {1}")]
    Keys(String, String),
    /// The discovery document is not this issuer's, or not one.
    #[error("the discovery document of {0}: {1}")]
    Discovery(String, String),
    /// The network cannot be used.
    #[error("cannot prepare calls: {0}")]
    Prepare(std::io::Error),
}

/// What an issuer says of itself (OpenID Connect Discovery 1.0).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Discovery {
    issuer: String,
    jwks_uri: String,
    pub(crate) authorization_endpoint: Option<String>,
    pub(crate) token_endpoint: Option<String>,
}

/// A key set and what was verified with it: with other keys everything is verified anew, so that a token of a key
/// that was taken back is not good for having been good.
struct Held {
    keys: KeySet,
    text: Bytes,
    known: VerifiedTokens,
}

/// One issuer.
pub struct Issuer {
    pub(crate) options: IssuerOptions,
    pub(crate) fetch: Fetch,
    pub(crate) clock: Arc<dyn Clock>,
    held: ArcSwapOption<Held>,
    wanted: Notify,
    /// When keys were last asked for, and whether the answer is still awaited.
    asked: Mutex<Option<Instant>>,
    asking: AtomicBool,
}

impl Issuer {
    /// An issuer without keys yet; the options must have been checked.
    pub fn new(options: IssuerOptions, clock: Arc<dyn Clock>) -> Result<Self, IssuerError> {
        let fetch = Fetch::new(options.ca_file.as_deref()).map_err(IssuerError::Prepare)?;
        Ok(Self {
            options,
            fetch,
            clock,
            held: ArcSwapOption::empty(),
            wanted: Notify::new(),
            asked: Mutex::new(None),
            asking: AtomicBool::new(false),
        })
    }

    /// Keeps the keys fresh until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut failures = 0u32;
        while !stop.is_cancelled() {
            let wait = match self.refresh().await {
                Ok(()) => {
                    failures = 0;
                    self.options.refresh
                }
                Err(error) => {
                    tracing::warn!(issuer = self.options.issuer, %error, held = self.held.load().is_some(),
                        "an issuer's keys were not read; the newest good ones stay");
                    let wait = FIRST_RETRY.saturating_mul(1 << failures.min(6)).min(LONGEST_RETRY);
                    failures = failures.saturating_add(1);
                    wait.min(self.options.refresh)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Reads the keys now. What was read before stays if this fails.
    pub async fn refresh(&self) -> Result<(), IssuerError> {
        *self.asked.lock() = Some(Instant::now());
        self.asking.store(true, Ordering::Release);
        let read = self.read().await;
        self.asking.store(false, Ordering::Release);
        let issuer = &self.options.issuer;
        if matches!(read, Ok(true)) {
            tracing::info!(issuer, "the issuer has other keys than before");
        }
        metrics::refreshed(issuer, if read.is_ok() { "read" } else { "failed" });
        read.map(drop)
    }

    /// `true`: they are others than before.
    async fn read(&self) -> Result<bool, IssuerError> {
        let text = match &self.options.keys {
            Some(file) if !is_url(file) => {
                let path = PathBuf::from(file);
                let bytes = tokio::fs::read(&path).await.map_err(|e| IssuerError::File(path, e))?;
                Bytes::from(bytes)
            }
            Some(url) => self.fetch.get(&self.url(url)?, MAX_SET).await?,
            None => {
                let discovery = self.discover().await?;
                self.fetch.get(&self.url(&discovery.jwks_uri)?, MAX_SET).await?
            }
        };
        if self.held.load().as_ref().is_some_and(|held| held.text == text) {
            return Ok(false);
        }
        let wrong = |why: String| IssuerError::Keys(self.options.issuer.clone(), why);
        if text.len() > MAX_SET {
            return Err(wrong(format!("{} bytes; at most {MAX_SET}", text.len())));
        }
        let keys = KeySet::parse(&text, &self.options.algorithms).map_err(|e| wrong(e.to_string()))?;
        metrics::keys(&self.options.issuer, keys.len());
        self.held.store(Some(Arc::new(Held { keys, text, known: VerifiedTokens::default() })));
        Ok(true)
    }

    fn url(&self, text: &str) -> Result<Url, IssuerError> {
        let wrong = |why: String| IssuerError::Discovery(self.options.issuer.clone(), why);
        self.options.reachable("discovery", text).map_err(|e| wrong(e.why))?;
        Url::parse(text).map_err(|e| wrong(e.to_string()))
    }

    /// What the issuer says of itself; that it is itself is checked.
    pub(crate) async fn discover(&self) -> Result<Discovery, IssuerError> {
        let issuer = &self.options.issuer;
        let at = self.url(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))?;
        let text = self.fetch.get(&at, MAX_DISCOVERY).await?;
        let wrong = |why: String| IssuerError::Discovery(issuer.clone(), why);
        let found: Discovery = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if found.issuer != *issuer {
            return Err(wrong(format!("it is the document of {:?}", found.issuer)));
        }
        Ok(found)
    }

    /// An endpoint that the discovery document names.
    pub(crate) fn endpoint(&self, name: &str, text: Option<&str>) -> Result<Url, IssuerError> {
        let missing = || IssuerError::Discovery(self.options.issuer.clone(), format!("it names no {name}"));
        self.url(text.ok_or_else(missing)?)
    }

    /// Who this token proves, judged or remembered.
    pub(crate) fn verify(&self, token: &str, peeked: &Peeked) -> Result<Identity, AuthError> {
        let held = self.held.load();
        let Some(held) = held.as_ref() else { return Err(self.want()) };
        let now = self.clock.now();
        held.known.verify(token, now, |token| {
            let audience = &self.options.audience;
            let claims = Claims::judge(token, peeked, &held.keys, &self.options, audience, now);
            let found = claims.and_then(|claims| Ok((claims.identity(&self.options)?, claims.until)));
            found.map_err(|why| self.refusal(why))
        })
    }

    /// A token that is for `audience`, judged by what it says; remembered by nobody.
    pub(crate) fn judge(&self, token: &str, audience: &str) -> Result<Claims, Refused> {
        let peeked = crate::claims::peek(token)?;
        let held = self.held.load();
        let held = held.as_ref().ok_or(Refused::UnknownKey)?;
        Claims::judge(token, &peeked, &held.keys, &self.options, audience, self.clock.now())
    }

    fn refusal(&self, why: Refused) -> AuthError {
        metrics::refused(why.as_str());
        tracing::debug!(issuer = self.options.issuer, why = why.as_str(), "a token was refused");
        match why {
            Refused::Expired => AuthError::Expired,
            // A key that we do not know may be a new one.
            Refused::UnknownKey => self.want(),
            _ => AuthError::Invalid,
        }
    }

    /// Asks for the keys to be read again, unless that was just done.
    fn want(&self) -> AuthError {
        let lately = self.asked.lock().is_some_and(|at| at.elapsed() < PAUSE);
        if !lately {
            self.wanted.notify_one();
        }
        let answered = lately && !self.asking.load(Ordering::Acquire);
        // The newest keys there are do not have it: it is not this issuer's.
        if answered && self.held.load().is_some() { AuthError::Invalid } else { AuthError::Unavailable }
    }
}
