//! The real Filebeat with our own filebeat.yml, the real Kafka, and the collector as a process of its own: logs grow,
//! are renamed and truncated, each of the three is killed with -9 in the middle, and at the end each line counts
//! once.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::{Collector, Options, Source};
use eventlog::kafka::{KafkaLog, KafkaLogOptions};
use eventlog::{Consumer, EventLog, Group, Polled, Start, Subscription, Topic};
use testkit::servers::{Filebeat, Kafka};
use tokio_util::sync::CancellationToken;
use types::{SystemClock, topics};

/// Where the child finds what it needs; absent in an ordinary run.
const CHILD: &str = "COLLECTOR_FILEBEAT_CHILD";
/// Lines between two mishaps, of each log.
const STRETCH: u64 = 6_000;
/// Lines written at once, and the pause behind them: some 5,000 lines a second.
const BURST: u64 = 50;
const PAUSE: Duration = Duration::from_millis(10);
/// Longest that anything here takes; only there so that a failure ends.
const BOUND: Duration = Duration::from_secs(120);

fn connect(bootstrap: &str) -> Arc<KafkaLog> {
    let options = KafkaLogOptions { bootstrap: vec![bootstrap.to_owned()], ..KafkaLogOptions::default() };
    Arc::new(KafkaLog::connect(options, Arc::new(SystemClock::new())).unwrap())
}

/// Not a test of its own: the collector that is killed. Runs until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the kill test"]
async fn child_that_collects_until_it_is_killed() {
    let Ok(settings) = std::env::var(CHILD) else { return };
    let (bootstrap, folder) = settings.split_once(' ').unwrap();
    let folder = PathBuf::from(folder);
    let options = Options {
        source: Source::AccessLog,
        from_start: true,
        state_dir: folder.join("state"),
        partitions: 4,
        visitor_key: "a key that only this test knows".into(),
        ..Options::default()
    };
    let (log, clock) = (connect(bootstrap), Arc::new(SystemClock::new()));
    let mut collector = loop {
        match Collector::new(options.clone(), log.clone(), clock.clone()).await {
            Ok(collector) => break collector,
            Err(error) if error.retryable() => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => panic!("{error}"),
        }
    };
    let address = collector.listen(([127, 0, 0, 1], 0).into(), axum::Router::new()).await.unwrap();
    fs::write(folder.join("address.new"), address.to_string()).unwrap();
    fs::rename(folder.join("address.new"), folder.join("address")).unwrap();
    collector.run(CancellationToken::new()).await.unwrap();
}

/// The child, killed when the test ends however it ends.
struct Collecting {
    child: Child,
    settings: String,
    folder: PathBuf,
}

impl Collecting {
    fn start(bootstrap: &str, folder: &Path) -> Self {
        let settings = format!("{bootstrap} {}", folder.display());
        let child = Self::spawn(&settings, folder);
        Self { child, settings, folder: folder.to_owned() }
    }
    fn spawn(settings: &str, folder: &Path) -> Child {
        let _ = fs::remove_file(folder.join("address"));
        let out = OpenOptions::new().create(true).append(true).open(folder.join("collector.log")).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_collects_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD, settings)
            .stdout(out.try_clone().unwrap())
            .stderr(Stdio::from(out))
            .spawn()
            .unwrap()
    }
    fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.settings, &self.folder);
    }
    /// What its listener says of the books.
    fn books(&self) -> Option<serde_json::Value> {
        let address: SocketAddr = fs::read_to_string(self.folder.join("address")).ok()?.parse().ok()?;
        let mut connection = TcpStream::connect(address).ok()?;
        write!(connection, "GET /v1/accounting HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A log and, beside it, every line that was ever written to it.
struct Written {
    path: PathBuf,
    file: File,
    everything: File,
    number: u64,
}

impl Written {
    fn new(path: PathBuf, everything: &Path) -> Self {
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path).unwrap();
        Self { file: open(&path), everything: open(everything), path, number: 0 }
    }
    fn line(&mut self) -> String {
        self.number += 1;
        let n = self.number;
        let now = jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000");
        // What a log holds besides: other paths, bots, lines that were cut.
        let (path, agent) = match n % 20 {
            0 => ("/about".to_owned(), "Firefox/128.0"),
            1 => (format!("/product/{}", n % 97), "Googlebot/2.1"),
            2 => return format!("10.1.{}.{} - - [{now}] \"GET /product/9", n / 250 % 250, n % 250),
            _ => {
                (format!("/product/{}?a=1&b=\u{e9}", n % 97), "Mozilla/5.0 (X11; Linux x86_64) \\x22Firefox\\x22/128.0")
            }
        };
        format!(
            "10.1.{}.{} - - [{now}] \"GET {path} HTTP/1.1\" 200 {n} \"https://shop.example/\" \"{agent}\" \"-\"",
            n / 250 % 250,
            n % 250
        )
    }
    fn write(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let burst: String = (0..BURST.min(left)).map(|_| self.line() + "\n").collect();
            self.everything.write_all(burst.as_bytes()).unwrap();
            self.file.write_all(burst.as_bytes()).unwrap();
            left -= BURST.min(left);
            std::thread::sleep(PAUSE);
        }
    }
    /// Writes so many lines at once.
    fn heap(&mut self, count: u64) {
        let lines: String = (0..count).map(|_| self.line() + "\n").collect();
        self.everything.write_all(lines.as_bytes()).unwrap();
        self.file.write_all(lines.as_bytes()).unwrap();
    }
    /// Moves the log away, writes on to it for a moment as a server does that was not told yet, and begins anew. No
    /// file is deleted: the next one would get its inode, and a Filebeat that was down meanwhile takes the one for
    /// the other (filebeat/README.md).
    fn rename(&mut self) {
        let name = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..9).rev().filter(|number| name(*number).exists()) {
            fs::rename(name(number), name(number + 1)).unwrap();
        }
        fs::rename(&self.path, name(1)).unwrap();
        self.write(100);
        self.file = OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
    }
}

