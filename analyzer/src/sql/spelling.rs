//! Druid's spellings as what DataFusion plans: on the tree of one expression, after its parts. What has no counterpart
//! stays as it is, and the planner says that it does not know it.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, Interval, OrderByExpr,
    UnaryOperator, Value,
};
use jiff::tz::TimeZone;

use super::error::SqlError;
use super::functions::iso;
use super::request::{Parameter, Zone};
use super::statement::call;

type Rewritten = Result<Option<Expr>, SqlError>;

/// The expression in its other spelling, if it has one.
pub(super) fn rewritten(expr: &mut Expr, parameters: &[Parameter], zone: Option<&Zone>) -> Rewritten {
    match expr {
        Expr::Floor { expr, field: CeilFloorKind::DateTimeField(unit) } if *unit != DateTimeField::NoDateTime => {
            rounded("TIME_FLOOR", taken(expr), unit, zone).map(Some)
        }
        Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(unit) } if *unit != DateTimeField::NoDateTime => {
            rounded("TIME_CEIL", taken(expr), unit, zone).map(Some)
        }
        Expr::Extract { field, expr, .. } => {
            let mut arguments = vec![taken(expr), text(&field.to_string().to_uppercase())];
            arguments.extend(zone.map(|z| text(&z.name)));
            Ok(Some(call("TIME_EXTRACT", arguments)))
        }
        Expr::TypedString(typed) if matches!(typed.data_type, DataType::Timestamp(..)) => {
            Ok(typed.value.clone().into_string().and_then(|t| instant(&t, zone)))
        }
        Expr::Cast { expr, data_type, kind: kind @ CastKind::Cast, .. } => cast(expr, data_type, kind, zone),
        Expr::Interval(interval) => Ok(plain_interval(interval)),
        Expr::BinaryOp { left, op, right } if compares(op) => {
            let at = |text: &Expr| plain_text(text).and_then(|t| instant(&t, zone));
            if is_time(left)
                && let Some(at) = at(right)
            {
                **right = at;
            } else if is_time(right)
                && let Some(at) = at(left)
            {
                **left = at;
            }
            Ok(None)
        }
        Expr::Identifier(name) if name.quote_style.is_none() && name.value == "PI" => Ok(Some(call("pi", vec![]))),
        Expr::Function(function) => spelled(function, zone),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => {
                let number = name.strip_prefix('?').and_then(|n| n.parse::<usize>().ok());
                let bound = number.and_then(|n| parameters.get(n.checked_sub(1)?));
                let bound = bound.ok_or_else(|| SqlError::Invalid(format!("Parameter {name} is not bound")))?;
                Ok(Some(literal(bound)))
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn taken(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

fn whole(n: i64) -> Expr {
    let value = Expr::value(Value::Number(n.unsigned_abs().to_string(), false));
    if n < 0 { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(value) } } else { value }
}

fn time(ms: i64) -> Expr {
    call("MILLIS_TO_TIMESTAMP", vec![whole(ms)])
}

fn instant(given: &str, zone: Option<&Zone>) -> Option<Expr> {
    iso(given, zone.map_or(&TimeZone::UTC, |z| &z.zone)).map(time)
}

fn plain_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(t) => Some(t.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// The one column that is known to be a time before planning.
fn is_time(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(name) => name.value == "__time",
        Expr::CompoundIdentifier(names) => names.last().is_some_and(|n| n.value == "__time"),
        Expr::Function(f) => f.name.to_string().eq_ignore_ascii_case("MILLIS_TO_TIMESTAMP"),
        Expr::Nested(inner) => is_time(inner),
        _ => false,
    }
}

const fn compares(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

/// A text that is no number becomes null, as in Druid; a literal that is none stays an error.
fn cast(expr: &mut Box<Expr>, to: &DataType, kind: &mut CastKind, zone: Option<&Zone>) -> Rewritten {
    match to {
        DataType::Timestamp(..) => {
            let given = plain_text(expr).and_then(|t| instant(&t, zone));
            Ok(Some(given.unwrap_or_else(|| call("time_of", vec![taken(expr)]))))
        }
        DataType::BigInt(_) if is_time(expr) => Ok(Some(call("TIMESTAMP_TO_MILLIS", vec![taken(expr)]))),
        DataType::Varchar(_) if is_time(expr) => {
            let mut arguments = vec![taken(expr), text("yyyy-MM-dd HH:mm:ss")];
            arguments.extend(zone.map(|z| text(&z.name)));
            Ok(Some(call("TIME_FORMAT", arguments)))
        }
        _ => {
            if plain_text(expr).is_none() {
                *kind = CastKind::TryCast;
            }
            Ok(None)
        }
    }
}

fn rounded(function: &str, time: Expr, unit: &DateTimeField, zone: Option<&Zone>) -> Result<Expr, SqlError> {
    let period =
        period(&unit.to_string()).ok_or_else(|| SqlError::Invalid(format!("Cannot round a time to {unit}")))?;
    let mut arguments = vec![time, text(period)];
    if let Some(zone) = zone {
        arguments.extend([Expr::value(Value::Null), text(&zone.name)]);
    }
    Ok(call(function, arguments))
}

fn period(unit: &str) -> Option<&'static str> {
    let unit = unit.to_uppercase();
    Some(match unit.strip_prefix("SQL_TSI_").unwrap_or(&unit) {
        "SECOND" => "PT1S",
        "MINUTE" => "PT1M",
        "HOUR" => "PT1H",
        "DAY" => "P1D",
        "WEEK" => "P1W",
        "MONTH" => "P1M",
        "QUARTER" => "P3M",
        "YEAR" => "P1Y",
        _ => return None,
    })
}

/// `INTERVAL '1:30' MINUTE TO SECOND` as seconds.
fn plain_interval(interval: &Interval) -> Option<Expr> {
    let (Some(first), Some(last)) = (&interval.leading_field, &interval.last_field) else { return None };
    let units = ["DAY", "HOUR", "MINUTE", "SECOND"];
    let seconds = [86_400, 3600, 60, 1];
    let place = |f: &DateTimeField| units.iter().position(|u| *u == f.to_string().to_uppercase());
    let (first, last) = (place(first)?, place(last)?);
    let given = plain_text(&interval.value)?;
    let (sign, given) = given.strip_prefix('-').map_or((1, given.as_str()), |rest| (-1, rest));
    let numbers = given.split([' ', ':']).map(|n| n.parse::<i64>().ok()).collect::<Option<Vec<_>>>()?;
    if last < first || numbers.len() != last - first + 1 {
        return None;
    }
    let mut sum = 0_i64;
    for (number, unit) in numbers.iter().zip(&seconds[first..]) {
        sum = sum.checked_add(number.checked_mul(*unit)?)?;
    }
    Some(Expr::Interval(Interval {
        value: Box::new(text(&(sign * sum).to_string())),
        leading_field: Some(DateTimeField::Second),
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }))
}

fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    list.args
        .iter()
        .map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        })
        .collect()
}

