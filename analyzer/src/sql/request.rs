//! A request's body read as Druid reads it: unknown fields are ignored, null is absent, names of
//! formats in any case. It never looks into the query text.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};
use types::Timestamp;

use super::error::SqlError;
use super::period;

/// Longest query id that is carried back in a header.
const LONGEST_ID: usize = 256;
/// Most parameters of one query; more than any client binds, few enough to copy.
const MOST_PARAMETERS: usize = 1000;
/// Names of the zone that needs no word.
const UTC_NAMES: [&str; 6] = ["UTC", "Etc/UTC", "Z", "Zulu", "GMT", "+00:00"];

/// The clocks that a query's times are on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Zone {
    /// As the client named it.
    pub name: String,
    /// What it is.
    pub zone: TimeZone,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ResultFormat {
    /// A JSON array of objects.
    #[default]
    Object,
    /// A JSON array of arrays.
    Array,
    /// An object on each line, then an empty line.
    ObjectLines,
    /// An array on each line, then an empty line.
    ArrayLines,
    /// Comma-separated, then an empty line.
    Csv,
}

impl ResultFormat {
    fn parse(text: &str) -> Result<Self, SqlError> {
        match text.to_ascii_lowercase().as_str() {
            "object" => Ok(Self::Object),
            "array" => Ok(Self::Array),
            "objectlines" => Ok(Self::ObjectLines),
            "arraylines" => Ok(Self::ArrayLines),
            "csv" => Ok(Self::Csv),
            _ => Err(SqlError::Invalid(format!(
                "Unknown resultFormat [{}]; use object, array, objectLines, arrayLines or csv",
                short(text)
            ))),
        }
    }
}

/// Whether and how the answer begins with the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    /// Names.
    pub names: bool,
    /// Druid's run-time types.
    pub types: bool,
    /// SQL types.
    pub sql_types: bool,
}

/// A bound value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Parameter {
    /// Whatever its type.
    Null,
    /// `BOOLEAN`.
    Boolean(bool),
    /// `TINYINT` to `BIGINT`.
    Integer(i64),
    /// `FLOAT`, `REAL`, `DOUBLE`, `DECIMAL`.
    Double(f64),
    /// `CHAR`, `VARCHAR`.
    Text(String),
    /// `TIMESTAMP`.
    Time(Timestamp),
}

/// One query as asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SqlRequest {
    pub query: String,
    pub format: ResultFormat,
    pub header: Header,
    pub parameters: Vec<Parameter>,
    /// `context.sqlQueryId`.
    pub id: Option<String>,
    /// `context.timeout`; absent or 0 means the server's.
    pub timeout: Option<Duration>,
    /// `context.sqlOuterLimit`.
    pub outer_limit: Option<usize>,
    /// `context.sqlStringifyArrays`, true unless said otherwise.
    pub stringify_arrays: bool,
    /// `context.sqlTimeZone`, if it is not UTC.
    pub zone: Option<Zone>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    query: Option<String>,
    result_format: Option<String>,
    header: Option<bool>,
    types_header: Option<bool>,
    sql_types_header: Option<bool>,
    context: Option<Map<String, Value>>,
    parameters: Option<Vec<Option<WireParameter>>>,
}

#[derive(Deserialize)]
struct WireParameter {
    r#type: String,
    #[serde(default)]
    value: Value,
}

