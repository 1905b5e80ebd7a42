//! Visits to pages through a real edge, which writes its own log line for each: what the access log's writer is where
//! there is no edge. It asks and looks at no answer; broken lines cannot be made this way and are left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder};
use tokio::sync::{Semaphore, mpsc};

use super::access_log::{AccessLog, Item, Request};

/// Visits under way at once: pages are answered within a millisecond.
const AT_ONCE: u32 = 64;
/// Longest time for one.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Says who visits, as the proxy in front of an edge would.
pub(super) fn as_visitor(request: RequestBuilder, address: &str, visitor: &str, agent: &str) -> RequestBuilder {
    request
        .header("X-Forwarded-For", address)
        .header("User-Agent", agent)
        .header("Cookie", format!("visitor={visitor}"))
}

/// Makes the visits that are sent to it.
pub struct Visits {
    url: String,
    http: reqwest::Client,
    items: mpsc::Receiver<Item>,
    made: Arc<AtomicU64>,
}

/// A log behind the edge at `url`, and what must be run for it.
pub fn open(url: &str) -> Result<(AccessLog, Visits)> {
    let (log, items, made) = AccessLog::of_edge();
    let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().redirect(reqwest::redirect::Policy::none());
    let http = http.build().context("cannot make an HTTP client")?;
    Ok((log, Visits { url: url.trim_end_matches('/').to_owned(), http, items, made }))
}

impl Visits {
    /// Visits until the last sender is gone; all have ended when this returns.
    pub async fn run(mut self) -> Result<()> {
        let room = Arc::new(Semaphore::new(AT_ONCE as usize));
        while let Some(item) = self.items.recv().await {
            let Item::Request(visit) = item else { continue };
            let permit = room.clone().acquire_owned().await?;
            let (request, made) = (self.request(&visit)?, self.made.clone());
            tokio::spawn(async move {
                if let Err(error) = request.send().await {
                    tracing::debug!(%error, "a visit found no edge");
                } else {
                    made.fetch_add(1, Ordering::Relaxed);
                }
                drop(permit);
            });
        }
        let _all_ended = room.acquire_many(AT_ONCE).await?;
        Ok(())
    }

    fn request(&self, visit: &Request) -> Result<RequestBuilder> {
        let method = Method::from_bytes(visit.method.as_bytes())?;
        let request = self.http.request(method, format!("{}{}", self.url, visit.uri));
        Ok(as_visitor(request, &visit.remote_addr, &visit.visitor, visit.user_agent))
    }
}
