//! The whole service, alone and as a group, over logs in memory, on SQLite and on a real Kafka: what is appended comes
//! out as reports and over HTTP, also when analyzers are killed on the way.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod group;
mod stream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use analyzer::analysis::KeptShard;
use analyzer::{Analyzer, AnalyzerError, Handle, Options};
use axum::Router;
use eventlog::{
    Consumer, EventLog, Group, MemoryLog, NewRecord, Polled, Retention, Start, Subscription, Topic, TopicSpec,
    partition_for,
};
use http_kit::SharedAuthenticator;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::{
    AccessEvent, AuthError, Authenticator, BuyerId, Clock, EventBatch, EventKind, HeatReport, Identity, PageId, Role,
    SystemClock, Timestamp, VisitorHash, codec, topics,
};

pub(crate) const PARTITIONS: u32 = 4;
/// Far beyond what any step takes; only a step that never comes meets it.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(120);

struct Tokens;

impl Authenticator for Tokens {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        let role = match bearer {
            "viewer-token" => Role::Viewer,
            "shopper-token" => Role::Shopper,
            _ => return Err(AuthError::Invalid),
        };
        Ok(Identity { subject: BuyerId::new("someone").unwrap(), roles: [role].into() })
    }
}

pub(crate) async fn ready(log: &dyn EventLog) {
    let topic = Topic::new(topics::PRODUCT_EVENTS).unwrap();
    let retention = Retention::Time(Duration::from_secs(3600));
    log.ensure_topic(&TopicSpec { topic, partitions: PARTITIONS, retention }).await.unwrap();
}

pub(crate) async fn append(log: &dyn EventLog, events: &[AccessEvent]) {
    let topic = Topic::new(topics::PRODUCT_EVENTS).unwrap();
    for some in events.chunks(50) {
        let mut parts: BTreeMap<u32, Vec<AccessEvent>> = BTreeMap::new();
        for e in some {
            parts.entry(partition_for(e.page.as_str().as_bytes(), PARTITIONS)).or_default().push(e.clone());
        }
        let record = |(partition, events)| {
            let value = codec::encode(&EventBatch { source: "access.log".to_owned(), events }).unwrap();
            NewRecord::to_partition(partition, value, Timestamp::default())
        };
        log.append(&topic, parts.into_iter().map(record).collect()).await.unwrap();
    }
}

pub(crate) fn views(random: &mut ChaCha8Rng, start: Timestamp, seconds: i64, line: &mut u64) -> Vec<AccessEvent> {
    let event = |n: i64| {
        *line += 100;
        AccessEvent {
            page: PageId::new(format!("p{}", (random.random::<f64>().powi(4) * 300.0) as u32)).unwrap(),
            kind: EventKind::View,
            visitor: VisitorHash(random.random()),
            status: 200,
            at: start.plus(Duration::from_millis(n as u64 * 20)),
            offset: *line,
        }
    };
    (0..seconds * 50).map(event).collect()
}

/// A clock that runs twenty times as fast, so that event time runs on quickly when the log has ended, and that stands
/// still while it is held, so that nobody falls silent because the machine is busy.
pub(crate) struct Fast {
    clock: SystemClock,
    held: Mutex<Option<Timestamp>>,
}

impl Fast {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { clock: SystemClock::with_speed(20.0), held: Mutex::new(None) })
    }
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = Some(self.clock.now());
    }
    pub(crate) fn release(&self) {
        *self.held.lock().unwrap() = None;
    }
}

impl Clock for Fast {
    fn now(&self) -> Timestamp {
        self.held.lock().unwrap().unwrap_or_else(|| self.clock.now())
    }
    fn real(&self, d: Duration) -> Duration {
        self.clock.real(d)
    }
}

pub(crate) type Running = (Handle, CancellationToken, JoinHandle<Result<(), AnalyzerError>>);

