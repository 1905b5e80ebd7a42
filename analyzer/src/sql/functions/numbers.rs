//! Numbers: what Druid rounds, divides, compares bit by bit and shows to people.

use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;

use super::row::{Ask, Is, Kind, Shape};
use Kind::{Double, Number, Text, Whole};

/// All of them.
pub(super) const ALL: &[Shape] = &[
    Shape::new("safe_divide", &[Number, Number], Number, |_| {
        both(|a, b| a.checked_div(b), |a, b| (b != 0.0).then(|| a / b))
    }),
    Shape::new("div", &[Number, Number], Whole, |_| {
        both(|a, b| a.checked_div(b), |a, b| (b != 0.0).then(|| (a / b).trunc()))
    })
    .aliases(&["int_div"]),
    Shape::new("floor", &[Number], Number, |_| one(|n| n, f64::floor)),
    Shape::new("ceil", &[Number], Number, |_| one(|n| n, f64::ceil)).aliases(&["ceiling"]),
    Shape::new("round", &[Number, Whole], Number, |_| digits(f64::round)).least(1),
    Shape::new("trunc", &[Number, Whole], Number, |_| digits(f64::trunc)).least(1).aliases(&["truncate"]),
    Shape::new("abs", &[Number], Number, |_| one(i64::wrapping_abs, f64::abs)),
    Shape::new("power", &[Double, Double], Double, |_| doubles(f64::powf)).aliases(&["pow"]),
    Shape::new("bitwise_and", &[Whole, Whole], Whole, |_| bits(|a, b| a & b)),
    Shape::new("bitwise_or", &[Whole, Whole], Whole, |_| bits(|a, b| a | b)),
    Shape::new("bitwise_xor", &[Whole, Whole], Whole, |_| bits(|a, b| a ^ b)),
    // As Java shifts: by the last six bits.
    Shape::new("bitwise_shift_left", &[Whole, Whole], Whole, |_| bits(|a, b| a.wrapping_shl(b as u32))),
    Shape::new("bitwise_shift_right", &[Whole, Whole], Whole, |_| bits(|a, b| a.wrapping_shr(b as u32))),
    Shape::new("bitwise_complement", &[Whole], Whole, |_| {
        Ok(Box::new(|a| Ok(a[0].whole().map_or(Is::Null, |n| Is::Whole(!n)))))
    }),
    Shape::new("human_readable_binary_byte_format", &[Whole, Whole], Text, |_| human(1024.0, "iB", "B")).least(1),
    Shape::new("human_readable_decimal_byte_format", &[Whole, Whole], Text, |_| human(1000.0, "B", "B")).least(1),
    Shape::new("human_readable_decimal_format", &[Whole, Whole], Text, |_| human(1000.0, "", "")).least(1),
];

fn both(whole: fn(i64, i64) -> Option<i64>, double: fn(f64, f64) -> Option<f64>) -> Result<Ask> {
    Ok(Box::new(move |a| {
        Ok(match (&a[0], &a[1]) {
            (Is::Whole(x), Is::Whole(y)) => whole(*x, *y).map_or(Is::Null, Is::Whole),
            (x, y) => x.double().zip(y.double()).and_then(|(x, y)| double(x, y)).map_or(Is::Null, Is::Double),
        })
    }))
}

fn one(whole: fn(i64) -> i64, double: fn(f64) -> f64) -> Result<Ask> {
    Ok(Box::new(move |a| {
        Ok(match &a[0] {
            Is::Whole(n) => Is::Whole(whole(*n)),
            n => n.double().map_or(Is::Null, |n| Is::Double(double(n))),
        })
    }))
}

fn doubles(of: fn(f64, f64) -> f64) -> Result<Ask> {
    Ok(Box::new(move |a| Ok(a[0].double().zip(a[1].double()).map_or(Is::Null, |(x, y)| Is::Double(of(x, y))))))
}

fn bits(of: fn(i64, i64) -> i64) -> Result<Ask> {
    Ok(Box::new(move |a| Ok(a[0].whole().zip(a[1].whole()).map_or(Is::Null, |(x, y)| Is::Whole(of(x, y))))))
}

/// Rounds to so many decimal digits; a negative number of them rounds whole tens.
fn digits(round: fn(f64) -> f64) -> Result<Ask> {
    Ok(Box::new(move |a| {
        let places = a.get(1).and_then(Is::whole).unwrap_or(0);
        let places = i32::try_from(places.clamp(-18, 18)).unwrap_or(0);
        Ok(match &a[0] {
            Is::Whole(n) if places >= 0 => Is::Whole(*n),
            Is::Whole(n) => {
                let unit = 10_i64.checked_pow(places.unsigned_abs()).unwrap_or(i64::MAX);
                let rest = n % unit;
                let down = n - rest;
                // A half goes away from zero, if rounding does at all.
                let up = round(rest as f64 / unit as f64) as i64;
                Is::Whole(down.saturating_add(up.saturating_mul(unit)))
            }
            Is::Double(n) => {
                let scale = 10_f64.powi(places);
                let scaled = n * scale;
                Is::Double(if scaled.is_finite() { round(scaled) / scale } else { *n })
            }
            _ => Is::Null,
        })
    }))
}

/// `1.23 M`, `1.00 MiB`: two decimals, or as many as asked for, at most three.
fn human(step: f64, unit: &'static str, least: &'static str) -> Result<Ask> {
    Ok(Box::new(move |a| {
        let Some(number) = a[0].whole() else { return Ok(Is::Null) };
        let places = match a.get(1).and_then(Is::whole).unwrap_or(2) {
            p @ 0..=3 => p as usize,
            p => return Err(exec_datafusion_err!("Given precision [{p}] must be in the range of [0,3]")),
        };
        let (mut value, mut size) = (number as f64, None);
        for prefix in ["K", "M", "G", "T", "P", "E"] {
            if value.abs() < step {
                break;
            }
            value /= step;
            size = Some(prefix);
        }
        let text = match size {
            None if least.is_empty() => format!("{number}"),
            None => format!("{number} {least}"),
            Some(prefix) => format!("{value:.places$} {prefix}{unit}"),
        };
        Ok(Is::Text(text.into()))
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(name: &str, arguments: &[Is<'_>]) -> Is<'static> {
        let shape = ALL.iter().find(|s| s.name == name).unwrap();
        (shape.prepare)(&[]).unwrap()(arguments).unwrap()
    }

    #[test]
    fn whole_numbers_stay_whole_and_halves_go_away_from_zero() {
        assert_eq!(ask("round", &[Is::Whole(1250), Is::Whole(-2)]), Is::Whole(1300));
        assert_eq!(ask("round", &[Is::Whole(-1250), Is::Whole(-2)]), Is::Whole(-1300));
        assert_eq!(ask("trunc", &[Is::Whole(1299), Is::Whole(-2)]), Is::Whole(1200));
        assert_eq!(ask("round", &[Is::Double(-2.5)]), Is::Double(-3.0));
        assert_eq!(ask("safe_divide", &[Is::Whole(7), Is::Whole(0)]), Is::Null);
        assert_eq!(ask("safe_divide", &[Is::Whole(i64::MIN), Is::Whole(-1)]), Is::Null);
        assert_eq!(ask("bitwise_shift_left", &[Is::Whole(1), Is::Whole(64)]), Is::Whole(1));
        assert_eq!(ask("human_readable_decimal_byte_format", &[Is::Whole(-999)]), Is::Text("-999 B".into()));
    }
}
