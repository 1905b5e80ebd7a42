//! SQL types of output columns as Calcite names them where Arrow's types say less: `INTEGER` for small whole numbers,
//! `CHAR` for literals, `DECIMAL` for digits with a point. Names only: values are not touched.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SelectItem,
    SetExpr, UnaryOperator, Value,
};

use super::request::Parameter;

/// What is known of an expression's type before planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Null,
    Integer,
    Bigint,
    Decimal,
    Double,
    Char,
    Varchar,
    /// Whatever Arrow says.
    Other,
}

/// The names of the outermost columns, `None` where Arrow's type says it all; empty if there is a `*`.
pub(super) fn names(query: &Query, parameters: &[Parameter]) -> Vec<Option<&'static str>> {
    let mut body = &*query.body;
    loop {
        match body {
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => body = &inner.body,
            SetExpr::Select(select) => {
                let item = |i: &SelectItem| match i {
                    SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => {
                        Some(known(e, parameters))
                    }
                    _ => None,
                };
                let all: Option<Vec<Known>> = select.projection.iter().map(item).collect();
                return all.unwrap_or_default().into_iter().map(name).collect();
            }
            _ => return Vec::new(),
        }
    }
}

const fn name(known: Known) -> Option<&'static str> {
    match known {
        Known::Integer => Some("INTEGER"),
        Known::Decimal => Some("DECIMAL"),
        Known::Char => Some("CHAR"),
        _ => None,
    }
}

fn known(expr: &Expr, parameters: &[Parameter]) -> Known {
    let of = |e: &Expr| known(e, parameters);
    match expr {
        Expr::Nested(inner) => of(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => of(expr),
        Expr::Value(v) => match &v.value {
            Value::Null => Known::Null,
            Value::Number(n, _) if n.contains(['e', 'E']) => Known::Double,
            Value::Number(n, _) if n.contains('.') => Known::Decimal,
            Value::Number(n, _) if n.parse::<i32>().is_ok() => Known::Integer,
            Value::Number(..) => Known::Bigint,
            Value::SingleQuotedString(t) if t.is_empty() => Known::Varchar,
            Value::SingleQuotedString(_) => Known::Char,
            Value::Placeholder(p) => {
                let number = p.strip_prefix('?').and_then(|n| n.parse::<usize>().ok());
                match number.and_then(|n| parameters.get(n.checked_sub(1)?)) {
                    Some(Parameter::Integer(n)) if i32::try_from(*n).is_ok() => Known::Integer,
                    Some(Parameter::Text(_)) => Known::Char,
                    _ => Known::Other,
                }
            }
            _ => Known::Other,
        },
        Expr::Identifier(name) if name.value == "PI" => Known::Double,
        // A column; but for a share, tables hold whole numbers and texts.
        Expr::Identifier(name) => column(&name.value),
        Expr::CompoundIdentifier(names) => names.last().map_or(Known::Other, |n| column(&n.value)),
        Expr::BinaryOp {
            left,
            op:
                BinaryOperator::Plus
                | BinaryOperator::Minus
                | BinaryOperator::Multiply
                | BinaryOperator::Divide
                | BinaryOperator::Modulo,
            right,
        } => both(of(left), of(right)),
        Expr::Case { conditions, else_result, .. } => {
            let results = conditions.iter().map(|c| of(&c.result)).chain(else_result.as_deref().map(of));
            common(results)
        }
        Expr::Floor { expr, .. } | Expr::Ceil { expr, .. } => match of(expr) {
            k @ (Known::Integer | Known::Decimal) => k,
            _ => Known::Other,
        },
        Expr::Position { .. } => Known::Integer,
        Expr::Cast { data_type, .. } => match data_type {
            DataType::Integer(_) | DataType::Int(_) => Known::Integer,
            DataType::BigInt(_) => Known::Bigint,
            DataType::Decimal(_) | DataType::Numeric(_) => Known::Decimal,
            DataType::Double(_) | DataType::Float(_) | DataType::Real => Known::Double,
            _ => Known::Other,
        },
        Expr::Subquery(query) => names(query, parameters).first().map_or(Known::Other, |n| {
            n.map_or(Known::Bigint, |n| if n == "DECIMAL" { Known::Decimal } else { Known::Other })
        }),
        Expr::Function(function) => of_function(function, parameters),
        _ => Known::Other,
    }
}

fn column(name: &str) -> Known {
    if name == "share" { Known::Double } else { Known::Bigint }
}

fn both(a: Known, b: Known) -> Known {
    match (a, b) {
        (Known::Integer, Known::Integer) => Known::Integer,
        (Known::Double, _) | (_, Known::Double) => Known::Double,
        (Known::Decimal, Known::Integer | Known::Bigint | Known::Decimal)
        | (Known::Integer | Known::Bigint, Known::Decimal) => Known::Decimal,
        (Known::Bigint, Known::Integer | Known::Bigint) | (Known::Integer, Known::Bigint) => Known::Bigint,
        _ => Known::Other,
    }
}

/// The type that all have; nulls have every type.
fn common(all: impl Iterator<Item = Known>) -> Known {
    let mut all = all.filter(|k| *k != Known::Null);
    let Some(first) = all.next() else { return Known::Null };
    if all.all(|k| k == first) { first } else { Known::Other }
}

fn of_function(function: &Function, parameters: &[Parameter]) -> Known {
    let FunctionArguments::List(list) = &function.args else { return Known::Other };
    let all: Vec<Known> = list
        .args
        .iter()
        .map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => known(e, parameters),
            _ => Known::Other,
        })
        .collect();
    let first = all.first().copied().unwrap_or(Known::Other);
    match function.name.to_string().to_uppercase().as_str() {
        "LENGTH" | "CHAR_LENGTH" | "CHARACTER_LENGTH" | "STRLEN" | "STRPOS" | "TIMESTAMPDIFF" | "ARRAY_LENGTH"
        | "ARRAY_OFFSET_OF" | "ARRAY_ORDINAL_OF" | "MV_LENGTH" => Known::Integer,
        "SUM" if first == Known::Decimal => Known::Double,
        "SUM" | "COUNT" | "DIV" | "MIN" | "MAX" | "GREATEST" | "LEAST"
            if first != Known::Char && first != Known::Double =>
        {
            Known::Bigint
        }
        "GREATEST" | "LEAST" => first,
        "AVG" | "POWER" | "SQRT" | "EXP" | "LN" | "LOG10" | "SIN" | "COS" | "TAN" | "ATAN2" | "DEGREES" | "RADIANS" => {
            Known::Double
        }
        "ABS" | "ROUND" | "TRUNC" | "TRUNCATE" | "CEIL" | "FLOOR" | "UPPER" | "LOWER" => match first {
            k @ (Known::Integer | Known::Decimal | Known::Char) => k,
            _ => Known::Other,
        },
        "MOD" | "SAFE_DIVIDE" => both(first, all.get(1).copied().unwrap_or(Known::Other)),
        "NVL" | "COALESCE" | "NULLIF" => common(all.into_iter()),
        _ => Known::Other,
    }
}
