//! A listener: bound before it serves (so that port 0 and a port in use are known at start), hardened
//! with limits, stopped gracefully.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_http::limit::RequestBodyLimitLayer;
use types::RequestId;

use crate::{Problem, ProblemKind};

/// The header that carries a request's id from the edge to the order event and back in the answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(self.listener, service).with_graceful_shutdown(shutdown).await
    }
}

/// Puts the shared layers around a router: request id, limits of body, time and concurrency, problem
/// answers for unknown routes and methods. What can be done in one layer is: each costs every request an allocated
/// future and a copy of the stack below it.
pub fn harden(router: Router, limits: Limits) -> Router {
    let permits = std::sync::Arc::new(Semaphore::new(limits.concurrent));
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
