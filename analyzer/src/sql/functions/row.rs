//! The common frame of functions that answer row by row: arguments are cast to plain kinds, a function prepares itself
//! once per batch from the arguments that are literals, and is then asked for each row.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::super::tables::TIME;
use super::time::is_time;

/// What an argument or an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Milliseconds.
    Time,
    Text,
    Whole,
    Double,
    Flag,
    /// `Whole` if all arguments of this kind are whole numbers, else `Double`.
    Number,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Is<'a> {
    Null,
    Time(i64),
    Text(Cow<'a, str>),
    Whole(i64),
    Double(f64),
    Flag(bool),
}

impl<'a> Is<'a> {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(t) => Some(t),
            _ => None,
        }
    }
    /// A whole number or a time's milliseconds.
    pub(super) const fn whole(&self) -> Option<i64> {
        match self {
            Self::Whole(n) | Self::Time(n) => Some(*n),
            _ => None,
        }
    }
    pub(super) const fn double(&self) -> Option<f64> {
        match self {
            Self::Double(n) => Some(*n),
            Self::Whole(n) => Some(*n as f64),
            _ => None,
        }
    }
    /// A text, or null.
    pub(super) fn of(text: Option<String>) -> Is<'static> {
        text.map_or(Is::Null, |t| Is::Text(t.into()))
    }
}

