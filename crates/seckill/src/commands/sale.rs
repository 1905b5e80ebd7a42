//! `seckill sale`: the core's admin listener from the command line.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use types::{Role, SaleName};

use super::say;
use crate::cli::{AdminArgs, SaleCommand};
use crate::config::Config;
use crate::identity;

/// Life of the token that a call makes for itself: long, because a demo with `--speed` runs ahead of this clock.
const TOKEN_LIFE: Duration = Duration::from_secs(8 * 3600);
/// How long the admin listener may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends the call and prints the answer; a refusal ends with 1.
pub async fn run(config: &Config, command: SaleCommand) -> anyhow::Result<ExitCode> {
    match command {
        SaleCommand::Apply { file, at } => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let body = sale_body(&text).with_context(|| file.display().to_string())?;
            let name = body.get("name").and_then(|n| n.as_str()).unwrap_or_default().to_owned();
            call(config, &at, reqwest::Method::PUT, &format!("/v1/sales/{name}"), Some(body)).await
        }
        SaleCommand::Ls { at } => call(config, &at, reqwest::Method::GET, "/v1/sales", None).await,
        SaleCommand::Pause { sale, at } => change(config, &at, &sale, "pause").await,
        SaleCommand::Resume { sale, at } => change(config, &at, &sale, "resume").await,
        SaleCommand::Close { sale, at } => change(config, &at, &sale, "close").await,
    }
}

/// A `sale.toml` as the JSON body that the admin listener takes; checked here too, so that a mistake is
/// explained before anything is sent.
pub fn sale_body(text: &str) -> anyhow::Result<serde_json::Value> {
    let value: toml::Value = toml::from_str(text)?;
    types::SaleSpec::deserialize(value.clone())??;
    Ok(serde_json::to_value(value)?)
}

async fn change(config: &Config, at: &AdminArgs, sale: &str, verb: &str) -> anyhow::Result<ExitCode> {
    let sale = SaleName::new(sale)?;
    call(config, at, reqwest::Method::POST, &format!("/v1/sales/{sale}/{verb}"), None).await
}

async fn call(
    config: &Config,
    at: &AdminArgs,
    method: reqwest::Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> anyhow::Result<ExitCode> {
    let token = match &at.token {
        Some(token) => token.clone(),
        None => identity::local_token(config, "command-line", &[Role::Merchandiser], TOKEN_LIFE)?,
    };
    let url = format!("{}{path}", at.admin.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let mut request = client.request(method, &url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.with_context(|| format!("cannot reach the admin listener at {url}"))?;
    let status = response.status();
    let text = response.text().await?;
    if status.is_server_error() {
        bail!("{url} answered {status}: {text}");
    }
    say(match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(json) => serde_json::to_string_pretty(&json)?,
        Err(_) => text,
    });
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
