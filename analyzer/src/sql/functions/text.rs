//! Text: lengths as Java counts them, regular expressions, and what only Druid calls so.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::Result;
use regex::Regex;

use super::row::{Ask, Is, Kind, Shape};
use Kind::{Flag, Text, Whole};

/// Longest text that a function may make: it is outside of what the memory limit sees.
const LONGEST: usize = 64 * 1024;

/// All of them.
pub(super) const ALL: &[Shape] = &[
    Shape::new("character_length", &[Text], Whole, |_| {
        // Java's characters: those beyond the first plane count twice.
        of_text(|t| Is::Whole(t.encode_utf16().count() as i64))
    })
    .aliases(&["char_length", "length", "strlen"]),
    Shape::new("contains_string", &[Text, Text], Flag, |_| two(|t, part| Is::Flag(t.contains(part)))),
    Shape::new("icontains_string", &[Text, Text], Flag, |_| {
        two(|t, part| Is::Flag(t.to_lowercase().contains(&part.to_lowercase())))
    }),
    Shape::new("concat", &[Text], Text, |_| joined()).more().aliases(&["textcat"]),
    Shape::new("repeat", &[Text, Whole], Text, |_| repeated()),
    Shape::new("lpad", &[Text, Whole, Text], Text, |_| padded(true)).least(2),
    Shape::new("rpad", &[Text, Whole, Text], Text, |_| padded(false)).least(2),
    Shape::new("decode_base64_utf8", &[Text], Text, |_| {
        of_text(|t| Is::of(BASE64_STANDARD.decode(t).ok().and_then(|b| String::from_utf8(b).ok())))
    }),
    Shape::new("parse_long", &[Text, Whole], Whole, |_| {
        Ok(Box::new(|a| {
            let radix = a.get(1).and_then(Is::whole).unwrap_or(10);
            let Some(radix @ 2..=36) = u32::try_from(radix).ok() else {
                return exec_err!("PARSE_LONG: the radix {radix} is not 2 to 36");
            };
            let parsed = a[0].text().and_then(|t| i64::from_str_radix(t, radix).ok());
            Ok(parsed.map_or(Is::Null, Is::Whole))
        }))
    })
    .least(1),
    Shape::new("string_format", &[Text, Text], Text, |_| Ok(Box::new(formatted))).least(1).more().lenient(),
    Shape::new("regexp_extract", &[Text, Text, Whole], Text, extract).least(2).lenient(),
    Shape::new("regexp_like", &[Text, Text], Flag, |literals| {
        let pattern = pattern("REGEXP_LIKE", literals)?;
        of_text(move |t| Is::Flag(pattern.is_match(t)))
    }),
    Shape::new("regexp_replace", &[Text, Text, Text], Text, |literals| {
        let pattern = pattern("REGEXP_REPLACE", literals)?;
        Ok(Box::new(move |a| {
            let (Some(text), Some(with)) = (a[0].text(), a[2].text()) else { return Ok(Is::Null) };
            // Java's `$1` ends at the digit; the regex crate reads a name as long as it can.
            let with = braced(with);
            Ok(Is::Text(pattern.replace_all(text, with.as_str()).into_owned().into()))
        }))
    }),
];

fn of_text(of: impl Fn(&str) -> Is<'static> + 'static) -> Result<Ask> {
    Ok(Box::new(move |a| Ok(a[0].text().map_or(Is::Null, &of))))
}

fn two(of: fn(&str, &str) -> Is<'static>) -> Result<Ask> {
    Ok(Box::new(move |a| Ok(a[0].text().zip(a[1].text()).map_or(Is::Null, |(x, y)| of(x, y)))))
}

fn joined() -> Result<Ask> {
    Ok(Box::new(|a| Ok(Is::Text(a.iter().filter_map(Is::text).collect::<String>().into()))))
}

fn bounded(name: &str, length: i64) -> Result<usize> {
    match usize::try_from(length.max(0)) {
        Ok(length) if length <= LONGEST => Ok(length),
        _ => exec_err!("{name} would make a text of {length} characters; at most {LONGEST}"),
    }
}

fn repeated() -> Result<Ask> {
    Ok(Box::new(|a| {
        let (Some(text), Some(times)) = (a[0].text(), a[1].whole()) else { return Ok(Is::Null) };
        bounded("REPEAT", times.max(0).saturating_mul(text.len() as i64))?;
        Ok(Is::Text(text.repeat(times.max(0) as usize).into()))
    }))
}

fn padded(left: bool) -> Result<Ask> {
    Ok(Box::new(move |a| {
        let (Some(text), Some(length)) = (a[0].text(), a[1].whole()) else { return Ok(Is::Null) };
        let length = bounded(if left { "LPAD" } else { "RPAD" }, length)?;
        let with = a.get(2).and_then(Is::text).unwrap_or(" ");
        let missing = length.saturating_sub(text.chars().count());
        let pad = with.chars().cycle().take(if with.is_empty() { 0 } else { missing });
        let out: String = if left {
            pad.chain(text.chars().take(length)).collect()
        } else {
            text.chars().take(length).chain(pad).collect()
        };
        Ok(Is::Text(out.into()))
    }))
}