/// A unit of time, which the parser takes for a column's name.
fn unit(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.to_uppercase()),
        other => plain_text(other).map(|t| t.to_uppercase()),
    }
}

fn spelled(function: &mut Function, zone: Option<&Zone>) -> Rewritten {
    let name = function.name.to_string().to_uppercase();
    let Some(given) = arguments(function) else { return Ok(None) };
    let null = || Expr::value(Value::Null);
    let is_distinct = is_distinct(function);
    let mut other = |name: &str, arguments: Vec<Expr>| {
        let Expr::Function(mut new) = call(name, arguments) else { return None };
        new.filter = function.filter.take();
        new.over = function.over.take();
        Some(Expr::Function(new))
    };
    let ordered = |expr: Option<Expr>, by: Expr| {
        expr.map(|mut e| {
            if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut e {
                list.clauses.push(FunctionArgumentClause::OrderBy(vec![OrderByExpr {
                    expr: by,
                    options: Default::default(),
                    with_fill: None,
                }]));
            }
            e
        })
    };
    let by_time = || Expr::Identifier(Ident::new("__time"));
    let one = |x: &Expr, n: i64| Expr::BinaryOp {
        left: Box::new(x.clone()),
        op: BinaryOperator::Plus,
        right: Box::new(whole(n)),
    };
    Ok(match (name.as_str(), given.as_slice()) {
        ("LATEST", [x, ..]) => ordered(other("last_value", vec![x.clone()]), by_time()),
        ("EARLIEST", [x, ..]) => ordered(other("first_value", vec![x.clone()]), by_time()),
        ("LATEST_BY", [x, by, ..]) => ordered(other("last_value", vec![x.clone()]), by.clone()),
        ("EARLIEST_BY", [x, by, ..]) => ordered(other("first_value", vec![x.clone()]), by.clone()),
        ("ANY_VALUE", [x, ..]) => other("first_value", vec![x.clone()]),
        // Exact: the states of an estimate would be as large at the sizes that one process holds.
        ("APPROX_COUNT_DISTINCT" | "APPROX_COUNT_DISTINCT_DS_HLL" | "APPROX_COUNT_DISTINCT_DS_THETA", [x, ..]) => {
            other("count", vec![x.clone()]).map(|mut e| {
                distinct(&mut e);
                e
            })
        }
        ("APPROX_QUANTILE_DS" | "APPROX_QUANTILE", [x, share, ..]) => {
            let double = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(x.clone()),
                data_type: DataType::Double(datafusion::sql::sqlparser::ast::ExactNumberInfo::None),
                array: false,
                format: None,
            };
            other("approx_percentile_cont", vec![double, share.clone()])
        }
        ("STRING_AGG" | "LISTAGG", [x, by, ..]) => {
            let made = other("string_agg", vec![x.clone(), by.clone()]);
            if is_distinct {
                ordered(made, x.clone()).map(|mut e| {
                    distinct(&mut e);
                    e
                })
            } else {
                made
            }
        }
        ("ARRAY_AGG", [x, ..]) if is_distinct => {
            ordered(other("array_agg", vec![x.clone()]), x.clone()).map(|mut e| {
                distinct(&mut e);
                e
            })
        }
        ("MOD", [a, b]) => Some(Expr::Nested(Box::new(Expr::BinaryOp {
            left: Box::new(a.clone()),
            op: BinaryOperator::Modulo,
            right: Box::new(b.clone()),
        }))),
        ("TIMESTAMPADD", [u, n, t]) => {
            let period = unit(u).as_deref().and_then(period);
            let period = period.ok_or_else(|| SqlError::Invalid(format!("TIMESTAMPADD: {u} is no unit of time")))?;
            let mut all = vec![t.clone(), text(period), n.clone()];
            all.extend(zone.map(|z| text(&z.name)));
            other("TIME_SHIFT", all)
        }
        ("TIMESTAMPDIFF", [u @ Expr::Identifier(_), from, to]) => {
            let u = unit(u).unwrap_or_default();
            other("TIMESTAMPDIFF", vec![text(&u), from.clone(), to.clone()])
        }
        ("DATE_TRUNC", [u, t]) => {
            let period = unit(u).as_deref().and_then(period);
            let period = period.ok_or_else(|| SqlError::Invalid(format!("DATE_TRUNC: {u} is no unit of time")))?;
            let mut all = vec![t.clone(), text(period)];
            if let Some(zone) = zone {
                all.extend([null(), text(&zone.name)]);
            }
            other("TIME_FLOOR", all)
        }
        ("ARRAY_CONTAINS", [a, x]) => other("array_has", vec![a.clone(), x.clone()]),
        ("ARRAY_OVERLAP", [a, b]) => other("array_has_any", vec![a.clone(), b.clone()]),
        ("ARRAY_OFFSET", [a, n]) => other("array_element", vec![a.clone(), one(n, 1)]),
        ("ARRAY_ORDINAL", [a, n]) => other("array_element", vec![a.clone(), n.clone()]),
        ("ARRAY_OFFSET_OF", [a, x]) => other("array_position", vec![a.clone(), x.clone()]).map(|p| {
            let p = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(p),
                data_type: DataType::BigInt(None),
                array: false,
                format: None,
            };
            Expr::Nested(Box::new(one(&p, -1)))
        }),
        ("ARRAY_ORDINAL_OF", [a, x]) => other("array_position", vec![a.clone(), x.clone()]),
        ("ARRAY_SLICE", [a, from, to]) => other("array_slice", vec![a.clone(), one(from, 1), to.clone()]),
        (_, given) if zone.is_some() => zone.and_then(|z| other(&name, zoned(&name, given.to_vec(), z)?)),
        _ => None,
    })
}

