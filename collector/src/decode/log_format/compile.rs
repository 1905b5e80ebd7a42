//! A format's text to its steps; each way in which it cannot be used is said in words.

use types::Invalid;

use super::{Escape, Format, LogFormat, MAX_FORMAT, Step, Variable};

/// What [`combined`](super::super::combined) reads, and quicker.
const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;

fn wrong(why: impl std::fmt::Display) -> Invalid {
    Invalid::new("log_format", why.to_string())
}

pub(super) fn compile(text: &str) -> Result<Format, Invalid> {
    if text.len() > MAX_FORMAT {
        return Err(wrong(format!("has {} bytes; at most {MAX_FORMAT} are read", text.len())));
    }
    let (escape, format) = directive(text)?;
    if !format.contains('$') {
        return Err(wrong(format!(
            "{text:?} is neither auto, combined, edge nor a format with variables like $request"
        )));
    }
    let steps = steps(&format)?;
    check(&steps)?;
    let behind = format.strip_prefix(COMBINED);
    let visitor = steps.contains(&Step::Field(Variable::Visitor));
    if escape == Escape::Default && !visitor && behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')) {
        return Ok(Format::Combined);
    }
    Ok(Format::Custom(LogFormat { steps, escape }))
}

/// The string and its escaping, out of a whole directive or alone.
fn directive(text: &str) -> Result<(Escape, String), Invalid> {
    let Some(rest) = text.strip_prefix("log_format ") else {
        let (escape, rest) = escape(text.trim_start())?;
        return Ok((escape, rest.to_owned()));
    };
    let rest = rest.trim_start();
    let (_, rest) = rest.split_once(|c: char| c.is_ascii_whitespace()).ok_or_else(|| wrong("has no string"))?;
    let (escape, rest) = escape(rest.trim_start())?;
    let mut rest = rest.trim().strip_suffix(';').unwrap_or(rest).trim();
    let mut format = String::new();
    while let Some(quote @ ('\'' | '"')) = rest.chars().next() {
        let mut closed = None;
        let mut characters = rest.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => match characters.next() {
                    Some((_, c @ ('\'' | '"' | '\\'))) => format.push(c),
                    Some((_, c)) => format.extend(['\\', c]),
                    None => break,
                },
                c if c == quote => {
                    closed = Some(at + 1);
                    break;
                }
                c => format.push(c),
            }
        }
        rest = rest[closed.ok_or_else(|| wrong("has a string without its end"))?..].trim_start();
    }
    if rest.is_empty() {
        Ok((escape, format))
    } else {
        Err(wrong(format!("has something between its strings: {rest:?}")))
    }
}

fn escape(text: &str) -> Result<(Escape, &str), Invalid> {
    let Some(rest) = text.strip_prefix("escape=") else { return Ok((Escape::Default, text)) };
    let (name, rest) = rest.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((rest, ""));
    let escape = match name {
        "default" => Escape::Default,
        "json" => Escape::Json,
        "none" => Escape::None,
        other => return Err(wrong(format!("has escape={other}; Nginx knows default, json and none"))),
    };
    Ok((escape, rest.trim_start()))
}

fn steps(format: &str) -> Result<Vec<Step>, Invalid> {
    let mut steps: Vec<Step> = Vec::new();
    let mut literal = Vec::new();
    let mut last = "";
    let mut rest = format;
    while !rest.is_empty() {
        let Some(at) = rest.find('$') else {
            literal.extend_from_slice(rest.as_bytes());
            break;
        };
        literal.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let braced = rest.strip_prefix('{');
        let name = braced.unwrap_or(rest);
        let length = name.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let (name, behind) = name.split_at(length);
        rest = match braced {
            Some(_) => behind.strip_prefix('}').ok_or_else(|| wrong("has a ${ without its }"))?,
            None => behind,
        };
        if name.is_empty() {
            return Err(wrong("has a $ without a variable's name"));
        }
        if !literal.is_empty() {
            steps.push(Step::Literal(std::mem::take(&mut literal)));
        } else if matches!(steps.last(), Some(Step::Field(_))) {
            return Err(wrong(format!("has ${last} and ${name} side by side: nobody can tell where one ends")));
        }
        let mut variable = variable(name);
        let again = |variable| steps.contains(&Step::Field(variable));
        // The request tells all; of two visitors or times the first one counts.
        if again(variable) || (again(Variable::Time) && variable == Variable::Seconds) {
            variable = Variable::Other;
        }
        steps.push(Step::Field(variable));
        last = name;
    }
    if !literal.is_empty() {
        steps.push(Step::Literal(literal));
    }
    // A line names its client once: by its address, or else by the list that a proxy sent.
    if steps.contains(&Step::Field(Variable::Address)) {
        replace(&mut steps, &[Variable::Forwarded], Variable::List);
    }
    if steps.contains(&Step::Field(Variable::Request)) {
        replace(&mut steps, &[Variable::Method, Variable::Target], Variable::Other);
    }
    Ok(steps)
}

fn replace(steps: &mut [Step], these: &[Variable], by: Variable) {
    for step in steps {
        if matches!(step, Step::Field(variable) if these.contains(variable)) {
            *step = Step::Field(by);
        }
    }
}

fn variable(name: &str) -> Variable {
    match name {
        "remote_addr" | "realip_remote_addr" => Variable::Address,
        "http_x_forwarded_for" | "proxy_add_x_forwarded_for" => Variable::Forwarded,
        "time_local" | "time_iso8601" => Variable::Time,
        "msec" => Variable::Seconds,
        "request" => Variable::Request,
        "request_method" => Variable::Method,
        "request_uri" | "uri" | "document_uri" => Variable::Target,
        "status" => Variable::Status,
        "body_bytes_sent" | "bytes_sent" => Variable::Size,
        "http_user_agent" => Variable::Agent,
        "visitor" | "uid_got" | "http_authorization" => Variable::Visitor,
        _ if name.starts_with("cookie_") => Variable::Visitor,
        _ if name.starts_with("upstream_") => Variable::List,
        _ => Variable::Other,
    }
}

/// Whether everything is there that an event needs.
fn check(steps: &[Step]) -> Result<(), Invalid> {
    let has = |variables: &[Variable]| variables.iter().any(|variable| steps.contains(&Step::Field(*variable)));
    if !has(&[Variable::Time, Variable::Seconds]) {
        return Err(wrong("has no time: add $time_local, $time_iso8601 or $msec"));
    }
    if !has(&[Variable::Request, Variable::Target]) {
        return Err(wrong("has no path: add $request, $request_uri or $uri"));
    }
    if !has(&[Variable::Request, Variable::Method]) {
        return Err(wrong("has no method: add $request or $request_method"));
    }
    if !has(&[Variable::Status]) {
        return Err(wrong("has no status: add $status"));
    }
    if !has(&[Variable::Address, Variable::Forwarded, Variable::Visitor]) {
        return Err(wrong("names no visitor: add $remote_addr, or a cookie like $cookie_session"));
    }
    Ok(())
}