/// The pattern, which must be a literal: it is compiled once.
fn pattern(name: &str, literals: &[Option<Is<'_>>]) -> Result<Regex> {
    let Some(Some(Is::Text(text))) = literals.get(1) else {
        return exec_err!("the pattern of {name} must be a literal");
    };
    regex::RegexBuilder::new(text)
        .size_limit(1 << 20)
        .build()
        .map_err(|e| exec_datafusion_err!("{name}: {text:?} is not a regular expression: {e}"))
}

fn extract(literals: &[Option<Is<'_>>]) -> Result<Ask> {
    let pattern = pattern("REGEXP_EXTRACT", literals)?;
    Ok(Box::new(move |a| {
        let group = usize::try_from(a.get(2).and_then(Is::whole).unwrap_or(0)).unwrap_or(usize::MAX);
        let found = a[0].text().and_then(|t| pattern.captures(t)).and_then(|c| c.get(group));
        Ok(Is::of(found.map(|m| m.as_str().to_owned())))
    }))
}

fn braced(with: &str) -> String {
    let mut out = String::with_capacity(with.len());
    let mut rest = with.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('$', Some(d)) if d.is_ascii_digit() => {
                out.push_str(&format!("${{{d}}}"));
                rest.next();
            }
            ('\\', Some('$')) => {
                out.push_str("$$");
                rest.next();
            }
            _ => out.push(c),
        }
    }
    out
}

/// Java's `%s`, `%d`, `%.2f`, `%%`; another conversion is refused.
fn formatted(arguments: &[Is<'_>]) -> Result<Is<'static>> {
    let Some(format) = arguments[0].text() else { return Ok(Is::Null) };
    let mut values = arguments[1..].iter();
    let (mut out, mut rest) = (String::new(), format);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let spec = &rest[at + 1..];
        let digits = spec.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (width, conversion) = (&spec[..digits], spec[digits..].chars().next());
        rest = conversion.map_or("", |c| &spec[digits + c.len_utf8()..]);
        if conversion == Some('%') {
            out.push('%');
            continue;
        }
        let value =
            values.next().ok_or_else(|| exec_datafusion_err!("STRING_FORMAT: a value is missing for {format:?}"))?;
        let text = value.text().unwrap_or("null");
        match conversion {
            Some('s' | 'd') if width.is_empty() => out.push_str(text),
            Some('s' | 'd') => {
                let zero = width.starts_with('0');
                let width = bounded("STRING_FORMAT", width.parse().unwrap_or(i64::MAX))?;
                out.push_str(&if zero { format!("{text:0>width$}") } else { format!("{text:>width$}") });
            }
            Some('f') => {
                let places = width.split_once('.').map_or(Ok(6), |(_, p)| p.parse::<usize>());
                let (Ok(places @ 0..=20), Ok(number)) = (places, text.parse::<f64>()) else {
                    return exec_err!("STRING_FORMAT: cannot write {text:?} as %{width}f");
                };
                out.push_str(&format!("{number:.places$}"));
            }
            _ => return exec_err!("STRING_FORMAT: unknown conversion in {format:?}; use %s, %d, %.2f or %%"),
        }
    }
    out.push_str(rest);
    Ok(Is::Text(out.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn t(text: &str) -> Is<'_> {
        Is::Text(text.into())
    }

    #[test]
    fn formats_are_javas_or_refused() {
        let says = |arguments: &[Is<'_>]| formatted(arguments).map(|v| v.text().unwrap_or("null").to_owned()).ok();
        assert_eq!(says(&[t("%s is %05d at 100%%"), t("a"), t("42")]).as_deref(), Some("a is 00042 at 100%"));
        assert_eq!(says(&[t("%.2f"), t("2.345")]).as_deref(), Some("2.35"));
        assert_eq!(says(&[t("%s")]), None);
        assert_eq!(says(&[t("%x"), t("1")]), None);
        assert_eq!(says(&[t("%99999999s"), t("1")]), None);
    }

    #[test]
    fn no_function_makes_much_out_of_little() {
        let pad = padded(true).unwrap();
        assert!(pad(&[t("x"), Is::Whole(1 << 40), t("y")]).is_err());
        assert_eq!(pad(&[t("x"), Is::Whole(3), t("")]).unwrap(), t("x"));
        assert!(repeated().unwrap()(&[t("xx"), Is::Whole(i64::MAX)]).is_err());
        assert_eq!(braced("$1x$2 \\$1"), "${1}x${2} $$1");
    }
}
