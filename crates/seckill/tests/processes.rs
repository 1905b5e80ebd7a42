//! The four services as processes of their own on real Kafka, Redis, MariaDB and Filebeat: a product moves by its
//! log lines and by override, and `kill -9` of each process costs no order and no decision.
#![cfg(all(feature = "kafka", feature = "redis", feature = "mysql"))]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use testkit::servers::{Filebeat, Kafka, MariaDb, Port, Redis};

/// Longest time to wait for a condition; only a broken run ever waits so long.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);

/// The services, in the order in which they are started.
const SERVICES: [&str; 4] = ["core", "control", "analyze", "collect"];

struct Town {
    data: tempfile::TempDir,
    config: PathBuf,
    ports: BTreeMap<&'static str, Port>,
    processes: BTreeMap<&'static str, Child>,
    log: File,
    http: Client,
    lines: u64,
    // Held while the services run.
    _filebeat: Option<Filebeat>,
    kafka: Kafka,
    _redis: Redis,
    _mariadb: MariaDb,
}

impl Drop for Town {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Town {
    fn build() -> Self {
        let data = tempfile::tempdir().unwrap();
        // Filebeat runs as another user and must be able to read the log.
        fs::set_permissions(data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let place = |name: &str| {
            let place = data.path().join(name);
            fs::create_dir_all(&place).unwrap();
            place
        };
        let kafka_place = place("kafka");
        let starting = std::thread::spawn(move || Kafka::start(&kafka_place).unwrap());
        let redis = Redis::start(&place("redis")).unwrap();
        let mariadb = MariaDb::start(&place("mariadb")).unwrap();
        let database = mariadb.create_database().unwrap();
        let kafka = starting.join().unwrap();
        let ports: BTreeMap<_, _> =
            ["public", "private", "admin", "control", "analyzer", "collector", "analyze-health", "control-health"]
                .map(|name| (name, Port::reserve().unwrap()))
                .into();
        let at = |name: &str| format!("127.0.0.1:{}", ports[name].number());
        let config = data.path().join("seckill.toml");
        let text = format!(
            r#"
[event_log]
provider = "kafka"
kafka.bootstrap = ["{kafka}"]
[stock]
provider = "mariadb"
mariadb.url = "{database}"
[leases]
provider = "redis"
redis.nodes = ["127.0.0.1:{redis}"]
[core]
public = "{public}"
private = "{private}"
admin = "{admin}"
[control_plane]
listen = "{control}"
cores = ["http://{private}"]
[analyzer]
listen = "{analyzer}"
open = true
[collector]
source = "access-log"
from_start = true
listen = "{collector}"
"#,
            kafka = kafka.bootstrap(),
            redis = redis.port(),
            public = at("public"),
            private = at("private"),
            admin = at("admin"),
            control = at("control"),
            analyzer = at("analyzer"),
            collector = at("collector"),
        );
        fs::write(&config, text).unwrap();
        let path = data.path().join("access.log");
        let log = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(15)).build().unwrap();
        let mut town = Self {
            data,
            config,
            ports,
            processes: BTreeMap::new(),
            log,
            http,
            lines: 0,
            _filebeat: None,
            kafka,
            _redis: redis,
            _mariadb: mariadb,
        };
        for service in SERVICES {
            town.start(service);
        }
        town
    }

    /// Filebeat with the configuration that a shop installs; the topic must be there.
    fn ship(&mut self) {
        let place = self.data.path().join("filebeat");
        fs::create_dir_all(&place).unwrap();
        let config = include_str!("../../../filebeat/filebeat.yml")
            .replace(
                "${ACCESS_LOG:/var/log/nginx/access.log}",
                &self.data.path().join("access.log").display().to_string(),
            )
            .replace("${KAFKA_BOOTSTRAP:127.0.0.1:9092}", &self.kafka.bootstrap());
        self._filebeat = Some(Filebeat::start(&place, &config).unwrap());
    }

    fn seckill(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seckill"));
        command.arg("--data").arg(self.data.path()).arg("--config").arg(&self.config).stdin(Stdio::null());
        command
    }

