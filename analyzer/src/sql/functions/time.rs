//! Times rounded to a period, as numbers, and the moment of the query. What is outside the calendar is an error of
//! the query, never a panic.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, TimestampMillisecondArray};
use datafusion::arrow::compute::CastOptions;
use datafusion::arrow::datatypes::{DataType, TimestampMillisecondType};
use datafusion::common::{ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use types::Timestamp;

use super::super::period::{Period, zone};
use super::super::tables::TIME;

/// The functions that are the same for every query.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(TimeRound::new(false).into()),
        Arc::new(TimeRound::new(true).into()),
        Arc::new(Millis::new(false).into()),
        Arc::new(Millis::new(true).into()),
        Arc::new(TimeOf { signature: Signature::user_defined(Volatility::Immutable) }.into()),
    ]
}

/// The functions that answer the moment at which a query began.
pub(in crate::sql) fn at(now: Timestamp) -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(Now::new(now, false).into()), Arc::new(Now::new(now, true).into())]
}

pub(super) fn is_time(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Timestamp(..)
            | DataType::Date32
            | DataType::Date64
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Null
    )
}

/// `TIME_FLOOR(time, period[, origin[, zone]])` and `TIME_CEIL`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeRound {
    up: bool,
    signature: Signature,
}

impl TimeRound {
    fn new(up: bool) -> Self {
        Self { up, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TimeRound {
    fn name(&self) -> &str {
        if self.up { "time_ceil" } else { "time_floor" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name().to_uppercase();
        if !(2..=4).contains(&given.len()) {
            return plan_err!("{name} takes (time, period[, origin[, zone]]), got {} arguments", given.len());
        }
        if !is_time(&given[0]) {
            return plan_err!("{name} works on a TIMESTAMP, got {}", given[0]);
        }
        Ok([TIME, DataType::Utf8, TIME, DataType::Utf8][..given.len()].to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(TIME)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = self.name().to_uppercase();
        let text = |i: usize| match args.args.get(i) {
            None | Some(ColumnarValue::Scalar(ScalarValue::Utf8(None) | ScalarValue::Null)) => Ok(None),
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text)))) => Ok(Some(text.as_str())),
            Some(_) => exec_err!("argument {} of {name} must be a literal", i + 1),
        };
        let Some(period) = text(1)? else { return exec_err!("the period of {name} must not be null") };
        let period = Period::parse(period).map_err(|e| exec_datafusion_err!("{name}: {e}"))?;
        let origin = match args.args.get(2) {
            None | Some(ColumnarValue::Scalar(ScalarValue::Null)) => None,
            Some(ColumnarValue::Scalar(ScalarValue::TimestampMillisecond(at, _))) => *at,
            Some(_) => return exec_err!("the origin of {name} must be a literal"),
        };
        let zone = match text(3)?.filter(|z| *z != "UTC") {
            None => None,
            Some(given) => Some(zone(given).ok_or_else(|| exec_datafusion_err!("{name}: no time zone {given:?}"))?),
        };
        let round = |t: i64| {
            let rounded = match (&zone, self.up) {
                (None, true) => period.ceil(t, origin),
                (None, false) => period.floor(t, origin),
                (Some(zone), true) => period.ceil_in(t, origin, zone),
                (Some(zone), false) => period.floor_in(t, origin, zone),
            };
            rounded.ok_or_else(|| exec_datafusion_err!("{name}: the time {t} ms is outside the calendar"))
        };
        match &args.args[0] {
            ColumnarValue::Scalar(ScalarValue::TimestampMillisecond(t, _)) => {
                Ok(ColumnarValue::Scalar(ScalarValue::TimestampMillisecond(t.map(round).transpose()?, None)))
            }
            ColumnarValue::Array(array) => {
                let times = array.as_primitive::<TimestampMillisecondType>();
                let rounded: TimestampMillisecondArray = times.try_unary(round)?;
                Ok(ColumnarValue::Array(Arc::new(rounded)))
            }
            ColumnarValue::Scalar(other) => exec_err!("{name} works on a TIMESTAMP, got {other}"),
        }
    }
}

/// `MILLIS_TO_TIMESTAMP(number)` and `TIMESTAMP_TO_MILLIS(time)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Millis {
    to_time: bool,
    signature: Signature,
}

impl Millis {
    fn new(to_time: bool) -> Self {
        Self { to_time, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Millis {
    fn name(&self) -> &str {
        if self.to_time { "millis_to_timestamp" } else { "timestamp_to_millis" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [kind] if self.to_time && (kind.is_numeric() || kind.is_null()) => Ok(vec![DataType::Int64]),
            [kind] if !self.to_time && is_time(kind) => Ok(vec![TIME]),
            _ => plan_err!(
                "{} takes one {}",
                self.name().to_uppercase(),
                if self.to_time { "BIGINT" } else { "TIMESTAMP" }
            ),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.to_time { TIME } else { DataType::Int64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Both are the same 64 bits.
        args.args[0].cast_to(args.return_type(), None)
    }
}

/// `CAST(x AS TIMESTAMP)`: numbers are milliseconds, a text that is no time is null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeOf {
    signature: Signature,
}

impl ScalarUDFImpl for TimeOf {
    fn name(&self) -> &'static str {
        "time_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [kind] if kind.is_numeric() => Ok(vec![DataType::Int64]),
            [DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View] => Ok(vec![DataType::Utf8]),
            [kind] if is_time(kind) => Ok(vec![TIME]),
            [kind, ..] => plan_err!("cannot cast {kind} to TIMESTAMP"),
            [] => plan_err!("a cast to TIMESTAMP of nothing"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(TIME)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = CastOptions { safe: true, ..CastOptions::default() };
        args.args[0].cast_to(&TIME, Some(&options))
    }
}

/// `CURRENT_TIMESTAMP`, `NOW()`, `LOCALTIMESTAMP` and `CURRENT_DATE` of one query.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    at: Timestamp,
    date: bool,
    signature: Signature,
    aliases: Vec<String>,
}

impl Now {
    fn new(at: Timestamp, date: bool) -> Self {
        let aliases = if date { &["today"][..] } else { &["now", "localtimestamp"][..] };
        Self {
            at,
            date,
            // Constant within the query that it is made for, so it may be folded before filters are pushed.
            signature: Signature::nullary(Volatility::Immutable),
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
        }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        if self.date { "current_date" } else { "current_timestamp" }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.date { DataType::Date32 } else { TIME })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(if self.date {
            let days = self.at.millis().div_euclid(86_400_000);
            ScalarValue::Date32(i32::try_from(days).ok())
        } else {
            ScalarValue::TimestampMillisecond(Some(self.at.millis()), None)
        }))
    }
}
