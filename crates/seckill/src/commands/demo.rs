//! `seckill demo`: the whole loop in one process, with traffic from outside, shown as it happens and judged
//! at the end by the auditor and by a recount of the raw lines.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use types::{Clock, Role, SystemClock, Timestamp};

use super::all_in_one::{addresses, apply_sale, token};
use super::{VIOLATED, sale, say};
use crate::cli::DemoArgs;
use crate::config::Config;
use crate::demo::edge::DemoEdge;
use crate::demo::legs::Legs;
use crate::demo::real::RealServers;
use crate::demo::report::DemoReport;
use crate::demo::watch::{Display, Watch};
use crate::demo::{Product, Traffic, TrafficOptions, access_log, journal, judge};
use crate::house::House;
use crate::shutdown;

/// The sale of the demo, unless another is named.
const EXAMPLE_SALE: &str = include_str!("../../../../examples/sale.toml");
/// Unpaid orders are released after this much event time: the default quarter of an hour would not fit
/// into a demo.
const RESERVE_FOR: Duration = Duration::from_secs(45);
/// Longest real time, at the end, for the analyzer to finish its last windows and for tickets to end.
const SETTLE: Duration = Duration::from_secs(90);
/// How often, in real time, it is looked whether everything has come to rest.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the demo; 1 if it does not hold.
pub async fn run(mut config: Config, given_dir: bool, args: DemoArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    if args.edge && (args.speed - 1.0).abs() > f64::EPSILON {
        bail!("--edge goes with --speed 1 only: a real Nginx writes the machine's time into its log");
    }
    if !given_dir {
        config.data_dir = fresh_dir()?;
    }
    let data = config.data_dir.clone();
    std::fs::create_dir_all(&data).with_context(|| format!("cannot create the data directory {}", data.display()))?;
    let log_path = data.join("access.log");
    let clock: Arc<dyn Clock> = Arc::new(clock_behind(&log_path, args.speed)?);
    config.collector.paths = vec![log_path.clone()];
    config.collector.from_start = true;
    config.analyzer.open = true;
    config.core.reserve_for = RESERVE_FOR;
    config.core.seed = args.seed;
    let analyzer_rules = config.analyzer.clone();
    let mut servers = if args.real { Some(real_servers(&data, &mut config).await?) } else { None };

    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())?;
    let place = config.clone();
    let house = House::open(config, clock.clone(), args.any_port).await?;
    if let Some(servers) = &mut servers {
        servers.ship(&log_path)?;
    }
    let body = match &args.sale {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => EXAMPLE_SALE.to_owned(),
    };
    let body = sale::sale_body(&body)?;
    apply_sale(&house, &body).await?;
    let spec = types::SaleSpec::deserialize(body)??;

    let edge = if args.edge { Some(real_edge(&data, &place, &house, &log_path).await?) } else { None };

    let journals = data.join("journals");
    std::fs::create_dir_all(&journals)?;
    let started = clock.now();
    let options = TrafficOptions {
        core_url: edge.as_ref().map_or_else(|| format!("http://{}", house.core.public()), DemoEdge::url),
        edge: edge.is_some(),
        sale: spec.name.to_string(),
        products: spec.products.iter().map(Product::from).collect(),
        log_path: log_path.clone(),
        journal_path: journal::path_of_run(&journals, started),
        earlier_journals: journal::all(&journals)?,
        seed: args.seed,
        background_rate: f64::from(args.background),
        ..TrafficOptions::default()
    };
    let traffic = Traffic::new(options, clock.clone(), shoppers_tokens(&house))?;
    introduce(&house, &spec, &data, &args)?;
    edge.iter().flat_map(DemoEdge::addresses).for_each(say);

    let traffic_handle = traffic.handle();
    let legs = Legs::default();
    let legs_stop = CancellationToken::new();
    let shipped = servers.is_some();
    let legs_task = tokio::spawn(legs.clone().follow(house.log.clone(), clock.clone(), shipped, legs_stop.clone()));
    let stock = crate::wire::audited_store(&place)?;
    let watch =
        Watch::start(&house, traffic_handle.clone(), clock.clone(), stock.clone(), args.speed, began, legs.clone())?;
    let traffic_stop = CancellationToken::new();
    let traffic_task = tokio::spawn(traffic.run(traffic_stop.clone()));
    let display = Display::new(std::io::stdout().is_terminal());
    let time_is_up = async {
        match args.run_for {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = house.shutdown.cancelled() => {}
        () = time_is_up => {}
        () = traffic_stop.cancelled() => {}
        () = watch.show(&display) => {}
    }
    display.line("traffic ends; shoppers under way come to their end");
    traffic_stop.cancel();
    let traffic_end = traffic_task.await.context("the traffic panicked")?;
    if house.shutdown.is_cancelled() {
        // A service failed; its error is the result.
        house.close().await?;
        bail!("a service ended before the demo did");
    }
    traffic_end?;

    display.line("waiting for the last windows to become final and the last tickets to end");
    come_to_rest(&house, &log_path).await?;
    let (moves, sampler) = watch.end().await?;
    legs_stop.cancel();
    legs_task.await.context("the watcher of legs panicked")??;
    let now = clock.now();
    let all_journals = journal::all(&journals)?;
    let options = audit::stock::Options::at_rest(now.millis()).at_speed(args.speed);
    let audit =
        tokio::task::spawn_blocking(move || audit::stock::audit_store(&stock, &all_journals, &options, Some(&sampler)))
            .await??;
    let heat = judge::heat(&house.log, &log_path, &analyzer_rules).await?;
    let accounting = house.collector.accounting();
    let report = DemoReport {
        seed: args.seed,
        speed: args.speed,
        lasted: now.since(started),
        lines_written: traffic_handle.lines(),
        lines_read: accounting.lines,
        line_fates: judge::fates(&accounting),
        moves,
        legs: legs.snapshot(),
        shoppers: traffic_handle.stats(),
        heat,
        audit,
    };
    house.close().await?;
    display.line(&report.to_string());
    say(format!("data is kept in {}", data.display()));
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::from(VIOLATED) })
}

