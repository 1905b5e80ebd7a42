//! One value of an Arrow array as it goes into JSON or CSV. It decides how times, numbers and lists
//! look; it must never fail on a type, only on a value that cannot be shown.

use std::borrow::Cow;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::array_value_to_string;
use jiff::tz::TimeZone;
use types::Timestamp;

use super::functions::shown;

/// A value ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Double(f64),
    Text(Cow<'a, str>),
    /// Already JSON: a decimal's digits, a list.
    Json(String),
}

const DAY: i64 = 86_400_000;

impl<'a> Cell<'a> {
    /// The value of `row`, times on the clocks of `zone`. A list becomes a string that holds JSON if
    /// `stringify_arrays`.
    pub(super) fn at(
        array: &'a dyn Array,
        row: usize,
        stringify_arrays: bool,
        zone: Option<&TimeZone>,
    ) -> Result<Self, ArrowError> {
        if array.is_null(row) {
            return Ok(Self::Null);
        }
        let time = |ms: i64| {
            let zoned = zone.and_then(|z| shown(ms, z, "Z"));
            Self::Text(zoned.unwrap_or_else(|| Timestamp::from_millis(ms).to_string()).into())
        };
        let day = |ms: i64| Self::Text(Timestamp::from_millis(ms).to_string().into());
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean().value(row)),
            DataType::Int8 => Self::Integer(array.as_primitive::<Int8Type>().value(row).into()),
            DataType::Int16 => Self::Integer(array.as_primitive::<Int16Type>().value(row).into()),
            DataType::Int32 => Self::Integer(array.as_primitive::<Int32Type>().value(row).into()),
            DataType::Int64 => Self::Integer(array.as_primitive::<Int64Type>().value(row)),
            DataType::UInt8 => Self::Unsigned(array.as_primitive::<UInt8Type>().value(row).into()),
            DataType::UInt16 => Self::Unsigned(array.as_primitive::<UInt16Type>().value(row).into()),
            DataType::UInt32 => Self::Unsigned(array.as_primitive::<UInt32Type>().value(row).into()),
            DataType::UInt64 => Self::Unsigned(array.as_primitive::<UInt64Type>().value(row)),
            DataType::Float32 => {
                let value = array.as_primitive::<Float32Type>().value(row);
                // Through its shortest text: 0.1 stays 0.1.
                Self::Double(value.to_string().parse().unwrap_or_else(|_| f64::from(value)))
            }
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().value(row).into()),
            DataType::LargeUtf8 => Self::Text(array.as_string::<i64>().value(row).into()),
            DataType::Utf8View => Self::Text(array.as_string_view().value(row).into()),
            DataType::Date32 => day(i64::from(array.as_primitive::<Date32Type>().value(row)).saturating_mul(DAY)),
            DataType::Date64 => day(array.as_primitive::<Date64Type>().value(row)),
            DataType::Timestamp(unit, _) => time(match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1000),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
                TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1000),
                TimeUnit::Nanosecond => {
                    array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000_000)
                }
            }),
            DataType::List(_) => Self::list(&array.as_list::<i32>().value(row), stringify_arrays)?,
            DataType::LargeList(_) => Self::list(&array.as_list::<i64>().value(row), stringify_arrays)?,
            DataType::FixedSizeList(..) => Self::list(&array.as_fixed_size_list().value(row), stringify_arrays)?,
            kind if kind.is_decimal() => Self::Json(array_value_to_string(array, row)?),
            _ => Self::Text(array_value_to_string(array, row)?.into()),
        })
    }

    fn list(items: &dyn Array, stringify: bool) -> Result<Self, ArrowError> {
        let mut out = vec![b'['];
        for i in 0..items.len() {
            if i > 0 {
                out.push(b',');
            }
            Cell::at(items, i, false, None)?.write_json(&mut out);
        }
        out.push(b']');
        let text = String::from_utf8_lossy(&out).into_owned();
        Ok(if stringify { Self::Text(text.into()) } else { Self::Json(text) })
    }

    /// Appends it as JSON. Not-a-number and the infinities are strings, as Druid writes them.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
            Self::Integer(n) => out.extend_from_slice(n.to_string().as_bytes()),
            Self::Unsigned(n) => out.extend_from_slice(n.to_string().as_bytes()),
            Self::Double(n) if n.is_finite() => write_value(n, out),
            Self::Double(n) => write_value(&not_finite(*n), out),
            Self::Text(text) => write_value(text, out),
            Self::Json(json) => out.extend_from_slice(json.as_bytes()),
        }
    }

    /// It as text for CSV; null is empty.
    pub(super) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Null => "".into(),
            Self::Text(text) => text,
            Self::Json(json) => json.into(),
            Self::Double(n) if !n.is_finite() => not_finite(n).into(),
            other => {
                let mut out = Vec::new();
                other.write_json(&mut out);
                String::from_utf8_lossy(&out).into_owned().into()
            }
        }
    }
}

const fn not_finite(n: f64) -> &'static str {
    if n.is_nan() {
        "NaN"
    } else if n > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Serialises text or a finite number.
pub(super) fn write_value<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Writing text or a number to memory cannot fail.
    serde_json::to_writer(out, value).unwrap_or_else(|e| unreachable!("a scalar is always JSON: {e}"));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use datafusion::arrow::array::*;

    use super::*;

    fn json(array: &dyn Array) -> String {
        let mut out = Vec::new();
        Cell::at(array, 0, true, None).unwrap().write_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_type_that_a_query_yields_has_its_json() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]);
        let cases: [(Arc<dyn Array>, &str); 14] = [
            (Arc::new(BooleanArray::from(vec![true])), "true"),
            (Arc::new(Int64Array::from(vec![i64::MIN])), "-9223372036854775808"),
            (Arc::new(UInt64Array::from(vec![u64::MAX])), "18446744073709551615"),
            (Arc::new(Float64Array::from(vec![1.0])), "1.0"),
            (Arc::new(Float64Array::from(vec![f64::NAN])), "\"NaN\""),
            (Arc::new(Float64Array::from(vec![f64::NEG_INFINITY])), "\"-Infinity\""),
            (Arc::new(Float32Array::from(vec![0.1])), "0.1"),
            (Arc::new(StringViewArray::from(vec!["a\"\n"])), "\"a\\\"\\n\""),
            (Arc::new(Int64Array::from(vec![None])), "null"),
            (Arc::new(TimestampNanosecondArray::from(vec![-1])), "\"1969-12-31T23:59:59.999Z\""),
            (Arc::new(TimestampMillisecondArray::from(vec![1500])), "\"1970-01-01T00:00:01.500Z\""),
            (Arc::new(Date32Array::from(vec![1])), "\"1970-01-02T00:00:00.000Z\""),
            (Arc::new(list), "\"[1,null]\""),
            (Arc::new(Decimal128Array::from(vec![125]).with_precision_and_scale(5, 2).unwrap()), "1.25"),
        ];
        for (array, expected) in &cases {
            assert_eq!(json(array.as_ref()), *expected, "{:?}", array.data_type());
        }
    }
}
