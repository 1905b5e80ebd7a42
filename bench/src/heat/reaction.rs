//! A line written to an access log until its page stands in a heat report: collector and analyzer as they run, on the
//! embedded log, with real files and their own waits.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analyzer::Analyzer;
use anyhow::{Context, ensure};
use collector::Collector;
use eventlog::{EventLog, Group, Polled, SqliteLog, SqliteLogOptions, Start, Subscription, Topic};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;
use types::{AuthError, Authenticator, Clock, HeatReport, Identity, SystemClock, codec, topics};

use crate::area::Settings;
use crate::figure::{Bar, Figure};

/// Crowds, whole and quick; each is a page that nobody opened before.
const CROWDS: usize = 300;
const QUICK_CROWDS: usize = 60;
/// Lines of a crowd.
const CROWD: usize = 40;
/// Longest wait for a report.
const PATIENCE: Duration = Duration::from_secs(30);

struct Nobody;

impl Authenticator for Nobody {
    fn verify(&self, _: &str) -> Result<Identity, AuthError> {
        Err(AuthError::Invalid)
    }
}

/// From the line to the report, each crowd once.
pub fn run(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let times = runtime.block_on(crowds(settings))?;
    let name = "a line written until its page is in a heat report";
    let of = |share| vec![super::count::quantile(&times, share)];
    Ok(vec![
        Figure::new(format!("{name}, p50"), "ms", of(0.5)),
        Figure::new(format!("{name}, p99"), "ms", of(0.99)).bar(Bar::AtMost(500.0)),
    ])
}

async fn crowds(settings: &Settings) -> anyhow::Result<Vec<f64>> {
    let folder = tempfile::tempdir_in(&settings.cache)?;
    let path = folder.path().join("access.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let log = SqliteLog::open(&folder.path().join("log.db"), SqliteLogOptions::default())?;
    let log: Arc<dyn EventLog> = Arc::new(log);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = collector::Options {
        paths: vec![path.clone()],
        from_start: true,
        state_dir: folder.path().join("collector"),
        visitor_key: "a key only for measuring".into(),
        ..collector::Options::default()
    };
    let collector = Collector::new(options, Arc::clone(&log), Arc::clone(&clock)).await?;
    let options = analyzer::Options {
        listen: "127.0.0.1:0".parse()?,
        state_dir: folder.path().join("analyzer"),
        ..analyzer::Options::default()
    };
    let analyzer =
        Analyzer::new(options, Arc::clone(&log), Arc::clone(&clock), Arc::new(Nobody), axum::Router::new()).await?;
    let stop = CancellationToken::new();
    let running =
        [tokio::spawn(collector_run(collector, stop.clone())), tokio::spawn(analyzer_run(analyzer, stop.clone()))];
    let wanted = Subscription {
        group: Group::new("bench")?,
        topics: vec![Topic::new(topics::HEAT_REPORTS)?],
        start: Start::Earliest,
    };
    let mut reports = log.subscribe(wanted).await?;
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut times = Vec::new();
    for crowd in 0..if settings.quick { QUICK_CROWDS } else { CROWDS } {
        // At any moment of the tick.
        tokio::time::sleep(Duration::from_millis(random.random_range(20..270))).await;
        let page = format!("crowd-{crowd}");
        let time = clock.now().to_second_string();
        let (date, hour) = time.trim_end_matches('Z').split_once('T').context("a time has a T")?;
        let mut parts = date.split('-');
        let (year, month, day) = (parts.next(), parts.next(), parts.next());
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = months[month.and_then(|m| m.parse::<usize>().ok()).context("a month")? - 1];
        let stamp = format!("{}/{month}/{}:{hour} +0000", day.context("a day")?, year.context("a year")?);
        let mut text = String::new();
        for n in 0..CROWD {
            text += &format!(
                "10.0.{}.{n} - - [{stamp}] \"GET /product/{page} HTTP/1.1\" 200 512 \"-\" \"Mozilla/5.0 (X11)\"\n",
                crowd % 250
            );
        }
        let written = Instant::now();
        file.write_all(text.as_bytes())?;
        'reported: loop {
            ensure!(written.elapsed() < PATIENCE, "crowd {crowd} never came into a report");
            ensure!(!running.iter().any(tokio::task::JoinHandle::is_finished), "a service has ended");
            let Polled::Records(records) = reports.poll(100, Duration::from_millis(50)).await? else { continue };
            for record in records {
                let report: HeatReport = codec::decode(record.value.as_deref().unwrap_or_default())?;
                if report.entries.iter().any(|entry| entry.page.as_str() == page) {
                    times.push(written.elapsed().as_secs_f64() * 1000.0);
                    break 'reported;
                }
            }
        }
    }
    stop.cancel();
    for service in running {
        service.await??;
    }
    Ok(times)
}

async fn collector_run(collector: Collector, stop: CancellationToken) -> anyhow::Result<()> {
    Ok(collector.run(stop).await?)
}

async fn analyzer_run(analyzer: Analyzer, stop: CancellationToken) -> anyhow::Result<()> {
    Ok(analyzer.run(stop).await?)
}
