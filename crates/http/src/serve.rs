//! A listener: bound before it serves (so that port 0 and a port in use are known at start), hardened
//! with limits, stopped gracefully. Who sends a request slowly, or none at all, loses his connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tower_http::limit::RequestBodyLimitLayer;
use types::RequestId;

use crate::{Problem, ProblemKind};

/// The header that carries a request's id from the edge to the order event and back in the answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest time until a request's head is there, and that an idle connection is kept: whoever sends a header a
/// minute, or nothing, must not hold a place. A proxy in front should close its idle connections earlier.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// Headers of one request: a browser and two proxies send some 40. One more is answered with 431.
pub const MAX_HEADERS: usize = 100;
/// Bytes of a request's head: two long tokens and a long address.
const MAX_HEAD: usize = 64 * 1024;
/// Connections of one listener, WebSockets not counted: a thousand times the requests that are served at once.
const MAX_CONNECTIONS: usize = 50_000;

/// What one listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest body in bytes.
    pub body: usize,
    /// Longest time for one request, body included.
    pub time: Duration,
    /// Most requests served at once; beyond it 503.
    pub concurrent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 64 * 1024, time: Duration::from_secs(15), concurrent: 10_000 }
    }
}

/// The id of the request that is being served: taken from `x-request-id` if it is well formed, else made.
#[derive(Debug, Clone)]
pub struct RequestIdExt(pub RequestId);

/// A bound listener that does not serve yet.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

/// Binds `address`; the error names it.
pub async fn bind(address: SocketAddr) -> io::Result<Listening> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))?;
    let address = listener.local_addr()?;
    Ok(Listening { listener, address })
}

impl Listening {
    /// The address really bound.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
    /// Serves until `shutdown` resolves, then finishes what is in flight.
    pub async fn serve(self, router: Router, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let Self { mut listener, .. } = self;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stopping, open) = (CancellationToken::new(), TaskTracker::new());
        tokio::pin!(shutdown);
        loop {
            // At the bound nothing is accepted: the kernel's own queue holds who comes next, and refuses beyond it.
            let next = async {
                let place = places.clone().acquire_owned().await;
                // Waits out what passes by itself, such as too few file handles.
                let (stream, peer) = Listener::accept(&mut listener).await;
                (place, stream, peer)
            };
            let (place, stream, peer) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                next = next => next,
            };
            let (router, stopping) = (router.clone(), stopping.clone());
            open.spawn(async move {
                connection(stream, peer, router, stopping).await;
                drop(place);
            });
        }
        drop(listener);
        stopping.cancel();
        open.close();
        open.wait().await;
        Ok(())
    }
}

/// One connection, to its end or until it has become something else (a WebSocket).
async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stopping: CancellationToken) {
    // Small answers go out at once; a socket that cannot do that still serves.
    let _slower = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let serving = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // Of the client's making, and as often as he likes: not for the log of a busy shop.
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// Puts the shared layers around a router: request id, limits of body, time and concurrency, problem
/// answers for unknown routes and methods. What can be done in one layer is: each costs every request an allocated
/// future and a copy of the stack below it.
pub fn harden(router: Router, limits: Limits) -> Router {
    let permits = Arc::new(Semaphore::new(limits.concurrent));
    let around = move |mut request: Request, next: Next| {
        let permits = permits.clone();
        async move {
            let id = request_id(&request);
            request.extensions_mut().insert(RequestIdExt(id.clone()));
            let mut response = plain_refusals_become_problems(bounded(&permits, limits, request, next).await).await;
            if let Ok(value) = HeaderValue::from_str(id.as_str()) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            response
        }
    };
    router
        .fallback(|| async { Problem::new(ProblemKind::NOT_FOUND, "no such path; see /openapi.json") })
        .method_not_allowed_fallback(|| async {
            Problem::new(ProblemKind::METHOD, "this path exists for other methods; see the Allow header")
        })
        .layer(RequestBodyLimitLayer::new(limits.body))
        .layer(axum::extract::DefaultBodyLimit::max(limits.body))
        .layer(middleware::from_fn(around))
}

/// The answer, unless too many are served or it takes too long.
async fn bounded(permits: &Semaphore, limits: Limits, request: Request, next: Next) -> Response {
    let Ok(_permit) = permits.try_acquire() else {
        let busy = Problem::new(ProblemKind::OVERLOADED, "too many requests at once; retry").retry_after(1);
        return busy.into_response();
    };
    match tokio::time::timeout(limits.time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(ProblemKind::TIMEOUT, format!("not finished within {:?}", limits.time)).into_response(),
    }
}

fn request_id(request: &Request) -> RequestId {
    let given = request.headers().get(&REQUEST_ID).and_then(|v| v.to_str().ok()).and_then(|v| RequestId::new(v).ok());
    given.unwrap_or_else(fresh_request_id)
}

// Unique within and across processes; not secret, so it needs no cryptographic randomness.
fn fresh_request_id() -> RequestId {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let text = format!("{:016x}{:08x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
    RequestId::new(&text).unwrap_or_else(|_| unreachable!("hexadecimal digits are a request id"))
}

// axum's own extractors refuse in plain text; every refusal of ours is problem+json.
async fn plain_refusals_become_problems(response: Response) -> Response {
    use axum::http::header::CONTENT_TYPE;
    let status = response.status();
    let plain = response.headers().get(CONTENT_TYPE).is_none_or(|t| t.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() && plain) {
        return response;
    }
    let kind = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ProblemKind::TOO_LARGE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemKind::MEDIA_TYPE,
        StatusCode::UNPROCESSABLE_ENTITY => ProblemKind::INVALID_FIELD,
        StatusCode::BAD_REQUEST => ProblemKind::MALFORMED,
        _ => return response,
    };
    // The refusal's own text is short and made by the extractor; it says where the body is wrong.
    let detail = axum::body::to_bytes(response.into_body(), 4096).await.unwrap_or_default();
    Problem::new(kind, String::from_utf8_lossy(&detail).into_owned()).into_response()
}
