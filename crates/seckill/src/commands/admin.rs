//! The one way from the command line to a core's admin listener: whose token is sent, how long to wait, what a refusal
//! looks like. It decides nothing about sales.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use types::Role;

use super::say;
use crate::cli::{AdminArgs, Output};
use crate::config::Config;
use crate::identity::local_token;

/// Life of the token that a call makes for itself: long, because a demo with `--speed` runs ahead of this clock.
const TOKEN_LIFE: Duration = Duration::from_secs(8 * 3600);
/// As whom a call is made that brings no token.
const SUBJECT: &str = "command-line";

/// The admin listener, as one role.
pub struct Admin {
    http: Client,
    base: String,
    token: String,
}

/// What the listener answered: done, or refused for a reason that is the caller's to mend.
pub enum Answer {
    /// 2xx.
    Done(String),
    /// 4xx.
    Refused(StatusCode, String),
}

impl Admin {
    /// Calls with the token that is given, or with one of the built-in issuer of the data directory.
    pub fn new(config: &Config, at: &AdminArgs, role: Role, patience: Duration) -> anyhow::Result<Self> {
        let token = match &at.token {
            Some(token) => token.clone(),
            None => local_token(config, SUBJECT, &[role], TOKEN_LIFE)?,
        };
        let http = Client::builder().timeout(patience).build()?;
        Ok(Self { http, base: at.admin.trim_end_matches('/').to_owned(), token })
    }

    /// A call to be completed and sent.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Sends it. What is nobody's fault here (nobody listens, 5xx, an answer that broke off) is an error.
    pub async fn send(&self, call: RequestBuilder) -> anyhow::Result<Answer> {
        let unreached = || format!("cannot reach the admin listener at {}", self.base);
        let answer = call.send().await.with_context(unreached)?;
        let (status, url) = (answer.status(), answer.url().clone());
        let text = answer.text().await.context("the answer broke off")?;
        if status.is_success() {
            Ok(Answer::Done(text))
        } else if status.is_client_error() {
            Ok(Answer::Refused(status, text))
        } else {
            bail!("{url} answered {status}: {}", explained(&text))
        }
    }
}

/// Prints an answer: JSON as it came, or by `table`; `file` is what the rows of a refusal are rows of. 0 done,
/// 1 refused.
pub fn show(
    answer: &Answer,
    output: Output,
    file: Option<&Path>,
    table: impl FnOnce(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    match (answer, output) {
        (Answer::Done(text), Output::Table) => {
            let body = serde_json::from_str(text).with_context(|| format!("not a core's answer: {text}"))?;
            say(table(&body));
        }
        (Answer::Refused(_, text), Output::Table) => eprintln!("{}", refusal(text, file)),
        (Answer::Done(text) | Answer::Refused(_, text), Output::Json) => say(pretty(text)),
    }
    Ok(if matches!(answer, Answer::Done(_)) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn pretty(text: &str) -> String {
    let body: Result<Value, _> = serde_json::from_str(text);
    body.and_then(|body| serde_json::to_string_pretty(&body)).unwrap_or_else(|_| text.to_owned())
}

/// A problem in a line: what, and its stable name.
fn explained(text: &str) -> String {
    let Ok(body) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    let member = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let kind = member("type").trim_start_matches("/problems/").to_owned();
    format!("{} ({kind})", member("detail"))
}

/// A refusal, and each wrong row as compilers write it: `file:line: column: why`.
fn refusal(text: &str, file: Option<&Path>) -> String {
    let mut said = format!("refused: {}", explained(text));
    let Ok(body) = serde_json::from_str::<Value>(text) else { return said };
    let name = file.map_or_else(|| "the file".to_owned(), |file| file.display().to_string());
    for error in body["errors"].as_array().into_iter().flatten() {
        let (column, why) = (error["column"].as_str().unwrap_or_default(), error["why"].as_str().unwrap_or_default());
        let column = if column.is_empty() { String::new() } else { format!("{column}: ") };
        let _ = write!(said, "\n{name}:{}: {column}{why}", error["row"]);
    }
    if let Some(more) = body["more"].as_u64().filter(|more| *more > 0) {
        let _ = write!(said, "\n… and {more} more");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_row_is_a_line_that_an_editor_can_jump_to() {
        let body = serde_json::json!({"type": "/problems/invalid-rows", "title": "x", "status": 422,
            "detail": "3 rows or cells are wrong; nothing was changed", "more": 1,
            "errors": [{"row": 3, "column": "price", "why": "\"-1\" is negative"}, {"row": 5, "column": "", "why": "has 2 cells"}]});
        insta::assert_snapshot!(refusal(&body.to_string(), Some(Path::new("new.csv"))), @r#"
        refused: 3 rows or cells are wrong; nothing was changed (invalid-rows)
        new.csv:3: price: "-1" is negative
        new.csv:5: has 2 cells
        … and 1 more
        "#);
        assert_eq!(refusal("gateway", None), "refused: gateway");
    }
}
