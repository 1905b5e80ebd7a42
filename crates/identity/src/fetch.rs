//! One HTTP call to an issuer: bounded in time and bytes, following no redirect, over TLS where the URL says so. It
//! knows nothing of keys or logins.

use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

/// Longest call, name look-up and TLS included.
const TIME: Duration = Duration::from_secs(5);

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it broke.
    #[error("{url}: {source}")]
    Io {
        /// What was asked.
        url: Url,
        /// Why not.
        source: io::Error,
    },
    /// It is not HTTP that answers.
    #[error("{0}: no HTTP answer: {1}")]
    Http(Url, hyper::Error),
    /// Longer than allowed.
    #[error("{0}: more than {1} bytes")]
    TooLong(Url, usize),
    /// Not in time.
    #[error("{0}: no answer within {TIME:?}")]
    TimedOut(Url),
    /// Another status than was hoped for.
    #[error("{0}: status {1}")]
    Status(Url, StatusCode),
}

/// Makes calls, trusting one set of certificates.
pub(crate) struct Fetch {
    #[cfg(feature = "tls")]
    tls: tokio_rustls::TlsConnector,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Fetch {
    /// Trusts the certificates of `ca_file`, or the system's.
    #[cfg(feature = "tls")]
    pub(crate) fn new(ca_file: Option<&Path>) -> io::Result<Self> {
        use std::sync::Arc;
        use tokio_rustls::rustls::pki_types::CertificateDer;
        use tokio_rustls::rustls::pki_types::pem::PemObject;
        use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(file) => {
                let bad = |e: &dyn std::fmt::Display| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("ca_file {}: {e}", file.display()))
                };
                for certificate in CertificateDer::pem_file_iter(file).map_err(|e| bad(&e))? {
                    roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
                }
                if roots.is_empty() {
                    return Err(bad(&"holds no certificate"));
                }
            }
            None => {
                // A machine without certificates can still reach its issuer over http on loopback; a call over
                // https then says what is wrong.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config).into() })
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(_: Option<&Path>) -> io::Result<Self> {
        Ok(Self {})
    }

    /// The body of a 200.
    pub(crate) async fn get(&self, url: &Url, most: usize) -> Result<Bytes, FetchError> {
        let ask = Request::builder().method(Method::GET).header(header::ACCEPT, "application/json");
        match self.call(url, ask, Bytes::new(), most).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(FetchError::Status(url.clone(), status)),
        }
    }

    /// Status and body of a form that was posted, with name and secret where there are any.
    pub(crate) async fn post(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        basic: Option<(&str, &str)>,
        most: usize,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut ask = Request::builder()
            .method(Method::POST)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some((name, secret)) = basic {
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encode(name), encode(secret)));
            ask = ask.header(header::AUTHORIZATION, format!("Basic {pair}"));
        }
        self.call(url, ask, body.into(), most).await
    }

    async fn call(
        &self,
        url: &Url,
        ask: hyper::http::request::Builder,
        body: Bytes,
        most: usize,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let whole = async {
            let io = |source| FetchError::Io { url: url.clone(), source };
            let host = url.host_str().unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or(80);
            let ask = ask
                .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
                .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
                .header(header::USER_AGENT, concat!("seckill/", env!("CARGO_PKG_VERSION")))
                .body(Full::new(body))
                .map_err(|e| io(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
            // Brackets belong to the text of an IPv6 address, not to the address.
            let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(io)?;
            let stream = self.secured(url, stream).await.map_err(io)?;
            let http = |e| FetchError::Http(url.clone(), e);
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
            let answer = async {
                let answer = sender.send_request(ask).await.map_err(http)?;
                let status = answer.status();
                let read = Limited::new(answer.into_body(), most).collect().await;
                let read = read.map_err(|_| FetchError::TooLong(url.clone(), most))?;
                Ok((status, read.to_bytes()))
            };
            // The connection lives as long as its one call.
            tokio::pin!(answer);
            tokio::select! {
                answer = &mut answer => answer,
                _ended = connection => answer.await,
            }
        };
        tokio::time::timeout(TIME, whole).await.map_err(|_| FetchError::TimedOut(url.clone()))?
    }

    #[cfg(feature = "tls")]
    async fn secured(&self, url: &Url, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        use tokio_rustls::rustls::pki_types::ServerName;
        if url.scheme() != "https" {
            return Ok(Box::new(stream));
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }

    #[cfg(not(feature = "tls"))]
    async fn secured(&self, url: &Url, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        if url.scheme() == "https" {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this program was built without TLS (feature `tls`)",
            ));
        }
        Ok(Box::new(stream))
    }
}
