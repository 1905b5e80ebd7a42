//! Every way a query can end badly, and the JSON that Druid sends for it. It must never show what a
//! defect of ours said inside: that goes to the log.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use serde_json::{Map, Value, json};

/// Longest error text sent: a planner's message may quote the whole query.
const LONGEST_MESSAGE: usize = 4096;

/// Why there are no rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// The request or the query is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The body is of a type that the call does not take.
    #[error("Unsupported Content-Type: {0}. Only application/json or text/plain is supported.")]
    ContentType(String),
    /// The query needs more than one query may have: text, rows, bytes, memory.
    #[error("{0}")]
    Limit(String),
    /// As many queries as allowed are running and waiting.
    #[error("Too many concurrent queries: {running} running and {waiting} waiting are allowed; try again")]
    Capacity {
        /// Allowed to run at once.
        running: usize,
        /// Allowed to wait.
        waiting: usize,
    },
    /// It took too long.
    #[error("Query did not complete within configured timeout period. You can increase query timeout or tune the performance of query. (timeout {} ms)", .0.as_millis())]
    Timeout(Duration),
    /// Somebody cancelled it.
    #[error("Query is canceled")]
    Cancelled,
    /// A defect of ours.
    #[error("internal error; the log has the details under this query id")]
    Internal(String),
}

impl SqlError {
    /// Whether the same query may succeed a little later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Capacity { .. } | Self::Timeout(_))
    }

    /// The outcome's label in metrics and log.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::ContentType(_) => "invalid",
            Self::Limit(_) => "limit",
            Self::Capacity { .. } => "capacity",
            Self::Timeout(_) => "timeout",
            Self::Cancelled => "cancelled",
            Self::Internal(_) => "internal",
        }
    }

    const fn shape(&self) -> Shape {
        match self {
            Self::Invalid(_) => Shape::modern(StatusCode::BAD_REQUEST),
            Self::ContentType(_) => Shape::modern(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::Limit(_) => Shape {
                status: StatusCode::BAD_REQUEST,
                category: "INVALID_INPUT",
                legacy: Some(("Resource limit exceeded", "org.apache.druid.query.ResourceLimitExceededException")),
            },
            Self::Capacity { .. } => Shape {
                status: StatusCode::TOO_MANY_REQUESTS,
                category: "CAPACITY_EXCEEDED",
                legacy: Some(("Query capacity exceeded", "org.apache.druid.query.QueryCapacityExceededException")),
            },
            Self::Timeout(_) => Shape {
                status: StatusCode::GATEWAY_TIMEOUT,
                category: "TIMEOUT",
                legacy: Some(("Query timeout", "org.apache.druid.query.QueryTimeoutException")),
            },
            Self::Cancelled => Shape {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                category: "CANCELED",
                legacy: Some(("Query cancelled", "org.apache.druid.query.QueryInterruptedException")),
            },
            Self::Internal(_) => Shape {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                category: "RUNTIME_FAILURE",
                legacy: Some(("Unknown exception", "org.apache.druid.query.QueryInterruptedException")),
            },
        }
    }

    /// The answer. All eight fields are always there: pydruid formats its message from three of them.
    pub(super) fn into_answer(self, host: Option<&str>) -> Response {
        let shape = self.shape();
        let mut message = self.to_string();
        if message.len() > LONGEST_MESSAGE {
            let end = (0..=LONGEST_MESSAGE).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(end);
        }
        let mut context = Map::new();
        let (error, class, code, persona) = match shape.legacy {
            Some((error, class)) => {
                context.insert("host".to_owned(), json!(host));
                context.insert("errorClass".to_owned(), json!(class));
                context.insert("legacyErrorCode".to_owned(), json!(error));
                (error, class, "legacyQueryException", "OPERATOR")
            }
            None => {
                context.insert("sourceType".to_owned(), json!("sql"));
                if let Some((line, column)) = position(&message) {
                    // Strings, as Druid sends them.
                    context.insert("line".to_owned(), json!(line));
                    context.insert("column".to_owned(), json!(column));
                }
                ("druidException", "org.apache.druid.error.DruidException", "invalidInput", "USER")
            }
        };
        let body = json!({
            "error": error,
            "errorCode": code,
            "persona": persona,
            "category": shape.category,
            "errorMessage": message,
            "errorClass": class,
            "host": host,
            "context": Value::Object(context),
        });
        let mut response = (shape.status, axum::Json(body)).into_response();
        if let Self::Capacity { .. } = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

struct Shape {
    status: StatusCode,
    category: &'static str,
    /// Druid's older error code and class, which it still sends for what goes wrong while running.
    legacy: Option<(&'static str, &'static str)>,
}

impl Shape {
    const fn modern(status: StatusCode) -> Self {
        Self { status, category: "INVALID_INPUT", legacy: None }
    }
}

/// The parser ends its messages with `at Line: 1, Column: 8`.
fn position(message: &str) -> Option<(&str, &str)> {
    let (_, tail) = message.rsplit_once("at Line: ")?;
    let (line, column) = tail.split_once(", Column: ")?;
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let column = &column[..digits(column)];
    (!column.is_empty() && digits(line) == line.len()).then_some((line, column))
}

impl From<ParserError> for SqlError {
    fn from(error: ParserError) -> Self {
        match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => Self::Invalid(text),
            ParserError::RecursionLimitExceeded => Self::Limit("The query is nested too deeply".to_owned()),
        }
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let text = error.strip_backtrace();
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => {
                Self::Limit(format!("The query needs more memory than one query may have: {text}"))
            }
            DataFusionError::Internal(_)
            | DataFusionError::IoError(_)
            | DataFusionError::ExecutionJoin(_)
            | DataFusionError::External(_)
            | DataFusionError::Configuration(_) => Self::Internal(text),
            // A wrong name, a wrong type, a division by zero: the query's own doing.
            _ => Self::Invalid(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parsers_position_is_told_apart() {
        assert_eq!(position("Expected: x, found: y at Line: 3, Column: 12"), Some(("3", "12")));
        assert_eq!(position("no place"), None);
        assert_eq!(position("at Line: x, Column: "), None);
    }

    #[test]
    fn only_what_time_heals_is_retryable() {
        assert!(SqlError::Capacity { running: 1, waiting: 0 }.retryable());
        assert!(!SqlError::Invalid("x".to_owned()).retryable());
    }
}