    fn log_of(&self, service: &str) -> PathBuf {
        self.data.path().join(format!("{service}.log"))
    }

    fn start(&mut self, service: &'static str) {
        let out = OpenOptions::new().create(true).append(true).open(self.log_of(service)).unwrap();
        let mut command = self.seckill();
        if let Some(health) = self.ports.get(format!("{service}-health").as_str()) {
            command.env("SECKILL_TELEMETRY__LISTEN", format!("127.0.0.1:{}", health.number()));
        }
        let child = command.arg(service).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        self.processes.insert(service, child);
    }

    fn kill(&mut self, service: &'static str) {
        let mut child = self.processes.remove(service).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Everything the processes said, for a failing test.
    fn said(&mut self) -> String {
        let mut all = String::new();
        for service in SERVICES {
            let text = fs::read_to_string(self.log_of(service)).unwrap_or_default();
            let tail: Vec<_> = text.lines().rev().take(15).collect();
            let state = self.processes.get_mut(service).map(|c| c.try_wait().ok().flatten());
            let _ = writeln!(all, "--- {service} ({state:?})");
            tail.iter().rev().for_each(|line| all.push_str(&format!("{line}\n")));
        }
        all
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.seckill().args(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn url(&self, listener: &str, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[listener].number())
    }

    /// Asks again until `good` says so.
    async fn until(&mut self, what: &str, url: &str, token: &str, good: impl Fn(u16, &Value) -> bool) -> Value {
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            if let Ok(answer) = self.http.get(url).bearer_auth(token).send().await {
                let status = answer.status().as_u16();
                let body = answer.json::<Value>().await.unwrap_or(Value::Null);
                if good(status, &body) {
                    return body;
                }
                last = format!("{status} {body}");
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("{what} did not come about; the last answer was {last}\n{}", self.said());
    }

    /// Buys one, following the ticket to its end; retries with the same key while the core is away.
    async fn buy(&mut self, product: &str, buyer: &str, key: &str) -> Value {
        let token = self.run(&["token", "--buyer", buyer]);
        let url = self.url("public", &format!("/v1/sales/autumn/products/{product}/purchases"));
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            let request = self.http.request(Method::POST, &url).bearer_auth(&token).header("Idempotency-Key", key);
            if let Ok(answer) = request.json(&json!({ "quantity": 1 })).send().await {
                let status = answer.status().as_u16();
                let place = answer.headers().get("location").map(|l| l.to_str().unwrap().to_owned());
                let body = answer.json::<Value>().await.unwrap_or(Value::Null);
                match (status, place) {
                    (201, _) => return body,
                    (202, Some(place)) => {
                        let url = self.url("public", &place);
                        let ended = |_: u16, b: &Value| b["state"] == "accepted" || b["state"] == "refused";
                        return self.until("the ticket's end", &url, &token, ended).await["order"].clone();
                    }
                    _ => last = format!("{status} {body}"),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("{buyer} could not buy {product}: {last}\n{}", self.said());
    }

    /// A minute's worth of interest at once: `count` visitors look at the page.
    fn views(&mut self, page: &str, count: u64) {
        let mut text = String::new();
        for _ in 0..count {
            self.lines += 1;
            let line = json!({
                "time": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
                "remote_addr": format!("10.0.{}.{}", self.lines / 250 % 250, self.lines % 250),
                "method": "GET", "uri": format!("/product/{page}"), "status": 200, "bytes": 5120,
                "request_time": 0.002, "request_id": format!("{:032x}", self.lines),
                "visitor": format!("{:016x}", self.lines), "buyer": "", "referer": "-",
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64)", "product": page,
            });
            let _ = writeln!(text, "{line}");
        }
        self.log.write_all(text.as_bytes()).unwrap();
    }

    /// Interest goes on until the product sells on `tier`.
    async fn planned(&mut self, product: &str, tier: &str, operator: &str) {
        let url = self.url("control", &format!("/v1/plan?product={product}"));
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            self.views(product, 100);
            self.views("an-everyday-page", 1);
            if let Ok(answer) = self.http.get(&url).bearer_auth(operator).send().await
                && let Ok(body) = answer.json::<Value>().await
            {
                let planned = &body["products"][0];
                if planned["tier"] == tier && planned["enforced"] == "applied" {
                    println!("{product} on {tier}: {planned}");
                    return;
                }
                last = planned.to_string();
            }
            tokio::time::sleep(LOOK * 4).await;
        }
        panic!("{product} did not come to {tier}: {last}\n{}", self.said());
    }

    /// Ops put a product on a tier; asked again while a process is coming back.
    async fn overridden(&mut self, product: &str, tier: &str, operator: &str) {
        let url = self.url("control", &format!("/v1/overrides/{product}?wait=applied"));
        let body = json!({ "tier": tier, "ttl": "10m", "reason": "each process may die" });
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            match self.http.put(&url).bearer_auth(operator).json(&body).send().await {
                Ok(answer) if answer.status().is_success() => return self.planned(product, tier, operator).await,
                Ok(answer) => last = answer.text().await.unwrap_or_default(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("{product} could not be put on {tier}: {last}\n{}", self.said());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_may_die() {
    let mut town = tokio::task::spawn_blocking(Town::build).await.unwrap();
    println!("data {}", town.data.path().display());
    let ready = town.url("private", "/readyz");
    town.until("a ready core", &ready, "", |status, _| status == 200).await;
    // The collector has made the topic by the time it answers on its health port.
    let alive = town.url("collector", "/healthz");
    town.until("a collector", &alive, "", |status, _| status == 200).await;
    town.ship();
    let admin = town.url("admin", "");
    let sale = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sale.toml");
    town.run(&["sale", "apply", &sale.display().to_string(), "--admin", &admin]);
    let operator = town.run(&["token", "--role", "operator"]);

    let cold = town.buy("watch-s8", "ann", "ann-1").await;
    assert_eq!(cold["tier"], "db", "{cold}");
    // Looked at by many, wanted by few: the leases of Redis are enough for it.
    town.planned("console-p5", "redis", &operator).await;
    let warm = town.buy("console-p5", "cem", "first").await;
    assert_eq!(warm["tier"], "redis", "{warm}");
    town.overridden("console-p5", "queue", &operator).await;
    let mut bought = vec![("console-p5", "ben".to_owned(), town.buy("console-p5", "ben", "ben-1").await)];
    assert_eq!(bought[0].2["tier"], "queue", "{}", bought[0].2);

    for service in SERVICES {
        println!("kill -9 {service}");
        town.kill(service);
        town.start(service);
        let buyer = format!("buyer-after-{service}");
        let order = town.buy("console-p5", &buyer, "first").await;
        bought.push(("console-p5", buyer, order));
    }
    town.until("a ready core", &ready, "", |status, _| status == 200).await;
    town.planned("drone-mini", "redis", &operator).await;
    bought.push(("console-p5", "cem".to_owned(), warm));
    for (product, buyer, order) in bought.clone() {
        let key = if buyer == "ben" { "ben-1" } else { "first" };
        let again = town.buy(product, &buyer, key).await;
        assert_eq!(again["order"], order["order"], "the same key has the same decision for ever");
    }
    let heat = town.url("analyzer", "/v1/top?limit=1");
    let top = town.until("a top page", &heat, "", |status, _| status == 200).await;
    assert!(top.to_string().contains("drone-mini") || top.to_string().contains("console-p5"), "{top}");
    town.run(&["audit"]);
}

#[test]
fn the_demo_on_real_servers_keeps_every_promise() {
    let data = tempfile::tempdir().unwrap();
    // Filebeat runs as another user and must be able to read the log.
    fs::set_permissions(data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let seed = "5";
    println!("seed {seed}, data {}", data.path().display());
    let output = Command::new(env!("CARGO_BIN_EXE_seckill"))
        .arg("--data")
        .arg(data.path())
        .args(["demo", "--real", "--any-port", "--for", "30s", "--seed", seed])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for seen in ["PASSED", "db → redis", "line written → shipped", "line written → product event"] {
        assert!(said.contains(seen), "{seen:?} was not seen:\n{said}");
    }
}