/// The arguments with the zone that the context sets, where the call says none.
fn zoned(name: &str, mut given: Vec<Expr>, zone: &Zone) -> Option<Vec<Expr>> {
    let place = match name {
        "TIME_FLOOR" | "TIME_CEIL" | "TIME_SHIFT" => 3,
        "TIME_EXTRACT" | "TIME_PARSE" | "TIME_FORMAT" => 2,
        _ => return None,
    };
    if given.is_empty() || given.len() > place {
        return None;
    }
    given.resize(place, Expr::value(Value::Null));
    given.push(text(&zone.name));
    Some(given)
}

fn is_distinct(function: &Function) -> bool {
    matches!(
        &function.args,
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment: Some(DuplicateTreatment::Distinct), .. })
    )
}

fn distinct(expr: &mut Expr) {
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = expr {
        list.duplicate_treatment = Some(DuplicateTreatment::Distinct);
    }
}

/// A bound value as a literal of the tree: it is never parsed as SQL.
fn literal(parameter: &Parameter) -> Expr {
    match parameter {
        Parameter::Null => Expr::value(Value::Null),
        Parameter::Boolean(b) => Expr::value(Value::Boolean(*b)),
        Parameter::Integer(n) => whole(*n),
        // With exponent, so that a whole number stays a DOUBLE.
        Parameter::Double(n) => {
            let value = Expr::value(Value::Number(format!("{:e}", n.abs()), false));
            if n.is_sign_negative() { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(value) } } else { value }
        }
        Parameter::Text(given) => text(given),
        Parameter::Time(at) => time(at.millis()),
    }
}
