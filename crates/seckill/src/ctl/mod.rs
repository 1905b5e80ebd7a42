//! `seckill ctl`: ops' command line on the control plane's REST. It orders nothing that the REST does not, and prints
//! what the REST answers.

pub mod args;
mod replay;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::CommandFactory as _;
use reqwest::Method;
use serde_json::{Value, json};
use types::Role;

use crate::cli::Cli;
use crate::commands::say;
use crate::config::Config;
use crate::identity::local_token;
use args::{CtlArgs, CtlCommand, Output, OverrideCommand, PauseArgs, PolicyCommand};
use table::{Column, table};

/// Life of the token that a call makes for itself: long, because a demo with `--speed` runs ahead of this clock.
const TOKEN_LIFE: Duration = Duration::from_secs(8 * 3600);
/// How long the control plane may take to answer: it waits up to 5 s itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an order is sent on to the leader that a stand-by names.
const HOPS: usize = 3;

const PLAN: &[Column] = &[
    ("PRODUCT", "product"),
    ("TIER", "tier"),
    ("REASON", "reason"),
    ("SINCE", "since"),
    ("ENFORCED", "enforced"),
    ("PAUSED", "paused"),
    ("5 S", "evidence.count5"),
    ("60 S", "evidence.count60"),
    ("ATTEMPTS/S", "evidence.attempts_per_s"),
    ("SELLABLE", "evidence.sellable"),
];
const GENERATIONS: &[Column] = &[
    ("GENERATION", "generation"),
    ("AT", "at"),
    ("TERM", "term"),
    ("PRODUCTS", "products"),
    ("DB REDIS QUEUE", "tiers"),
];
const DECISIONS: &[Column] =
    &[("SINCE", "since"), ("TIER", "tier"), ("REASON", "reason"), ("GENERATION", "generation")];
const OVERRIDES: &[Column] = &[
    ("PRODUCT", "product"),
    ("TIER", "tier"),
    ("UNTIL", "until"),
    ("BY", "by"),
    ("REASON", "reason"),
    ("APPLIED", "applied"),
];
const PAUSES: &[Column] = &[("KIND", "kind"), ("NAME", "name"), ("SINCE", "at"), ("BY", "by"), ("REASON", "why")];
const CORES: &[Column] = &[
    ("CORE", "core"),
    ("URL", "base_url"),
    ("FRESH", "fresh"),
    ("GENERATION", "generation"),
    ("ACKNOWLEDGED", "acknowledged"),
    ("TERM", "term"),
    ("PRODUCTS", "products"),
    ("DRAINING", "draining"),
    ("TROUBLE", "trouble.error"),
];
const LEADER: &[Column] =
    &[("HOLDER", "holder"), ("TERM", "term"), ("URL", "url"), ("RENEWED", "renewed_at"), ("ANSWERS", "leads")];
const AUDIT: &[Column] = &[
    ("ID", "id"),
    ("AT", "at"),
    ("ACTOR", "actor"),
    ("ACTION", "action"),
    ("PRODUCT", "product"),
    ("GENERATION", "generation"),
    ("WHY", "why"),
];
const VERSIONS: &[Column] = &[("VERSION", "version"), ("AT", "at"), ("BY", "by"), ("WHY", "why")];
const DIFFERS: &[Column] = &[("NUMBER", "field"), ("FROM", "from"), ("TO", "to")];
const MOVES: &[Column] = &[("PRODUCT", "product"), ("FROM", "from"), ("TO", "to"), ("REASON", "reason")];

