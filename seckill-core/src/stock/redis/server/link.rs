//! One connection to one server, kept up: made, greeted, replaced when it breaks. It never gives out a connection
//! without knowing which server process is at its other end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::fault::Fault;
use super::options::{NodeAddress, RedisLeasesOptions};
use super::{metrics, script};

/// First pause between two tries to connect; doubled after each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause: how much later than Redis the leases are back at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Calls that may wait to be written; more of them wait for a place, within their own limit.
const WRITE_QUEUE: usize = 512;
/// How often a connection that nobody complains of is tried, so that readiness does not speak of a dead one.
const PULSE: Duration = Duration::from_secs(1);
/// Oldest version that has what the scripts use (several fields in one `HSET`, `UNLINK`, effects replicated).
const OLDEST: u32 = 5;

/// How connections are made.
#[derive(Clone)]
pub(super) struct Connector {
    cluster: bool,
    username: Option<String>,
    password_file: Option<PathBuf>,
    within: Duration,
}

impl Connector {
    pub fn new(options: &RedisLeasesOptions) -> Self {
        Self {
            cluster: options.cluster,
            username: options.username.clone(),
            password_file: options.password_file.clone(),
            within: options.connect_within,
        }
    }

    async fn connect(&self, address: &NodeAddress, number: u64) -> Result<Live, Fault> {
        match tokio::time::timeout(self.within, self.greet(address, number)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Fault::Lost(format!("no greeting within {:?}", self.within))),
        }
    }

    async fn greet(&self, address: &NodeAddress, number: u64) -> Result<Live, Fault> {
        let fault = |error: redis::RedisError| Fault::of(&error, address);
        let info = ConnectionAddr::Tcp(address.host().to_owned(), address.port())
            .into_connection_info()
            .map_err(fault)?
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let mut login = info.redis_settings().clone();
        if let Some(name) = &self.username {
            login = login.set_username(name);
        }
        if let Some(file) = &self.password_file {
            let password = tokio::fs::read_to_string(file).await.map_err(|error| {
                Fault::Refused(format!("the password file {} cannot be read: {error}", file.display()))
            })?;
            login = login.set_password(password.trim_end_matches(['\r', '\n']));
        }
        let client = Client::open(info.set_redis_settings(login)).map_err(fault)?;
        // Each call has its own limit; the connection itself need not keep time.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.within))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WRITE_QUEUE);
        let connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(fault)?;
        let mut live = Live { connection, run: Arc::from(""), number };
        let info = live.send(address, &[], &redis::cmd("INFO")).await?;
        live.run = Arc::from(self.judge(&text(&info))?.as_str());
        for text in script::TEXTS {
            // So that the first call of a sale finds them; a server that minds is asked again by that call.
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(text);
            if let Err(fault @ Fault::Lost(_)) = live.send(address, &[], &load).await {
                return Err(fault);
            }
        }
        Ok(live)
    }

    /// Which process it is, by its `INFO`; refuses one that cannot be right whatever one waits for.
    fn judge(&self, info: &str) -> Result<String, Fault> {
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let version = field("redis_version").unwrap_or_default();
        let major = version.split('.').next().and_then(|n| n.parse::<u32>().ok());
        if major.is_none_or(|major| major < OLDEST) {
            return Err(Fault::Refused(format!("redis_version {version:?}: {OLDEST} or later is needed")));
        }
        let clustered = field("cluster_enabled") == Some("1");
        if clustered != self.cluster {
            let (is, said) = if clustered { ("a node of a cluster", "false") } else { ("no cluster", "true") };
            return Err(Fault::Refused(format!("the server is {is}, but cluster = {said}")));
        }
        match field("run_id") {
            Some(run) if !run.is_empty() && run.len() <= 64 && run.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                // Harmless, as a lease is one key: it is there or not. But each eviction costs the product a move.
                if field("maxmemory_policy").is_some_and(|p| p != "noeviction") && field("maxmemory") != Some("0") {
                    tracing::warn!("the lease store may evict leases; set maxmemory-policy noeviction");
                }
                Ok(run.to_owned())
            }
            _ => Err(Fault::Refused("INFO names no run_id: the process cannot be told from its predecessor".into())),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}

/// A connection that was greeted.
#[derive(Clone)]
pub(super) struct Live {
    connection: MultiplexedConnection,
    /// The server process at its other end: another after every restart and on every replica.
    pub run: Arc<str>,
    /// Its number among the connections of its link.
    number: u64,
}

