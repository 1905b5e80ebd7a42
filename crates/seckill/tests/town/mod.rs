//! A whole installation under test: services as processes of their own, on embedded parts or on real Kafka, Redis and
//! MariaDB, each with ports that stay its own while it is down. It knows nothing of what is tested on it.
// Each test file uses its part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde::Serialize;
use serde_json::Value;
use testkit::faults::Victim;
use testkit::servers::{Kafka, Launch, MariaDb, Port, Program, Redis};

/// Longest time to wait for a condition; only a broken run ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
pub const LOOK: Duration = Duration::from_millis(50);
/// Lines of each log that a failing test shows.
const TAIL: usize = 15;

/// The servers of a real town.
pub struct Servers {
    pub kafka: Kafka,
    pub redis: Redis,
    pub mariadb: MariaDb,
    /// The database of the services, `mysql://…`.
    pub database: String,
}

/// How a service is called, what runs it, and where it says that it serves.
struct Kind {
    command: &'static str,
    /// Its listeners; the last one has the health page.
    ports: &'static [&'static str],
    page: &'static str,
}

const fn kind(service: &str) -> Kind {
    match service.as_bytes() {
        b"core" => Kind { command: "core", ports: &["public", "admin", "private"], page: "/readyz" },
        b"core-2" => Kind { command: "core", ports: &["public-2", "admin-2", "private-2"], page: "/readyz" },
        b"control" => Kind { command: "control", ports: &["control", "control-health"], page: "/healthz" },
        b"analyze" => Kind { command: "analyze", ports: &["analyzer", "analyze-health"], page: "/healthz" },
        b"collect" => Kind { command: "collect", ports: &["collector"], page: "/healthz" },
        b"house" => Kind {
            command: "all-in-one",
            ports: &["public", "admin", "control", "analyzer", "collector", "private"],
            page: "/readyz",
        },
        _ => panic!("no such service"),
    }
}

/// A running installation. Everything ends with it.
pub struct Town {
    data: tempfile::TempDir,
    ports: BTreeMap<&'static str, Port>,
    services: BTreeMap<&'static str, Program>,
    pub servers: Option<Servers>,
    pub http: Client,
    issuer: Arc<jsonwebtoken::EncodingKey>,
}

impl Town {
    /// Everything in one process, on embedded parts, following an access log that is empty so far. `settings` are more
    /// lines of the table `[core]`.
    pub fn embedded(settings: &str) -> Self {
        Self::build(&["house"], settings, false)
    }

    /// These services (`core`, `core-2`, `control`, `analyze`, `collect`), each a process, on servers of their own.
    pub fn real(services: &[&'static str], settings: &str) -> Self {
        Self::build(services, settings, true)
    }

    fn build(services: &[&'static str], settings: &str, is_real: bool) -> Self {
        let data = tempfile::tempdir().unwrap();
        // Filebeat runs as another user and must be able to read the log.
        fs::set_permissions(data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(data.path().join("access.log"), "").unwrap();
        let issuer = make_secrets(data.path());
        let names = services.iter().flat_map(|service| kind(service).ports);
        let ports = names.map(|name| (*name, Port::reserve().unwrap())).collect();
        let servers = is_real.then(|| start_servers(data.path()));
        // Answers of a process that was killed do not come; no shopper waits longer than this.
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(15)).build().unwrap();
        let mut town = Self { data, ports, services: BTreeMap::new(), servers, http, issuer: Arc::new(issuer) };
        for service in services {
            fs::write(town.config_of(service), town.configuration(service, services, settings)).unwrap();
        }
        // They may start at once, in any order.
        let town_ref = &town;
        let started: Vec<_> = std::thread::scope(|scope| {
            let start = |name: &&'static str| {
                scope.spawn({
                    let name = *name;
                    move || (name, town_ref.start(name))
                })
            };
            services.iter().map(start).collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).collect()
        });
        town.services = started.into_iter().collect();
        town
    }

