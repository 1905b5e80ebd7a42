//! `seckill all-in-one`: the four services in one process on embedded parts, following the shop's own log.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use types::{BuyerId, Role, SystemClock};

use super::{sale, say};
use crate::cli::AllInOneArgs;
use crate::config::{Config, Mode};
use crate::house::House;
use crate::shutdown;

/// Runs until a signal, or for the given time.
pub async fn run(mut config: Config, args: AllInOneArgs) -> anyhow::Result<ExitCode> {
    config.collector.paths = args.logs.clone();
    config.collector.from_start |= args.from_start;
    anyhow::ensure!(
        args.sale.is_none() || config.mode == Mode::Demo,
        "--sale: in production apply it with a token of your issuer: seckill sale apply FILE --token …"
    );
    let house = House::open(config, Arc::new(SystemClock::new()), args.any_port).await?;
    shutdown::on_signal(house.shutdown.clone())?;
    if let Some(file) = &args.sale {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let body = sale::sale_body(&text).with_context(|| file.display().to_string())?;
        apply_sale(&house, &body).await?;
    }
    for line in addresses(&house) {
        say(line);
    }
    match args.run_for {
        Some(time) => {
            tokio::select! {
                () = house.shutdown.cancelled() => {}
                () = tokio::time::sleep(time) => {}
            }
        }
        None => house.shutdown.cancelled().await,
    }
    let collector = house.collector.clone();
    house.close().await?;
    let accounting = collector.accounting();
    say(format!("lines: {}", serde_json::to_string(&accounting)?));
    anyhow::ensure!(accounting.adds_up(), "the collector's accounting does not add up; this is a defect");
    Ok(ExitCode::SUCCESS)
}

/// Sends a sale to the running core, as `seckill sale apply` does.
pub async fn apply_sale(house: &House, body: &serde_json::Value) -> anyhow::Result<()> {
    let name = body.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
    let token = token(house, "sale-administration", &[Role::Merchandiser])?;
    let url = format!("http://{}/v1/sales/{name}", house.core.admin());
    let response = reqwest::Client::new().put(&url).bearer_auth(token).json(body).send().await?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "the sale was refused: {status}: {}", response.text().await?);
    Ok(())
}

/// A token of the built-in issuer, good for eight hours.
pub fn token(house: &House, subject: &str, roles: &[Role]) -> anyhow::Result<String> {
    house.issuer.issue(&BuyerId::new(subject)?, roles, std::time::Duration::from_secs(8 * 3600))
}

/// Where to reach what.
pub fn addresses(house: &House) -> Vec<String> {
    let analytics = house.analyzer.address();
    let mut lines = vec![
        format!("shoppers        http://{}/v1/sales", house.core.public()),
        format!("administration  http://{}/v1/sales", house.core.admin()),
        format!("analytics       http://{analytics}/v1/top"),
        format!("operations      http://{}/v1/plan", house.control_plane.address()),
        format!("metrics         http://{}/metrics", house.core.private()),
    ];
    if analytics.ip().is_loopback() {
        lines.push(format!("live page       http://{analytics}/"));
    }
    lines
}