/// Sends the call and prints the answer; a refusal ends with 1.
pub async fn run(config: &Config, args: CtlArgs) -> anyhow::Result<ExitCode> {
    let CtlArgs { control, token, output, command } = args;
    if let CtlCommand::Completions { shell } = command {
        clap_complete::generate(shell, &mut Cli::command(), "seckill", &mut std::io::stdout());
        return Ok(ExitCode::SUCCESS);
    }
    if let CtlCommand::Replay { file, policy } = &command {
        return replay::run(file, policy, output);
    }
    let desk = Desk::open(config, control, token, output)?;
    match command {
        CtlCommand::Plan { product: None } => desk.plan().await,
        CtlCommand::Plan { product: Some(product) } => {
            desk.rows(&format!("/v1/plan?product={product}"), "products", PLAN).await
        }
        CtlCommand::Generations { limit } => {
            desk.rows(&format!("/v1/plan/generations?limit={limit}"), "generations", GENERATIONS).await
        }
        CtlCommand::Why { product } => desk.why(&product).await,
        CtlCommand::Override(command) => desk.overrides(command).await,
        CtlCommand::Freeze { off: true, .. } => desk.order(Method::DELETE, "/v1/freeze", None, &[]).await,
        CtlCommand::Freeze { reason, .. } => {
            desk.order(Method::PUT, "/v1/freeze", Some(json!({ "reason": reason })), &[]).await
        }
        CtlCommand::Pause(args) => desk.pause(args).await,
        CtlCommand::Policy(command) => desk.policy(command).await,
        CtlCommand::Cores => desk.rows("/v1/cores", "cores", CORES).await,
        CtlCommand::Leader => desk.order(Method::GET, "/v1/leader", None, LEADER).await,
        CtlCommand::Audit { since, limit } => {
            let since = since.map_or_else(String::new, |since| format!("&since={since}"));
            desk.rows(&format!("/v1/audit?limit={limit}{since}"), "rows", AUDIT).await
        }
        CtlCommand::Completions { .. } | CtlCommand::Replay { .. } => Ok(ExitCode::SUCCESS),
    }
}

/// Where calls go, as whom, and how answers look.
struct Desk {
    control: String,
    token: String,
    output: Output,
    client: reqwest::Client,
}

/// An answer: whether it is one of success, and its body.
type Answer = (bool, Value);