pub(crate) async fn start_on(log: &Arc<dyn EventLog>, clock: Arc<dyn Clock>, open: bool) -> Running {
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        open,
        checkpoint: Duration::from_millis(500),
        // The same process is started many times; what it writes to disk has tests of its own.
        history: analyzer::history::HistoryOptions { enabled: false, ..Default::default() },
        ..Options::default()
    };
    let tokens: SharedAuthenticator = Arc::new(Tokens);
    let analyzer = Analyzer::new(options, Arc::clone(log), clock, tokens, Router::new()).await.unwrap();
    let (handle, stop) = (analyzer.handle(), CancellationToken::new());
    let running = tokio::spawn(analyzer.run(stop.clone()));
    (handle, stop, running)
}

async fn start(log: &Arc<dyn EventLog>, open: bool) -> Running {
    start_on(log, Fast::new(), open).await
}

pub(crate) struct Reports {
    consumer: Box<dyn Consumer>,
    pub(crate) all: Vec<HeatReport>,
}

impl Reports {
    pub(crate) async fn of(log: &Arc<dyn EventLog>) -> Self {
        let topic = Topic::new(topics::HEAT_REPORTS).unwrap();
        let retention = Retention::Time(Duration::from_secs(24 * 3600));
        log.ensure_topic(&TopicSpec { topic: topic.clone(), partitions: 1, retention }).await.unwrap();
        let group = Group::new("test").unwrap();
        let subscription = Subscription { group, topics: vec![topic], start: Start::Earliest };
        Self { consumer: log.subscribe(subscription).await.unwrap(), all: Vec::new() }
    }
    pub(crate) async fn until(&mut self, what: &str, enough: impl Fn(&[HeatReport]) -> bool) {
        let wait = async {
            while !enough(&self.all) {
                if let Polled::Records(records) = self.consumer.poll(1000, Duration::from_millis(20)).await.unwrap() {
                    self.all.extend(
                        records.iter().map(|r| codec::decode::<HeatReport>(r.value.as_ref().unwrap()).unwrap()),
                    );
                }
            }
        };
        assert!(tokio::time::timeout(GIVE_UP, wait).await.is_ok(), "{what} never came; {} reports did", self.all.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_the_top_over_http_and_strangers_do_not() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    ready(&*log).await;
    let mut reports = Reports::of(&log).await;
    let (handle, stop, running) = start(&log, false).await;
    let begin = Timestamp::from_seconds(1_548_000_000);
    let mut events = views(&mut ChaCha8Rng::seed_from_u64(7), begin, 30, &mut 0);
    for n in 0..100 {
        let page = PageId::new("flash").unwrap();
        let (kind, at) = (EventKind::Attempt, begin.plus(Duration::from_millis(29_000 + n)));
        events.push(AccessEvent { page, kind, visitor: VisitorHash(n), status: 429, at, offset: 1_000_000 + n });
    }
    append(&*log, &events).await;
    let is_flash =
        |r: &HeatReport| r.entries.iter().any(|e| e.page.as_str() == "flash" && e.count5 == 500 && e.visitors >= 95);
    reports.until("the flash crowd", |all| all.iter().any(is_flash)).await;
    let first = reports.all.iter().find(|r| !r.is_final).unwrap();
    assert!(first.snapshot, "the first report says everything");

    let client = reqwest::Client::new();
    let get = |path: &str, token: Option<(&str, &str)>| {
        let request = client.get(format!("http://{}{path}", handle.address()));
        let request = match token {
            Some(("bearer", token)) => request.bearer_auth(token),
            Some((user, token)) => request.basic_auth(user, Some(token)),
            None => request,
        };
        async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            (status, response.json::<Value>().await.unwrap_or_default())
        }
    };
    let viewer = Some(("bearer", "viewer-token"));
    assert_eq!(get("/v1/top", None).await.0, 401);
    assert_eq!(get("/v1/top", Some(("bearer", "forged"))).await.0, 401);
    assert_eq!(get("/v1/top", Some(("bearer", "shopper-token"))).await.0, 403);
    assert_eq!(get("/v1/top", Some(("druid", "viewer-token"))).await.0, 200, "what Druid's clients send");
    for bad in ["/v1/top?limit=0", "/v1/top?limit=10001", "/v1/top?limit=x", "/v1/top?limt=5"] {
        let (status, problem) = get(bad, viewer).await;
        assert!(status == 400 || status == 422, "{bad}: {status}");
        assert!(problem["type"].as_str().unwrap().starts_with("/problems/"), "{problem}");
    }
    let (_, answer) = get("/v1/top?limit=1", viewer).await;
    assert_eq!(answer["top"][0]["product"], "flash");
    assert_eq!(answer["top"][0]["count"], 500);
    assert_eq!(answer["top"][0]["temperature"], "hot");
    assert_eq!(answer["top"].as_array().unwrap().len(), 1);
    let (_, flash) = get("/v1/products/flash/heat", viewer).await;
    assert_eq!((flash["rank"].as_u64(), flash["count5"].as_u64()), (Some(1), Some(500)), "{flash}");
    let (status, cold) = get("/v1/products/never-seen/heat", viewer).await;
    assert_eq!((status, cold["temperature"].as_str(), cold["count"].as_u64()), (200, Some("cold"), Some(0)));
    assert_eq!(get("/v1/products/a%20b/heat", viewer).await.0, 422);
    assert_eq!(get("/nothing", viewer).await.0, 404);

    // The live tables have the sealed seconds, and the same counts.
    reports
        .until("finality", |all| all.iter().any(|r| r.is_final && r.window_end.second() >= begin.second() + 30))
        .await;
    let rows = handle.tables().product_heat(Some(begin), Some(begin.plus(Duration::from_secs(30))));
    assert_eq!(rows.iter().map(|r| r.events).sum::<u64>(), events.len() as u64);
    let flash = rows.iter().find(|r| &*r.page == "flash").unwrap();
    assert_eq!((flash.events, flash.weighted, flash.visitors), (100, 500, 100));
    assert!(
        rows.windows(2).all(|two| (two[0].time, &two[0].page, two[0].kind) < (two[1].time, &two[1].page, two[1].kind))
    );

    // Traffic has stopped: heat decays with the clock and the report says so.
    reports
        .until("cooling", |all| all.iter().any(|r| r.window_end.second() > begin.second() + 95 && r.active == 0))
        .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poisoned_records_and_broken_or_foreign_shards_do_not_stop_it() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    ready(&*log).await;
    let mut reports = Reports::of(&log).await;
    let shards = Topic::new(topics::ANALYZER_SHARDS).unwrap();
    log.ensure_topic(&TopicSpec { topic: shards.clone(), partitions: 1, retention: Retention::Compacted })
        .await
        .unwrap();
    // One kept shard is damaged; another is of a log that had come further than this one.
    let foreign = KeptShard {
        partition: 1,
        shard: analyzer::shard::Kept { next: 1_000, ..Default::default() },
        ..KeptShard::default()
    };
    let kept = vec![
        NewRecord::keyed(&b"analyzer/0"[..], &b"damaged"[..], Timestamp::default()),
        NewRecord::keyed(&b"analyzer/1"[..], codec::encode(&foreign).unwrap(), Timestamp::default()),
        NewRecord::keyed(&b"another-group/2"[..], codec::encode(&foreign).unwrap(), Timestamp::default()),
    ];
    log.append(&shards, kept).await.unwrap();
    let topic = Topic::new(topics::PRODUCT_EVENTS).unwrap();
    let poison = (0..PARTITIONS).map(|p| NewRecord::to_partition(p, &b"\x01{\"source\":1}"[..], Timestamp::default()));
    log.append(&topic, poison.collect()).await.unwrap();
    let (_, stop, running) = start(&log, true).await;
    append(&*log, &views(&mut ChaCha8Rng::seed_from_u64(1), Timestamp::from_seconds(1_548_000_000), 5, &mut 0)).await;
    reports.until("a report", |all| all.iter().any(|r| !r.is_final && r.total == 250)).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}