/// Asked for each row, with as many values as there are arguments.
pub(super) type Ask = Box<dyn Fn(&[Is<'_>]) -> Result<Is<'static>>>;

/// A function by its parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// Kinds of the arguments; the last one again for more than these if `more`.
    pub takes: &'static [Kind],
    pub least: usize,
    pub more: bool,
    pub gives: Kind,
    /// Whether a null argument makes a null answer without asking.
    pub strict: bool,
    /// Gets the arguments that are literals, null where they are not.
    pub prepare: fn(&[Option<Is<'_>>]) -> Result<Ask>,
}

impl Shape {
    /// A function of fixed arguments, null for null.
    pub(super) const fn new(
        name: &'static str,
        takes: &'static [Kind],
        gives: Kind,
        prepare: fn(&[Option<Is<'_>>]) -> Result<Ask>,
    ) -> Self {
        Self { name, aliases: &[], takes, least: takes.len(), more: false, gives, strict: true, prepare }
    }
    /// At least so many arguments.
    pub(super) const fn least(mut self, least: usize) -> Self {
        self.least = least;
        self
    }
    /// Any number of arguments of the last kind.
    pub(super) const fn more(mut self) -> Self {
        self.more = true;
        self
    }
    /// Is asked for nulls too.
    pub(super) const fn lenient(mut self) -> Self {
        self.strict = false;
        self
    }
    /// Other names.
    pub(super) const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// The frame itself.
#[derive(Debug)]
pub(super) struct RowFunction {
    shape: Shape,
    signature: Signature,
    aliases: Vec<String>,
}

impl PartialEq for RowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.shape.name == other.shape.name
    }
}

impl Eq for RowFunction {}

impl std::hash::Hash for RowFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.shape.name.hash(state);
    }
}

impl RowFunction {
    pub(super) fn new(shape: Shape) -> Self {
        let aliases = shape.aliases.iter().map(|a| (*a).to_owned()).collect();
        Self { shape, signature: Signature::user_defined(Volatility::Immutable), aliases }
    }

    fn kind(&self, at: usize) -> Kind {
        let takes = self.shape.takes;
        takes.get(at).or(takes.last()).copied().unwrap_or(Kind::Text)
    }

    fn whole(&self, given: &[DataType]) -> bool {
        given.iter().enumerate().all(|(i, k)| self.kind(i) != Kind::Number || k.is_integer())
    }
}

const fn arrow(kind: Kind, whole: bool) -> DataType {
    match kind {
        Kind::Time => TIME,
        Kind::Text => DataType::Utf8,
        Kind::Whole => DataType::Int64,
        Kind::Double => DataType::Float64,
        Kind::Flag => DataType::Boolean,
        Kind::Number => {
            if whole {
                DataType::Int64
            } else {
                DataType::Float64
            }
        }
    }
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &str {
        self.shape.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.shape.name.to_uppercase();
        let (least, most) = (self.shape.least, if self.shape.more { usize::MAX } else { self.shape.takes.len() });
        if given.len() < least || given.len() > most {
            return plan_err!("Invalid number of arguments to function '{name}'. Was expecting {least} arguments");
        }
        let whole = self.whole(given);
        for (i, g) in given.iter().enumerate() {
            let fits = match self.kind(i) {
                Kind::Time => is_time(g),
                // Everything has a text.
                Kind::Text => true,
                Kind::Whole | Kind::Double | Kind::Number => g.is_numeric() || g.is_null() || g.is_string(),
                Kind::Flag => matches!(g, DataType::Boolean | DataType::Null),
            };
            if !fits {
                return plan_err!("Cannot apply '{name}' to arguments of type {g}");
            }
        }
        Ok((0..given.len()).map(|i| arrow(self.kind(i), whole)).collect())
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(arrow(self.shape.gives, self.whole(given)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let literals: Vec<Option<Is<'_>>> = args
            .args
            .iter()
            .map(|a| match a {
                ColumnarValue::Scalar(value) => Some(literal(value)),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let ask = (self.shape.prepare)(&literals)?;
        let scalar = literals.iter().all(Option::is_some);
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        // Without arguments one row stands for all.
        let rows = if scalar { 1 } else { args.number_rows };
        let kind = args.return_type();
        let mut out = Builder::new(kind, rows);
        let mut row = Vec::with_capacity(arrays.len());
        for at in 0..rows {
            row.clear();
            row.extend(arrays.iter().map(|a| value(a, at)));
            let null = self.shape.strict && row.contains(&Is::Null);
            out.push(if null { Is::Null } else { ask(&row)? });
        }
        let array = out.finish();
        Ok(if scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }
}

fn literal(value: &ScalarValue) -> Is<'_> {
    match value {
        ScalarValue::Utf8(Some(t)) => Is::Text(t.as_str().into()),
        ScalarValue::Int64(Some(n)) => Is::Whole(*n),
        ScalarValue::Float64(Some(n)) => Is::Double(*n),
        ScalarValue::TimestampMillisecond(Some(n), _) => Is::Time(*n),
        ScalarValue::Boolean(Some(b)) => Is::Flag(*b),
        _ => Is::Null,
    }
}

fn value(array: &ArrayRef, at: usize) -> Is<'_> {
    if array.is_null(at) {
        return Is::Null;
    }
    match array.data_type() {
        DataType::Utf8 => Is::Text(array.as_string::<i32>().value(at).into()),
        DataType::Int64 => Is::Whole(array.as_primitive::<Int64Type>().value(at)),
        DataType::Float64 => Is::Double(array.as_primitive::<Float64Type>().value(at)),
        DataType::Timestamp(..) => Is::Time(array.as_primitive::<TimestampMillisecondType>().value(at)),
        DataType::Boolean => Is::Flag(array.as_boolean().value(at)),
        _ => Is::Null,
    }
}

enum Builder {
    Time(TimestampMillisecondBuilder),
    Text(StringBuilder),
    Whole(Int64Builder),
    Double(Float64Builder),
    Flag(BooleanBuilder),
}

impl Builder {
    fn new(kind: &DataType, rows: usize) -> Self {
        match kind {
            DataType::Timestamp(..) => Self::Time(TimestampMillisecondBuilder::with_capacity(rows)),
            DataType::Int64 => Self::Whole(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Self::Double(Float64Builder::with_capacity(rows)),
            DataType::Boolean => Self::Flag(BooleanBuilder::with_capacity(rows)),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn push(&mut self, value: Is<'_>) {
        match self {
            Self::Time(b) => b.append_option(value.whole()),
            Self::Text(b) => b.append_option(value.text()),
            Self::Whole(b) => b.append_option(value.whole()),
            Self::Double(b) => b.append_option(value.double()),
            Self::Flag(b) => b.append_option(if let Is::Flag(f) = value { Some(f) } else { None }),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Time(mut b) => Arc::new(b.finish()),
            Self::Text(mut b) => Arc::new(b.finish()),
            Self::Whole(mut b) => Arc::new(b.finish()),
            Self::Double(mut b) => Arc::new(b.finish()),
            Self::Flag(mut b) => Arc::new(b.finish()),
        }
    }
}
