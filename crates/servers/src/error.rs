//! Why a server could not be had. A failed start carries the end of the server's own log: the reason stands there.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// What went wrong with a real server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program is not installed.
    #[error("{0} is not installed; run script/setup-servers")]
    Missing(String),
    /// The server ended before it answered.
    #[error("{server} ended ({status}) before it answered; the end of its log:\n{tail}")]
    Died {
        /// Which.
        server: &'static str,
        /// How.
        status: ExitStatus,
        /// The last lines of its log.
        tail: String,
    },
    /// The server did not answer in time.
    #[error("{server} did not answer within {waited:?}; the end of its log:\n{tail}")]
    Silent {
        /// Which.
        server: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// The last lines of its log.
        tail: String,
    },
    /// One of the server's own tools failed.
    #[error("{tool} failed: {output}")]
    Tool {
        /// Which.
        tool: String,
        /// What it said.
        output: String,
    },
    /// The file system or the process table refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// No port of the range is free.
    #[error("no free loopback port between {0} and {1}")]
    NoPort(u16, u16),
}

impl ServerError {
    /// Whether the same call may succeed later: a slow machine may have been the reason.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::NoPort(..))
    }
}

/// Names the path in an error of the file system.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> ServerError {
    let path = path.into();
    move |source| ServerError::Io { path, source }
}