    fn start(&self, service: &'static str) -> Program {
        let Kind { command, ports, page } = kind(service);
        let place = self.folder_of(service);
        let mut arguments = vec!["--data".into(), place.clone().into()];
        arguments.extend(["--config".into(), self.config_of(service).into(), command.into()]);
        if service == "house" {
            arguments.extend(["--log".into(), self.access_log().into()]);
        }
        let program = binary();
        let port = self.ports[ports.last().unwrap()].number();
        let launch = Launch { name: service, program, arguments, port, page };
        // What it prints lies apart from its data: it is the directory of this run's process only.
        Program::start(&self.data.path().join(format!("run-{service}")), launch).unwrap()
    }

    /// A second core may not share the first one's plan file.
    fn folder_of(&self, service: &str) -> PathBuf {
        if service == "core-2" { self.data.path().join("core-2-data") } else { self.data.path().to_owned() }
    }

    fn config_of(&self, service: &str) -> PathBuf {
        self.data.path().join(format!("{service}.toml"))
    }

    fn configuration(&self, service: &'static str, all: &[&'static str], settings: &str) -> String {
        let at = |name: &str| self.ports.get(name).map(|port| format!("127.0.0.1:{}", port.number()));
        let mut text = String::from("[secrets]\n");
        for secret in SECRETS {
            let _ = writeln!(text, "{secret}_file = {:?}", self.data.path().join("secrets").join(secret));
        }
        if let Some(Servers { kafka, redis, database, .. }) = &self.servers {
            let _ = writeln!(
                text,
                "[event_log]\nprovider = \"kafka\"\nkafka.bootstrap = [{:?}]\n[stock]\nprovider = \"mariadb\"\n\
                 mariadb.url = {database:?}\n[leases]\nprovider = \"redis\"\nredis.nodes = [\"127.0.0.1:{}\"]",
                kafka.bootstrap(),
                redis.port(),
            );
        }
        let second = if service == "core-2" { "-2" } else { "" };
        let _ = writeln!(text, "[core]\ncore = \"core{second}\"\n{settings}");
        for listener in ["public", "private", "admin"] {
            if let Some(at) = at(&format!("{listener}{second}")) {
                let _ = writeln!(text, "{listener} = {at:?}");
            }
        }
        if let Some(at) = at("control") {
            let cores: Vec<_> = ["private", "private-2"].iter().filter_map(|name| at_of(&self.ports, name)).collect();
            let _ = writeln!(text, "[control_plane]\nlisten = {at:?}\ncores = {cores:?}");
        }
        if let Some(at) = at("analyzer") {
            let _ = writeln!(text, "[analyzer]\nlisten = {at:?}\nopen = true");
        }
        if let Some(at) = at("collector") {
            let source = if all == ["house"] { "" } else { "source = \"access-log\"\n" };
            let _ = writeln!(text, "[collector]\n{source}from_start = true\nlisten = {at:?}");
        }
        if let Some(at) = at(&format!("{service}-health")) {
            let _ = writeln!(text, "[telemetry]\nlisten = {at:?}");
        }
        text
    }

    /// Whether it has this listener.
    pub fn has(&self, listener: &str) -> bool {
        self.ports.contains_key(listener)
    }

    /// Where everything of this town lies.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The access log that is followed.
    pub fn access_log(&self) -> PathBuf {
        self.data.path().join("access.log")
    }

    /// Keeps the data directory for a look at it, and says where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.data.disable_cleanup(true);
        self.data.path().to_owned()
    }

    /// The program with the configuration of the first service.
    pub fn seckill(&self) -> Command {
        let first = self.services.keys().next().unwrap();
        let mut command = Command::new(binary());
        command.arg("--data").arg(self.data.path()).arg("--config").arg(self.config_of(first)).stdin(Stdio::null());
        command
    }

    /// What a command prints; it must end well.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.seckill().args(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `kill -9`; it stays away.
    pub fn kill(&mut self, service: &str) {
        self.services.get_mut(service).unwrap().kill();
    }

    /// Starts it again; returns when it serves.
    pub fn restart(&mut self, service: &str) {
        self.services.get_mut(service).unwrap().restart().unwrap();
    }

    /// Ends the services in their own way; the servers stay.
    pub fn stop_services(&mut self) {
        self.services.values_mut().for_each(Program::stop);
    }

    /// Whatever may be killed: services, and the servers under their names.
    pub fn victims(&mut self) -> BTreeMap<&'static str, &mut dyn Victim> {
        let mut all: BTreeMap<&'static str, &mut dyn Victim> = BTreeMap::new();
        for (name, program) in &mut self.services {
            all.insert(name, program);
        }
        if let Some(servers) = &mut self.servers {
            all.insert("kafka", &mut servers.kafka);
            all.insert("redis", &mut servers.redis);
            all.insert("mariadb", &mut servers.mariadb);
        }
        all
    }

    /// Everything the processes said last, for a failing test.
    pub fn said(&self) -> String {
        let mut all = String::new();
        for (name, program) in &self.services {
            let log = program.log();
            let lines: Vec<_> = log.lines().collect();
            let _ = writeln!(all, "--- {name}\n{}", lines[lines.len().saturating_sub(TAIL)..].join("\n"));
        }
        all
    }

    /// The base address of a listener.
    pub fn base(&self, listener: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[listener].number())
    }

    /// An address on a listener.
    pub fn url(&self, listener: &str, path: &str) -> String {
        self.base(listener) + path
    }

    /// A token of the built-in issuer.
    pub fn token(&self, subject: &str, roles: &[types::Role]) -> String {
        self.issuer().token(subject, roles)
    }

    /// Signs tokens without asking the program.
    pub fn issuer(&self) -> Issuer {
        Issuer(self.issuer.clone())
    }

    /// Asks again until `good` says so.
    pub async fn until(&self, what: &str, url: &str, token: &str, good: impl Fn(u16, &Value) -> bool) -> Value {
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
}