impl Desk {
    fn open(config: &Config, control: String, token: Option<String>, output: Output) -> anyhow::Result<Self> {
        let token = match token {
            Some(token) => token,
            None => local_token(config, "command-line", &[Role::Operator], TOKEN_LIFE)?,
        };
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { control: control.trim_end_matches('/').to_owned(), token, output, client })
    }

    /// Calls, and follows a stand-by to the leader that it names.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let mut at = self.control.clone();
        for _ in 0..HOPS {
            let url = format!("{at}{path}");
            let mut request = self.client.request(method.clone(), &url).bearer_auth(&self.token);
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.with_context(|| format!("cannot reach the control plane at {url}"))?;
            let good = response.status().is_success();
            let text = response.text().await?;
            let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            match body["leader"].as_str().filter(|url| body["type"] == "/problems/standby" && !url.is_empty()) {
                Some(leader) => at = leader.trim_end_matches('/').to_owned(),
                None => return Ok((good, body)),
            }
        }
        bail!("the control planes send each other's orders around: none leads at the moment; try again")
    }

    /// Prints an answer: `rows` under `columns`, or the whole as it is.
    fn print(&self, (good, body): Answer, rows: Option<&str>, columns: &[Column]) -> anyhow::Result<ExitCode> {
        if !good {
            return self.refused(&body);
        }
        let single = [body.clone()];
        match (self.output, rows.and_then(|name| body[name].as_array())) {
            (Output::Table, Some(rows)) if !columns.is_empty() => say(table(rows, columns)),
            (Output::Table, None) if !columns.is_empty() => say(table(&single, columns)),
            _ => say(&serde_json::to_string_pretty(&body)?),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn refused(&self, body: &Value) -> anyhow::Result<ExitCode> {
        match self.output {
            Output::Json => say(&serde_json::to_string_pretty(body)?),
            Output::Table => {
                let part = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
                let field = body["field"].as_str().map(|field| format!(" ({field})")).unwrap_or_default();
                say(format!("refused: {}{field}: {}", part("title"), part("detail")));
            }
        }
        Ok(ExitCode::FAILURE)
    }

    async fn rows(&self, path: &str, rows: &str, columns: &[Column]) -> anyhow::Result<ExitCode> {
        let answer = self.call(Method::GET, path, None).await?;
        self.print(answer, Some(rows), columns)
    }

    async fn order(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        columns: &[Column],
    ) -> anyhow::Result<ExitCode> {
        let answer = self.call(method, path, body.as_ref()).await?;
        self.print(answer, None, columns)
    }

    /// The whole plan, page by page.
    async fn plan(&self) -> anyhow::Result<ExitCode> {
        let (mut products, mut after) = (Vec::new(), String::new());
        loop {
            let (good, mut body) = self.call(Method::GET, &format!("/v1/plan?limit=10000{after}"), None).await?;
            if !good {
                return self.refused(&body);
            }
            if let Some(page) = body["products"].as_array_mut() {
                products.append(page);
            }
            match body["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => {
                    body["products"] = Value::Array(products);
                    return self.print((true, body), Some("products"), PLAN);
                }
            }
        }
    }

    async fn why(&self, product: &str) -> anyhow::Result<ExitCode> {
        let (good, body) = self.call(Method::GET, &format!("/v1/why/{product}"), None).await?;
        if !good || self.output == Output::Json {
            return self.print((good, body), None, &[]);
        }
        if let Some(frozen) = body["frozen"].as_object() {
            say(format!("automatic moves are stopped: {}", frozen["why"].as_str().unwrap_or_default()));
        }
        let now = &body["now"];
        let part = |name: &str| now[name].as_str().unwrap_or("-").to_owned();
        say(format!("{product} sells on {} ({}): {}", part("tier"), part("reason"), part("because")));
        let paused = if body["paused"] == true { ", paused" } else { "" };
        say(format!("enforced: {}{paused}\n", body["enforced"].as_str().unwrap_or("-")));
        let empty = Vec::new();
        let decisions = body["decisions"].as_array().unwrap_or(&empty);
        say(table(decisions, DECISIONS));
        say("");
        for decision in decisions {
            let text = |name: &str| decision[name].as_str().unwrap_or("-").to_owned();
            say(format!("{}  {}", text("since"), text("because")));
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn overrides(&self, command: OverrideCommand) -> anyhow::Result<ExitCode> {
        match command {
            OverrideCommand::Set { product, tier, ttl, reason, wait } => {
                let path = format!("/v1/overrides/{product}{}", if wait { "?wait=applied" } else { "" });
                let body = json!({ "tier": tier, "ttl": ttl, "reason": reason });
                self.order(Method::PUT, &path, Some(body), OVERRIDES).await
            }
            OverrideCommand::Rm { product } => {
                let columns = &[("PRODUCT", "product"), ("GENERATION", "generation")];
                self.order(Method::DELETE, &format!("/v1/overrides/{product}"), None, columns).await
            }
            OverrideCommand::Ls => self.rows("/v1/overrides", "overrides", OVERRIDES).await,
        }
    }

    async fn pause(&self, args: PauseArgs) -> anyhow::Result<ExitCode> {
        let path = match (&args.sale, &args.product) {
            (Some(sale), _) => format!("/v1/sales/{sale}/pause?wait=applied"),
            (None, Some(product)) => format!("/v1/products/{product}/pause?wait=applied"),
            (None, None) => return self.rows("/v1/pauses", "paused", PAUSES).await,
        };
        let columns = &[
            ("KIND", "kind"),
            ("NAME", "name"),
            ("PAUSED", "paused"),
            ("APPLIED", "applied"),
            ("GENERATION", "generation"),
        ];
        if args.off {
            return self.order(Method::DELETE, &path, None, columns).await;
        }
        let reason = args.reason.context("--reason: say why, for those who read the audit log")?;
        self.order(Method::PUT, &path, Some(json!({ "reason": reason })), columns).await
    }

    async fn policy(&self, command: PolicyCommand) -> anyhow::Result<ExitCode> {
        match command {
            PolicyCommand::Show => {
                let (good, body) = self.call(Method::GET, "/v1/policy", None).await?;
                if !good || self.output == Output::Json {
                    return self.print((good, body), None, &[]);
                }
                say(format!("# version {}\n{}", body["version"], toml::to_string(&body["policy"])?.trim_end()));
                Ok(ExitCode::SUCCESS)
            }
            PolicyCommand::Diff { file } => {
                let order = json!({ "policy": policy_file(&file)?, "reason": "a dry run" });
                let (good, body) = self.call(Method::PUT, "/v1/policy?dry_run=true", Some(&order)).await?;
                if !good || self.output == Output::Json {
                    return self.print((good, body), None, &[]);
                }
                let empty = Vec::new();
                let of = |name: &str| body[name].as_array().unwrap_or(&empty);
                say(format!("{}\n", table(of("differs"), DIFFERS)));
                say(table(of("would_move"), MOVES));
                Ok(ExitCode::SUCCESS)
            }
            PolicyCommand::Apply { file, reason } => {
                let order = json!({ "policy": policy_file(&file)?, "reason": reason });
                self.order(Method::PUT, "/v1/policy", Some(order), &[("VERSION", "version")]).await
            }
            PolicyCommand::Versions => self.rows("/v1/policy/versions", "versions", VERSIONS).await,
        }
    }
}

/// A policy as TOML; the control plane checks its numbers.
fn policy_file(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let value: toml::Value = toml::from_str(&text).with_context(|| file.display().to_string())?;
    Ok(serde_json::to_value(value)?)
}
