//! `seckill reconcile`: the shop's own book of orders held against ours, through the core's admin listener.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use types::{Role, SaleName};

use super::say;
use crate::cli::ReconcileArgs;
use crate::config::Config;
use crate::identity;

/// Life of the token that the call makes for itself: long, because a demo with `--speed` runs ahead of this clock.
const TOKEN_LIFE: Duration = Duration::from_secs(8 * 3600);
/// How long a comparison may take: a few seconds for a million orders.
const PATIENCE: Duration = Duration::from_secs(600);

/// Prints the differences as CSV; 1 if there are any.
pub async fn run(config: &Config, args: ReconcileArgs) -> anyhow::Result<ExitCode> {
    let sale = SaleName::new(&args.sale)?;
    let mut book = Vec::new();
    if args.book.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut book)?;
    } else {
        book = std::fs::read(&args.book).with_context(|| format!("cannot read {}", args.book.display()))?;
    }
    let token = match args.at.token {
        Some(token) => token,
        None => identity::local_token(config, "command-line", &[Role::Viewer], TOKEN_LIFE)?,
    };
    let url = format!("{}/v1/reconciliation", args.at.admin.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let call = client.post(&url).query(&[("sale", sale.as_str())]).header("content-type", "text/csv").body(book);
    let answer = call.bearer_auth(token).send().await;
    let answer = answer.with_context(|| format!("cannot reach the admin listener at {url}"))?;
    let status = answer.status();
    // An answer that broke off is an error here, and never a short list.
    let text = answer.text().await.context("the answer broke off")?;
    if !status.is_success() {
        bail!("{url} answered {status}: {text}");
    }
    say(text.trim_end());
    Ok(if text.lines().count() > 1 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