impl Live {
    /// Sends a command, `first` before it without anything between, and answers its answer.
    pub async fn send(&self, address: &NodeAddress, first: &[Cmd], command: &Cmd) -> Result<Value, Fault> {
        let mut connection = self.connection.clone();
        let answer = if first.is_empty() {
            connection.send_packed_command(command).await
        } else {
            let mut together = Pipeline::with_capacity(first.len() + 1);
            for one in first {
                together.add_command(one.clone());
            }
            together.add_command(command.clone());
            // The answers before the last do not matter: if one is an error, so is the last.
            let answers = connection.send_packed_commands(&together, 0, first.len() + 1).await;
            answers.map(|mut all| all.pop().unwrap_or(Value::Nil))
        };
        match answer {
            Ok(Value::ServerError(error)) => Err(Fault::answered(&error, address)),
            Ok(value) => Ok(value),
            Err(error) => Err(Fault::of(&error, address)),
        }
    }
}

/// Whether a link can be used.
#[derive(Clone)]
pub(super) enum State {
    /// It cannot.
    Down {
        /// Since when.
        since: Instant,
        /// Why the last try failed; `None` before its end.
        why: Option<Fault>,
    },
    /// It can.
    Up(Live),
}

/// One connection, kept up by a task of its own until it is dropped.
pub(super) struct Link {
    state: watch::Receiver<State>,
    broken: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Link {
    pub fn new(connector: Connector, address: NodeAddress) -> Self {
        let (up, state) = watch::channel(State::Down { since: Instant::now(), why: None });
        let (broken, breaks) = watch::channel(0);
        let task = tokio::spawn(keep(connector, address, up, breaks));
        Self { state, broken, task }
    }
    /// Its state, to be read or waited upon.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
    /// This connection broke or fell silent: it is replaced, unless it was already.
    pub fn report(&self, live: &Live) {
        self.broken.send_if_modified(|broken| std::mem::replace(broken, live.number.max(*broken)) < live.number);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(connector: Connector, address: NodeAddress, up: watch::Sender<State>, mut breaks: watch::Receiver<u64>) {
    let (mut number, mut pause, mut since) = (0, FIRST_PAUSE, Instant::now());
    loop {
        number += 1;
        match connector.connect(&address, number).await {
            Ok(live) => {
                tracing::info!(%address, run = %live.run, "connected to the lease store");
                up.send_replace(State::Up(live.clone()));
                pause = FIRST_PAUSE;
                if !until_broken(&connector, &address, &live, &mut breaks).await {
                    return;
                }
                since = Instant::now();
                metrics::reconnect();
                tracing::warn!(%address, "a connection to the lease store broke or fell silent; it is made anew");
                up.send_replace(State::Down { since, why: None });
            }
            Err(fault) => {
                // Said once per kind of trouble, not once per try.
                let same = matches!(&*up.borrow(), State::Down { why: Some(before), .. } if *before == fault);
                if !same {
                    tracing::warn!(%address, ?fault, "the lease store cannot be reached");
                }
                up.send_replace(State::Down { since, why: Some(fault) });
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Waits until the connection is reported as broken or does not answer any more; `false` if nobody needs it.
async fn until_broken(
    connector: &Connector,
    address: &NodeAddress,
    live: &Live,
    breaks: &mut watch::Receiver<u64>,
) -> bool {
    loop {
        match tokio::time::timeout(PULSE, breaks.wait_for(|broken| *broken >= live.number)).await {
            Ok(Ok(_)) => return true,
            Ok(Err(_)) => return false,
            // Nobody complained; perhaps because nobody called.
            Err(_) => {}
        }
        let ping = redis::cmd("PING");
        match tokio::time::timeout(connector.within, live.send(address, &[], &ping)).await {
            Err(_) | Ok(Err(Fault::Lost(_))) => return true,
            // Any other answer is one, whatever it says.
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(cluster: bool, info: &str) -> Result<String, Fault> {
        let options = RedisLeasesOptions { cluster, ..RedisLeasesOptions::default() };
        Connector::new(&options).judge(info)
    }

    #[test]
    fn only_a_server_that_can_be_right_is_used() {
        let good = "# Server\r\nredis_version:7.0.15\r\nrun_id:0a1b\r\n# Cluster\r\ncluster_enabled:0\r\n";
        assert_eq!(judge(false, good), Ok("0a1b".to_owned()));
        for (cluster, info) in [
            (true, good.to_owned()),
            (false, good.replace("cluster_enabled:0", "cluster_enabled:1")),
            (false, good.replace("7.0.15", "4.0.14")),
            (false, good.replace("run_id:0a1b", "run_id:")),
            (false, String::new()),
        ] {
            assert!(matches!(judge(cluster, &info), Err(Fault::Refused(_))), "{info}");
        }
    }
}