impl SqlRequest {
    /// Reads a body of the given content type.
    pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Result<Self, SqlError> {
        let given = content_type.unwrap_or("null");
        let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Self::from_json(body),
            "text/plain" => match std::str::from_utf8(body) {
                Ok(text) => Self::from_wire(Wire {
                    query: Some(text.to_owned()),
                    result_format: None,
                    header: None,
                    types_header: None,
                    sql_types_header: None,
                    context: None,
                    parameters: None,
                }),
                Err(e) => Err(SqlError::Invalid(format!("The body is not UTF-8: {e}"))),
            },
            _ => Err(SqlError::ContentType(short(given))),
        }
    }

    fn from_json(body: &[u8]) -> Result<Self, SqlError> {
        serde_json::from_slice::<Wire>(body)
            .map_err(|e| SqlError::Invalid(format!("Unable to parse SQL query: {e}")))
            .and_then(Self::from_wire)
    }

    fn from_wire(wire: Wire) -> Result<Self, SqlError> {
        let query = wire.query.ok_or_else(|| SqlError::Invalid("The field [query] is missing".to_owned()))?;
        let header = Header {
            names: wire.header.unwrap_or(false),
            types: wire.types_header.unwrap_or(false),
            sql_types: wire.sql_types_header.unwrap_or(false),
        };
        for (name, asked) in [("typesHeader", header.types), ("sqlTypesHeader", header.sql_types)] {
            if asked && !header.names {
                return Err(SqlError::Invalid(format!("Cannot include '{name}' without 'header'")));
            }
        }
        let parameters = wire.parameters.unwrap_or_default();
        if parameters.len() > MOST_PARAMETERS {
            return Err(SqlError::Limit(format!("{} parameters; at most {MOST_PARAMETERS}", parameters.len())));
        }
        let parameters =
            parameters.into_iter().enumerate().map(|(i, p)| Parameter::read(i, p)).collect::<Result<Vec<_>, _>>()?;
        let context = wire.context.unwrap_or_default();
        let zone = text(&context, "sqlTimeZone")?.filter(|z| !UTC_NAMES.contains(&z.as_str()));
        let zone = match zone {
            None => None,
            Some(name) => match period::zone(&name) {
                Some(zone) => Some(Zone { name, zone }),
                None => {
                    return Err(SqlError::Invalid(format!(
                        "Query context [sqlTimeZone] is [{}]; give a zone's name, for example Europe/Berlin",
                        short(&name)
                    )));
                }
            },
        };
        let id = text(&context, "sqlQueryId")?;
        if let Some(id) = &id {
            let printable = id.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
            if id.is_empty() || id.len() > LONGEST_ID || !printable {
                return Err(SqlError::Invalid(format!(
                    "Query context [sqlQueryId] must be 1 to {LONGEST_ID} printable ASCII characters"
                )));
            }
        }
        Ok(Self {
            query,
            format: wire.result_format.as_deref().map_or(Ok(ResultFormat::default()), ResultFormat::parse)?,
            header,
            parameters,
            id,
            timeout: count(&context, "timeout")?.filter(|ms| *ms > 0).map(Duration::from_millis),
            outer_limit: count(&context, "sqlOuterLimit")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            stringify_arrays: flag(&context, "sqlStringifyArrays")?.unwrap_or(true),
            zone,
        })
    }
}

impl Parameter {
    fn read(index: usize, wire: Option<WireParameter>) -> Result<Self, SqlError> {
        let position = index + 1;
        let wire = wire.ok_or_else(|| SqlError::Invalid(format!("Parameter at position [{position}] is not bound")))?;
        let kind = wire.r#type.to_ascii_uppercase();
        let parsed = match (kind.as_str(), &wire.value) {
            (
                "CHAR" | "VARCHAR" | "BOOLEAN" | "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "FLOAT" | "REAL"
                | "DOUBLE" | "DECIMAL" | "TIMESTAMP",
                Value::Null,
            ) => Some(Self::Null),
            ("CHAR" | "VARCHAR", Value::String(s)) => Some(Self::Text(s.clone())),
            ("BOOLEAN", Value::Bool(b)) => Some(Self::Boolean(*b)),
            ("TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT", Value::Number(n)) => n.as_i64().map(Self::Integer),
            ("TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT", Value::String(s)) => s.parse().ok().map(Self::Integer),
            ("FLOAT" | "REAL" | "DOUBLE" | "DECIMAL", Value::Number(n)) => n.as_f64().map(Self::Double),
            ("TIMESTAMP", Value::Number(n)) => n.as_i64().map(|ms| Self::Time(Timestamp::from_millis(ms))),
            ("TIMESTAMP", Value::String(s)) => time(s).map(Self::Time),
            _ => None,
        };
        parsed.ok_or_else(|| {
            SqlError::Invalid(format!(
                "Parameter at position [{position}]: cannot use {} as {}",
                short(&wire.value.to_string()),
                short(&wire.r#type)
            ))
        })
    }
}

/// ISO-8601 or SQL's `yyyy-MM-dd HH:mm:ss[.fff]`; without an offset it is UTC.
fn time(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
    })
}