/// Starts the real servers, which takes some seconds, and points the configuration at them.
async fn real_servers(data: &Path, config: &mut Config) -> anyhow::Result<RealServers> {
    say("starting Kafka, Redis and MariaDB");
    let dir = data.join("servers");
    let servers = tokio::task::spawn_blocking(move || RealServers::start(&dir)).await??;
    servers.configure(config);
    servers.addresses().into_iter().for_each(say);
    Ok(servers)
}

/// Starts the edge, which needs nothing but the house behind it.
async fn real_edge(data: &Path, config: &Config, house: &House, log: &Path) -> anyhow::Result<DemoEdge> {
    let (data, log, files) = (data.to_owned(), log.to_owned(), config.secrets.clone());
    let (public, private) = (house.core.public(), house.core.private());
    tokio::task::spawn_blocking(move || DemoEdge::start(&data, &files, public, private, &log)).await?
}

fn fresh_dir() -> anyhow::Result<PathBuf> {
    let name = format!("seckill-demo-{}-{:08x}", std::process::id(), rand::random::<u32>());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// The demo's clock: the machine's, or, on a log that a faster run has carried into the future, just behind
/// its last line.
fn clock_behind(log: &Path, speed: f64) -> anyhow::Result<SystemClock> {
    let now = SystemClock::new().now();
    let last = access_log::last_time(log)?.unwrap_or(now);
    Ok(SystemClock::starting_at(now.max(last), speed))
}

fn shoppers_tokens(house: &House) -> crate::demo::TokenIssuer {
    let issuer = house.issuer.clone();
    let life = Duration::from_secs(24 * 3600);
    Arc::new(move |buyer: &str| {
        types::BuyerId::new(buyer)
            .map_err(anyhow::Error::from)
            .and_then(|b| issuer.issue(&b, &[Role::Shopper], life))
            // A refused token shows as 401 in the report; no shopper's name is ever that odd.
            .unwrap_or_default()
    })
}

fn introduce(house: &House, spec: &types::SaleSpec, data: &Path, args: &DemoArgs) -> anyhow::Result<()> {
    say(format!("seckill demo, seed {}, data in {}", args.seed, data.display()));
    if (args.speed - 1.0).abs() > f64::EPSILON {
        say(format!("time runs {}x as fast: windows and waits keep their lengths in event time", args.speed));
    }
    addresses(house).into_iter().for_each(say);
    let product = spec.products.first().context("a sale has products")?;
    let ann = token(house, "ann", &[Role::Shopper])?;
    let ops = token(house, "olga", &[Role::Operator])?;
    say("\nshopper: buy one");
    say(format!(
        "  curl -i -X POST http://{}/v1/sales/{}/products/{}/purchases -H 'Authorization: Bearer {ann}' \\\n    -H 'Idempotency-Key: my-first' -H 'Content-Type: application/json' -d '{{\"quantity\":1}}'",
        house.core.public(),
        spec.name,
        product.sku
    ));
    say("merchandiser: what is hot, by REST and by SQL");
    say(format!("  curl http://{}/v1/top?limit=10", house.analyzer.address()));
    say(format!(
        "  curl http://{}/druid/v2/sql -H 'Content-Type: application/json' \\\n    -d '{{\"query\":\"SELECT product, \\\"rank\\\", \\\"count\\\" FROM top_products ORDER BY \\\"rank\\\" LIMIT 10\"}}'",
        house.analyzer.address()
    ));
    say("ops: put a product on the queue for a minute, then see the plan");
    say(format!(
        "  curl -i -X PUT http://{}/v1/overrides/{}?wait=applied -H 'Authorization: Bearer {ops}' \\\n    -H 'Content-Type: application/json' -d '{{\"tier\":\"queue\",\"ttl\":\"60s\",\"reason\":\"trying it out\"}}'",
        house.control_plane.address(),
        product.sku
    ));
    say(format!("  curl http://{}/v1/plan -H 'Authorization: Bearer {ops}'\n", house.control_plane.address()));
    Ok(())
}

/// Whole lines of the log.
fn lines_of(log: &Path) -> anyhow::Result<u64> {
    let mut file = std::fs::File::open(log).with_context(|| format!("cannot open {}", log.display()))?;
    let (mut lines, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(lines),
            n => lines += buffer[..n].iter().filter(|b| **b == b'\n').count() as u64,
        }
    }
}

/// Waits until every line is counted in a final window, the queue is empty and no ticket can still be open.
async fn come_to_rest(house: &House, log: &Path) -> anyhow::Result<()> {
    let last = access_log::last_time(log)?.unwrap_or_default();
    let final_to = Timestamp::from_seconds(last.second() + 1);
    // What a shipper has not shipped yet, no collector can know of; the log itself says how many lines there are.
    let written = lines_of(log)?;
    let deadline = Instant::now() + SETTLE;
    loop {
        let counted = house.analyzer.snapshot().final_to.is_some_and(|to| to >= final_to);
        let books = house.collector.accounting();
        let read = house.collector.caught_up() && books.lines - books.repeats >= written;
        if read && house.core.backlog() == 0 && counted {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "nothing came to rest within {SETTLE:?}: {} of {written} lines read, {} attempts queued, windows final to {:?} of {final_to}",
                books.lines - books.repeats,
                house.core.backlog(),
                house.analyzer.snapshot().final_to
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}
