//! The four services as processes of their own on real Kafka, Redis, MariaDB and Filebeat: a product moves by its
//! log lines and by override, and `kill -9` of each process costs no order and no decision.
#![cfg(all(feature = "kafka", feature = "redis", feature = "mysql"))]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod town;

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::servers::Filebeat;
use town::{LOOK, PATIENCE, Town};

/// The services, in the order in which they are killed.
const SERVICES: [&str; 4] = ["core", "control", "analyze", "collect"];

/// The town and those who look, buy and operate in it.
struct Street {
    town: Town,
    lines: u64,
    // Held while the services run.
    _filebeat: Option<Filebeat>,
}

impl Street {
    fn build() -> Self {
        Self { town: Town::real(&SERVICES, ""), lines: 0, _filebeat: None }
    }

    /// Filebeat with the configuration that a shop installs; the topic must be there.
    fn ship(&mut self) {
        let place = self.town.data().join("filebeat");
        fs::create_dir_all(&place).unwrap();
        let bootstrap = self.town.servers.as_ref().unwrap().kafka.bootstrap();
        let log = self.town.access_log().display().to_string();
        let original = include_str!("../../../filebeat/filebeat.yml");
        let config = Filebeat::fill(original, &[("ACCESS_LOG", &log), ("KAFKA_BOOTSTRAP", &bootstrap)]).unwrap();
        self._filebeat = Some(Filebeat::start(&place, &config).unwrap());
    }

    /// Buys one, following the ticket to its end; retries with the same key while the core is away.
    async fn buy(&self, product: &str, buyer: &str, key: &str) -> Value {
        let token = self.town.token(buyer, &[types::Role::Shopper]);
        let url = self.town.url("public", &format!("/v1/sales/autumn/products/{product}/purchases"));
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            let request = self.town.http.request(Method::POST, &url).bearer_auth(&token).header("Idempotency-Key", key);
            if let Ok(answer) = request.json(&json!({ "quantity": 1 })).send().await {
                let status = answer.status().as_u16();
                let place = answer.headers().get("location").map(|l| l.to_str().unwrap().to_owned());
                let body = answer.json::<Value>().await.unwrap_or(Value::Null);
                match (status, place) {
                    (201, _) => return body,
                    (202, Some(place)) => {
                        let url = self.town.url("public", &place);
                        let ended = |_: u16, b: &Value| b["state"] == "accepted" || b["state"] == "refused";
                        return self.town.until("the ticket's end", &url, &token, ended).await["order"].clone();
                    }
                    _ => last = format!("{status} {body}"),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("{buyer} could not buy {product}: {last}\n{}", self.town.said());
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
        let mut log = OpenOptions::new().append(true).open(self.town.access_log()).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    /// Interest goes on until the product sells on `tier`.
    async fn planned(&mut self, product: &str, tier: &str, operator: &str) {
        let url = self.town.url("control", &format!("/v1/plan?product={product}"));
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            self.views(product, 100);
            self.views("an-everyday-page", 1);
            if let Ok(answer) = self.town.http.get(&url).bearer_auth(operator).send().await
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
        panic!("{product} did not come to {tier}: {last}\n{}", self.town.said());
    }

    /// Ops put a product on a tier; asked again while a process is coming back.
    async fn overridden(&mut self, product: &str, tier: &str, operator: &str) {
        let url = self.town.url("control", &format!("/v1/overrides/{product}?wait=applied"));
        let body = json!({ "tier": tier, "ttl": "10m", "reason": "each process may die" });
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < PATIENCE {
            match self.town.http.put(&url).bearer_auth(operator).json(&body).send().await {
                Ok(answer) if answer.status().is_success() => return self.planned(product, tier, operator).await,
                Ok(answer) => last = answer.text().await.unwrap_or_default(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("{product} could not be put on {tier}: {last}\n{}", self.town.said());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_may_die() {
    let mut street = tokio::task::spawn_blocking(Street::build).await.unwrap();
    println!("data {}", street.town.data().display());
    // The collector has made the topic by the time it answers on its health port.
    street.ship();
    let admin = street.town.url("admin", "");
    let sale = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sale.toml");
    street.town.run(&["sale", "apply", &sale.display().to_string(), "--admin", &admin]);
    let operator = street.town.run(&["token", "--role", "operator"]);

    let cold = street.buy("watch-s8", "ann", "ann-1").await;
    assert_eq!(cold["tier"], "db", "{cold}");
    // Looked at by many, wanted by few: the leases of Redis are enough for it.
    street.planned("console-p5", "redis", &operator).await;
    let warm = street.buy("console-p5", "cem", "first").await;
    assert_eq!(warm["tier"], "redis", "{warm}");
    street.overridden("console-p5", "queue", &operator).await;
    let mut bought = vec![("console-p5", "ben".to_owned(), street.buy("console-p5", "ben", "ben-1").await)];
    assert_eq!(bought[0].2["tier"], "queue", "{}", bought[0].2);

    for service in SERVICES {
        println!("kill -9 {service}");
        street.town.kill(service);
        street.town.restart(service);
        let buyer = format!("buyer-after-{service}");
        let order = street.buy("console-p5", &buyer, "first").await;
        bought.push(("console-p5", buyer, order));
    }
    street.planned("drone-mini", "redis", &operator).await;
    bought.push(("console-p5", "cem".to_owned(), warm));
    for (product, buyer, order) in bought.clone() {
        let key = if buyer == "ben" { "ben-1" } else { "first" };
        let again = street.buy(product, &buyer, key).await;
        assert_eq!(again["order"], order["order"], "the same key has the same decision for ever");
    }
    let heat = street.town.url("analyzer", "/v1/top?limit=1");
    let top = street.town.until("a top page", &heat, "", |status, _| status == 200).await;
    assert!(top.to_string().contains("drone-mini") || top.to_string().contains("console-p5"), "{top}");
    street.town.run(&["audit"]);
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
