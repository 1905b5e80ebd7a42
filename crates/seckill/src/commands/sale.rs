//! `seckill sale`: sales administered through a core's admin listener. What is possible is the core's to say; only a
//! file that no core would take is refused here.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use types::{Role, SaleName};

use super::admin::{Admin, show};
use super::table::lay_out;
use crate::cli::{AdminCall, SaleCommand};
use crate::config::Config;

/// How long the admin listener may take to answer: a close waits up to 5 s for leases to come home.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends the call and prints the answer; a refusal ends with 1.
pub async fn run(config: &Config, command: SaleCommand) -> anyhow::Result<ExitCode> {
    match command {
        SaleCommand::Apply { file, call } => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let body = match sale_body(&text) {
                Ok(body) => body,
                Err(error) => {
                    eprintln!("refused: {}: {error:#}", file.display());
                    return Ok(ExitCode::FAILURE);
                }
            };
            let name = body.get("name").and_then(|n| n.as_str()).unwrap_or_default().to_owned();
            send(config, &call, Role::Merchandiser, Method::PUT, &format!("/v1/sales/{name}"), Some(&body), state).await
        }
        SaleCommand::Ls { call } => send(config, &call, Role::Viewer, Method::GET, "/v1/sales", None, list).await,
        SaleCommand::Show { sale, call } => {
            let path = format!("/v1/sales/{}", SaleName::new(&sale)?);
            send(config, &call, Role::Viewer, Method::GET, &path, None, detail).await
        }
        SaleCommand::Pause { sale, call } => change(config, &call, &sale, "pause", None).await,
        SaleCommand::Resume { sale, call } => change(config, &call, &sale, "resume", None).await,
        SaleCommand::Close { sale, call } => change(config, &call, &sale, "close", None).await,
        SaleCommand::Clone { sale, name, opens, closes, zone, sku_suffix, call } => {
            let mut wish = json!({"name": name, "opens": opens, "closes": closes});
            for (field, value) in [("zone", zone), ("sku_suffix", sku_suffix)] {
                if let Some(value) = value {
                    wish[field] = value.into();
                }
            }
            change(config, &call, &sale, "clone", Some(&wish)).await
        }
    }
}

/// A `sale.toml` as the JSON body that the admin listener takes; checked here too, so that a mistake is
/// explained before anything is sent.
pub fn sale_body(text: &str) -> anyhow::Result<Value> {
    let value: toml::Value = toml::from_str(text)?;
    types::SaleSpec::deserialize(value.clone())??;
    Ok(serde_json::to_value(value)?)
}

async fn change(
    config: &Config,
    call: &AdminCall,
    sale: &str,
    verb: &str,
    body: Option<&Value>,
) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/sales/{}/{verb}", SaleName::new(sale)?);
    send(config, call, Role::Merchandiser, Method::POST, &path, body, state).await
}

async fn send(
    config: &Config,
    call: &AdminCall,
    role: Role,
    method: Method,
    path: &str,
    body: Option<&Value>,
    table: fn(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(config, &call.at, role, PATIENCE)?;
    let mut request = admin.call(method, path);
    if let Some(body) = body {
        request = request.json(body);
    }
    show(&admin.send(request).await?, call.output, None, table)
}

/// Text of a member, without the quotes of JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn state(body: &Value) -> String {
    format!("{} is {}", text(&body["sale"]), text(&body["state"]))
}

fn list(body: &Value) -> String {
    let sales = body["sales"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<_> = sales
        .iter()
        .map(|sale| {
            let products = sale["products"].as_array().map(Vec::as_slice).unwrap_or_default();
            let sum = |field: &str| products.iter().filter_map(|p| p[field].as_u64()).sum::<u64>().to_string();
            [
                text(&sale["sale"]),
                text(&sale["state"]),
                text(&sale["opens"]),
                text(&sale["closes"]),
                products.len().to_string(),
                sum("total"),
                sum("sellable"),
                sum("reserved"),
                sum("sold"),
            ]
        })
        .collect();
    lay_out(["SALE", "STATE", "OPENS", "CLOSES", "PRODUCTS", "TOTAL", "SELLABLE", "RESERVED", "SOLD"], &rows)
}

/// A sale's window on its own zone's clocks, and its products.
fn detail(sale: &Value) -> String {
    let products = sale["products"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<_> = products
        .iter()
        .map(|p| {
            let price = format!("{} {}", text(&p["price"]["amount"]), text(&p["price"]["currency"]));
            let [product, name, limit, tier] = ["product", "name", "limit", "tier"].map(|field| text(&p[field]));
            let [total, sellable, reserved, sold] =
                ["total", "sellable", "reserved", "sold"].map(|field| text(&p[field]));
            [product, name, price, limit, tier, total, sellable, reserved, sold]
        })
        .collect();
    let window =
        |utc: &str, local: &str| format!("{} ({} in {})", text(&sale[utc]), text(&sale[local]), text(&sale["zone"]));
    format!(
        "{}\nopens   {}\ncloses  {}\n\n{}",
        state(sale),
        window("opens", "opens_local"),
        window("closes", "closes_local"),
        lay_out(["SKU", "NAME", "PRICE", "LIMIT", "TIER", "TOTAL", "SELLABLE", "RESERVED", "SOLD"], &rows)
    )
}