fn wrong(key: &str, value: &Value, what: &str) -> SqlError {
    SqlError::Invalid(format!("Query context [{key}] must be {what}, got {}", short(&value.to_string())))
}

fn text(context: &Map<String, Value>, key: &str) -> Result<Option<String>, SqlError> {
    match context.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(other) => Err(wrong(key, other, "a string")),
    }
}

// Druid takes numbers and flags also as strings.
fn count(context: &Map<String, Value>, key: &str) -> Result<Option<u64>, SqlError> {
    let Some(value) = context.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
    let parsed = match value {
        Value::Number(n) => n.as_u64(),
        Value::String(s) => s.parse().ok(),
        _ => None,
    };
    parsed.map(Some).ok_or_else(|| wrong(key, value, "a whole number, 0 or more"))
}

fn flag(context: &Map<String, Value>, key: &str) -> Result<Option<bool>, SqlError> {
    let Some(value) = context.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
    let parsed = match value {
        Value::Bool(b) => Some(*b),
        Value::String(s) => s.parse().ok(),
        _ => None,
    };
    parsed.map(Some).ok_or_else(|| wrong(key, value, "true or false"))
}

/// The beginning of what came in, for an error text.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn json(body: &str) -> Result<SqlRequest, SqlError> {
        SqlRequest::read(Some("application/json; charset=utf-8"), body.as_bytes())
    }

    #[test]
    fn what_druid_accepts_is_accepted() {
        let r = json(
            r#"{"query":"SELECT 1","resultFormat":"ARRAYLINES","header":null,"nonsense":7,
                "context":{"timeout":"250","sqlQueryId":"q 1","priority":3},"parameters":null}"#,
        )
        .unwrap();
        assert_eq!(r.format, ResultFormat::ArrayLines);
        assert_eq!((r.timeout, r.id.as_deref()), (Some(Duration::from_millis(250)), Some("q 1")));
        assert_eq!(SqlRequest::read(Some("text/plain"), b"SELECT 1").unwrap().query, "SELECT 1");
        assert_eq!(json(r#"{"query":"x","context":{"timeout":0}}"#).unwrap().timeout, None);
    }

    #[test]
    fn what_druid_refuses_is_refused() {
        for bad in [
            "",
            "[]",
            "7",
            "{",
            r#"{"query":7}"#,
            "{}",
            r#"{"query":"x","resultFormat":"xml"}"#,
            r#"{"query":"x","typesHeader":true}"#,
            r#"{"query":"x","sqlTypesHeader":true}"#,
            r#"{"query":"x","context":{"timeout":-1}}"#,
            r#"{"query":"x","context":{"timeout":"soon"}}"#,
            r#"{"query":"x","context":{"sqlTimeZone":"Nowhere/Here"}}"#,
            r#"{"query":"x","context":{"sqlQueryId":"a\nb"}}"#,
            r#"{"query":"x","context":{"sqlQueryId":7}}"#,
            r#"{"query":"x","parameters":[null]}"#,
            r#"{"query":"x","parameters":[{"type":"BLOB","value":1}]}"#,
            r#"{"query":"x","parameters":[{"type":"BIGINT","value":"many"}]}"#,
        ] {
            assert!(matches!(json(bad), Err(SqlError::Invalid(_))), "{bad}");
        }
        assert!(matches!(SqlRequest::read(Some("text/plain"), b"\xff"), Err(SqlError::Invalid(_))));
        assert!(matches!(SqlRequest::read(None, b"SELECT 1"), Err(SqlError::ContentType(_))));
    }

    #[test]
    fn a_time_is_bound_as_millis_iso_or_sql() {
        let at = Timestamp::from_millis(1_794_355_260_500);
        for value in [r#""2026-11-11T00:01:00.500Z""#, r#""2026-11-11 00:01:00.500""#, "1794355260500"] {
            let body = format!(r#"{{"query":"x","parameters":[{{"type":"TIMESTAMP","value":{value}}}]}}"#);
            assert_eq!(json(&body).unwrap().parameters, [Parameter::Time(at)], "{value}");
        }
    }
}