/// The program under test: the one of this build, or the one that `SOAK_BINARY` names (a copy that a long run keeps,
/// a release build).
fn binary() -> PathBuf {
    std::env::var_os("SOAK_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_seckill").into(), PathBuf::from)
}

fn at_of(ports: &BTreeMap<&'static str, Port>, name: &str) -> Option<String> {
    ports.get(name).map(|port| format!("http://127.0.0.1:{}", port.number()))
}

fn start_servers(data: &Path) -> Servers {
    let place = |name: &str| data.join(name);
    std::thread::scope(|scope| {
        let kafka = scope.spawn(|| Kafka::start(&place("kafka")).unwrap());
        let redis = Redis::start(&place("redis")).unwrap();
        let mariadb = MariaDb::start(&place("mariadb")).unwrap();
        let database = mariadb.create_database().unwrap();
        Servers { kafka: kafka.join().unwrap(), redis, mariadb, database }
    })
}

const SECRETS: [&str; 5] = ["issuer", "ticket", "visitor", "control", "edge"];

/// One secret of each kind for all processes; answers the key that signs tokens.
fn make_secrets(data: &Path) -> jsonwebtoken::EncodingKey {
    fs::create_dir_all(data.join("secrets")).unwrap();
    let mut issuer = String::new();
    for name in SECRETS {
        let text = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        fs::write(data.join("secrets").join(name), &text).unwrap();
        if name == "issuer" {
            issuer = text;
        }
    }
    jsonwebtoken::EncodingKey::from_secret(issuer.as_bytes())
}

/// Signs tokens as the built-in issuer does.
#[derive(Clone)]
pub struct Issuer(Arc<jsonwebtoken::EncodingKey>);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: &'a str,
    roles: &'a [types::Role],
    exp: i64,
}

impl Issuer {
    /// A token for this subject, good for a day.
    pub fn token(&self, subject: &str, roles: &[types::Role]) -> String {
        let exp = jiff::Timestamp::now().as_second() + 86_400;
        let claims = Claims { iss: "seckill-demo", aud: "seckill-demo", sub: subject, roles, exp };
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &self.0).unwrap()
    }
}
