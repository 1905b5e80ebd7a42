//! Callbacks at a steady rate, sent when they are due whether or not earlier ones were answered, and the time until
//! each is pushed to its shopper: at the core that took it, or at another one.

use std::time::Duration;

use anyhow::{Context, ensure};
use bench::child::{Core, SALE, SECRET};
use bench::tokens::Tokens;
use futures::StreamExt;
use hashbrown::HashMap;
use hdrhistogram::Histogram;
use seckill_core::CallbackKeys;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use types::{Clock, Role, SystemClock};

use super::sockets::Sockets;
use crate::area::Settings;
use crate::figure::{Bar, Figure};

/// Payments a second.
const RATE: u64 = 500;
/// Shoppers; each has a connection, and as many orders as there are payments for each.
const BUYERS: usize = 1_000;
/// Purchases at once while orders are made.
const AT_ONCE: usize = 64;
/// Longest wait for the last push.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it: orders are made at the first core, callbacks go there, shoppers are spread over all.
pub async fn measure(settings: &Settings, cores: &[Core], place: &str) -> anyhow::Result<Vec<Figure>> {
    let seconds = if settings.quick { 5 } else { 20 };
    let count = usize::try_from(RATE * seconds)?;
    let products: Vec<_> = (0..8).map(|n| (format!("live-{n}"), 1_000_000)).collect();
    cores[0].sell(&products)?;
    let tokens = Tokens::new(SECRET);
    let buyers: Vec<(String, String)> = (0..BUYERS)
        .map(|n| {
            let name = format!("payer-{n}");
            Ok((name.clone(), tokens.issue(&name, Role::Shopper)?))
        })
        .collect::<anyhow::Result<_>>()?;
    settings.say(&format!("{count} orders of {BUYERS} shoppers ({place})"));
    let http = reqwest::Client::new();
    let orders = make_orders(&http, cores, &buyers, count).await?;
    let mut sockets = Sockets::new(cores.iter().map(|core| core.at.public).collect());
    sockets.open_all(buyers, AT_ONCE).await?;

    settings.say(&format!("{RATE} payments a second for {seconds} s, {} core(s)", cores.len()));
    let keys = CallbackKeys::new(SECRET, None)?;
    let url = format!("http://{}/v1/payments/callback", cores[0].at.public);
    let begun = Instant::now() + Duration::from_millis(200);
    let (mut sending, mut due) = (JoinSet::new(), HashMap::new());
    let clock = SystemClock::new();
    for (n, (order, amount)) in orders.into_iter().enumerate() {
        let at = begun + Duration::from_micros(n as u64 * 1_000_000 / RATE);
        tokio::time::sleep_until(at).await;
        let body = json!({"payment": format!("{:032x}", rand::random::<u128>()), "order": order, "amount": amount,
            "currency": "EUR", "status": "paid"})
        .to_string();
        let signature = keys.sign(clock.now(), body.as_bytes());
        let call = http.post(&url).header("x-payment-signature", signature).header("content-type", "application/json");
        let call = call.body(body);
        // Its time begins when it is due, not when this machine gets round to it.
        due.insert(order, at);
        sending.spawn(async move {
            let answer = call.send().await;
            (answer.is_ok_and(|a| a.status().is_success()), at.elapsed())
        });
    }
    let (mut answered, mut refused) = (Histogram::<u64>::new(3)?, 0);
    while let Some(sent) = sending.join_next().await {
        let (good, time) = sent?;
        answered.record(u64::try_from(time.as_micros())?)?;
        refused += u64::from(!good);
    }
    ensure!(refused == 0, "{refused} callbacks were not taken");
    let took = begun.elapsed().as_secs_f64();
    let mut pushed = Histogram::<u64>::new(3)?;
    let deadline = Instant::now() + PATIENCE;
    while !due.is_empty() {
        let Ok(Some((order, state, at))) = tokio::time::timeout_at(deadline, sockets.pushed.recv()).await else {
            break;
        };
        if state == "paid"
            && let Some(sent) = due.remove(&order)
        {
            pushed.record(u64::try_from(at.saturating_duration_since(sent).as_micros())?)?;
        }
    }
    let ms = |of: &Histogram<u64>, share: f64| vec![of.value_at_quantile(share) as f64 / 1_000.0];
    let name = |what: &str| format!("callback to pushed update, {place}, {RATE}/s, {what}");
    Ok(vec![
        Figure::new(name("p50"), "ms", ms(&pushed, 0.5)),
        Figure::new(name("p99"), "ms", ms(&pushed, 0.99)).bar(Bar::AtMost(300.0)),
        Figure::new(name("worst"), "ms", ms(&pushed, 1.0)),
        Figure::new(name("answered, p99"), "ms", ms(&answered, 0.99)),
        Figure::new(name("payments sent"), "1/s", vec![count as f64 / took]),
        Figure::new(name("pushes missed"), "events", vec![due.len() as f64]).bar(Bar::AtMost(0.0)),
    ])
}

/// Orders, each with its amount, in turns over the buyers.
async fn make_orders(
    http: &reqwest::Client,
    cores: &[Core],
    buyers: &[(String, String)],
    count: usize,
) -> anyhow::Result<Vec<(String, u64)>> {
    let calls = (0..count).map(|n| {
        let url = format!("http://{}/v1/sales/{SALE}/products/live-{}/purchases", cores[0].at.public, n % 8);
        let call = http.post(url).bearer_auth(&buyers[n % buyers.len()].1).header("idempotency-key", format!("k{n}"));
        let call = call.json(&json!({"quantity": 1}));
        async move {
            let answer = call.send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            ensure!(status == reqwest::StatusCode::CREATED, "no order: {status} {text}");
            let order: Value = serde_json::from_str(&text)?;
            let id = order["order"].as_str().context("an order's id")?.to_owned();
            Ok((id, order["amount"]["amount"].as_u64().context("an amount")?))
        }
    });
    let made: Vec<anyhow::Result<_>> = futures::stream::iter(calls).buffer_unordered(AT_ONCE).collect().await;
    made.into_iter().collect()
}
