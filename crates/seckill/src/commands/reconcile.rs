//! `seckill reconcile`: the shop's own book of orders held against ours, through the core's admin listener.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use types::{Role, SaleName};

use super::admin::{Admin, Answer};
use super::say;
use crate::cli::ReconcileArgs;
use crate::config::Config;

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
    let admin = Admin::new(config, &args.at, Role::Viewer, PATIENCE)?;
    let call = admin.call(Method::POST, "/v1/reconciliation").query(&[("sale", sale.as_str())]);
    // An answer that broke off is an error here, and never a short list.
    match admin.send(call.header("content-type", "text/csv").body(book)).await? {
        Answer::Done(text) => {
            say(text.trim_end());
            Ok(if text.lines().count() > 1 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Answer::Refused(status, text) => bail!("the comparison was answered {status}: {text}"),
    }
}