/// Views per page of all raw lines, by splitting at quotes and blanks.
fn recount(everything: &[&Path]) -> (BTreeMap<String, u64>, u64) {
    let (mut views, mut lines) = (BTreeMap::new(), 0);
    for path in everything {
        for line in fs::read_to_string(path).unwrap().lines() {
            lines += 1;
            let quoted: Vec<_> = line.split('"').collect();
            let Some(page) = quoted[1].split(' ').nth(1).and_then(|path| path.strip_prefix("/product/")) else {
                continue;
            };
            if quoted.len() > 5 && !quoted[5].contains("Googlebot") {
                *views.entry(page.split('?').next().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    (views, lines)
}

/// Reads product events as the analyzer does.
struct Reader {
    consumer: Box<dyn Consumer>,
    seen: HashMap<(u32, String), u64>,
    views: BTreeMap<String, u64>,
    repeats: u64,
}

impl Reader {
    async fn join(log: &KafkaLog) -> Self {
        let subscription = Subscription {
            group: Group::new("reader").unwrap(),
            topics: vec![Topic::new(topics::PRODUCT_EVENTS).unwrap()],
            start: Start::Earliest,
        };
        let consumer = log.subscribe(subscription).await.unwrap();
        Self { consumer, seen: HashMap::new(), views: BTreeMap::new(), repeats: 0 }
    }
    fn total(&self) -> u64 {
        self.views.values().sum()
    }
    async fn poll(&mut self, wait: Duration) {
        match self.consumer.poll(1_000, wait).await {
            Ok(Polled::Records(records)) => {
                for record in records {
                    let batch = product_events::decode(record.value.as_ref().unwrap()).unwrap();
                    let from = self.seen.get(&(record.partition, batch.source.clone())).copied().unwrap_or(0);
                    let mut next = from;
                    for event in batch.events {
                        if event.offset < from {
                            self.repeats += 1;
                            continue;
                        }
                        next = event.offset + 1;
                        *self.views.entry(event.page.to_string()).or_default() += 1;
                    }
                    self.seen.insert((record.partition, batch.source), next);
                }
            }
            Ok(_) => {}
            Err(error) if error.retryable() => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < BOUND, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn lines_read(books: Option<serde_json::Value>) -> u64 {
    books.and_then(|books| books["lines"].as_u64()).unwrap_or(0)
}

/// Waits until the collector has had this many lines, repeats aside.
async fn until_read(what: &str, collecting: &Collecting, lines: u64) {
    let number = |books: &serde_json::Value, key: &str| books[key].as_u64().unwrap();
    until(what, || {
        collecting.books().is_some_and(|books| number(&books, "lines") - number(&books, "repeats") >= lines)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_doubled_whoever_dies() {
    let place = tempfile::tempdir().unwrap();
    // Filebeat runs as nobody, who must be able to come here.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let logs = place.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let mut kafka = Kafka::start(&place.path().join("kafka")).unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic(topics::ACCESS_LOG, 2).unwrap();
    let (all_renamed, all_truncated) = (place.path().join("all-renamed"), place.path().join("all-truncated"));
    let mut renamed = Written::new(logs.join("access.log"), &all_renamed);
    let mut truncated = Written::new(logs.join("other.log"), &all_truncated);
    let (one, other) = (renamed.path.display().to_string(), truncated.path.display().to_string());
    let values = [
        ("ACCESS_LOG", one.as_str()),
        ("TRUNCATED_LOG_ENABLED", "true"),
        ("TRUNCATED_LOG", &other),
        ("KAFKA_BOOTSTRAP", &bootstrap),
    ];
    let config = Filebeat::fill(include_str!("../../filebeat/filebeat.yml"), &values).unwrap();
    let mut filebeat = Filebeat::start(&place.path().join("filebeat"), &config).unwrap();
    let mut collecting = Collecting::start(&bootstrap, place.path());
    let started = Instant::now();

    renamed.write(STRETCH);
    until("the way is open", || lines_read(collecting.books()) > 0).await;
    println!("first lines after {:.1} s", started.elapsed().as_secs_f64());
    renamed.rename();
    filebeat.kill();
    renamed.write(STRETCH / 2);
    filebeat.restart().unwrap();
    renamed.write(STRETCH / 2);
    collecting.kill_and_restart();
    renamed.write(STRETCH / 2);
    kafka.kill();
    renamed.write(STRETCH / 2);
    renamed.rename();
    kafka.restart().unwrap();
    renamed.write(STRETCH / 2);
    filebeat.kill();
    collecting.kill_and_restart();
    renamed.rename();
    filebeat.restart().unwrap();
    renamed.write(STRETCH / 2);

    // Killed while it ships a heap of lines, until some of them come twice.
    for _ in 0..6 {
        let (before, books) = (lines_read(collecting.books()), collecting.books());
        if books.is_some_and(|books| books["repeats"].as_u64().unwrap() > 0) {
            break;
        }
        renamed.heap(2 * STRETCH);
        until("a part of the heap is shipped", || lines_read(collecting.books()) > before + STRETCH / 10).await;
        filebeat.kill();
        collecting.kill_and_restart();
        filebeat.restart().unwrap();
        until_read("the heap", &collecting, renamed.number).await;
    }

    // The other log, truncated when Filebeat has read what stands in it: what it has not is lost by nature. And it
    // must see the file shorter than before, at its look once a second: so the log grows slowly at first.
    truncated.write(STRETCH / 2);
    for _ in 0..2 {
        until_read("what is to be truncated", &collecting, renamed.number + truncated.number).await;
        fs::copy(&truncated.path, logs.join("other.log.1")).unwrap();
        truncated.file.set_len(0).unwrap();
        truncated.write(BURST);
        until_read("the beginning after truncation", &collecting, renamed.number + truncated.number).await;
        truncated.write(STRETCH / 2);
    }

    let log = connect(&bootstrap);
    let mut reader = Reader::join(&log).await;
    let (views, lines) = recount(&[&all_renamed, &all_truncated]);
    let total = views.values().sum::<u64>();
    let began = Instant::now();
    while reader.total() < total {
        assert!(began.elapsed() < BOUND, "{} of {total} events; {:?}", reader.total(), collecting.books());
        reader.poll(Duration::from_millis(200)).await;
    }
    until_read("the books say so too", &collecting, lines).await;
    // Nothing comes behind that.
    for _ in 0..10 {
        reader.poll(Duration::from_millis(200)).await;
    }
    let books = collecting.books().unwrap();
    println!("{lines} lines in {:.1} s; repeats of batches {}", started.elapsed().as_secs_f64(), reader.repeats);
    println!("{books}");
    assert_eq!(reader.views, views);
    assert_eq!(books["events"].as_u64().unwrap(), total);
    assert_eq!(books["lines"].as_u64().unwrap() - books["repeats"].as_u64().unwrap(), lines);
    assert_eq!(
        books["dead"]["truncated"].as_u64().unwrap(),
        (1..=renamed.number).chain(1..=truncated.number).filter(|n| n % 20 == 2).count() as u64
    );
    assert_eq!(books["balanced"], true);

    // How long a line takes, one by one.
    let mut took = Vec::new();
    for _ in 0..20 {
        while renamed.number % 20 < 3 || renamed.number % 20 > 15 {
            renamed.write(1);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        reader.poll(Duration::ZERO).await;
        let (before, written) = (reader.total(), Instant::now());
        renamed.write(1);
        while reader.total() == before {
            assert!(written.elapsed() < BOUND, "the line never came");
            reader.poll(Duration::from_millis(5)).await;
        }
        took.push(written.elapsed());
    }
    took.sort();
    println!("append to product event: median {:?}, longest {:?}", took[took.len() / 2], took[took.len() - 1]);
    filebeat.stop();
}
