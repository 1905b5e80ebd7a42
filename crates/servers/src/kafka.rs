//! Kafka as a child: one node that is broker and controller. Acknowledged records are with the kernel, so they are
//! there after `kill -9`.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::control::controls;
use crate::error::at;
use crate::process::{Process, Recipe, tool};
use crate::{Port, ServerError, place};

/// The version that script/setup-servers fetches; its jars are pinned by `kafka/jars.sha256`.
const VERSION: &str = "4.3.1";
/// The one cluster that all these brokers say they are: 16 bytes in base64, as Kafka wants it.
const CLUSTER: &str = "c2Vja2lsbC10ZXN0LWthZg";
/// Longest wait for one answer to the question who is there.
const ANSWER: Duration = Duration::from_secs(2);

/// A running Kafka.
pub struct Kafka {
    process: Process,
    port: Port,
    _controller: Port,
    secured: Option<Secured>,
    java: PathBuf,
    jars: OsString,
}
controls!(Kafka);

/// Listeners of a broker that ask who comes. The one user there is may do everything.
pub struct Secured {
    sasl: Port,
    tls: Port,
    /// The certificate that the broker shows over TLS, in PEM: it has signed itself, and takes itself from a client.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Secured {
    /// Who may come in.
    pub const USER: &'static str = "shop";
    /// His password: of a broker on loopback that lives as long as a test.
    pub const PASSWORD: &'static str = "of-a-test-broker";

    /// Address of the listener that takes SASL/PLAIN without TLS.
    pub fn sasl(&self) -> String {
        format!("localhost:{}", self.sasl.number())
    }
    /// Address of the listener that takes SASL/PLAIN and SCRAM-SHA-512 over TLS.
    pub fn tls(&self) -> String {
        format!("localhost:{}", self.tls.number())
    }

    /// Makes the broker's key and certificate in its directory.
    fn prepare(dir: &Path) -> Result<Self, ServerError> {
        let (key, certificate, both) = (dir.join("broker.key"), dir.join("broker.pem"), dir.join(BOTH));
        if !both.exists() {
            let mut make = Command::new(place::program("openssl")?);
            make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
            make.args(["-days", "3650", "-subj", "/CN=localhost"]);
            make.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"]);
            tool(make.arg(&key).arg("-out").arg(&certificate).current_dir(dir))?;
            let read = |path: &Path| std::fs::read_to_string(path).map_err(at(path));
            place::write(&both, &(read(&key)? + &read(&certificate)?))?;
        }
        Ok(Self { sasl: Port::reserve()?, tls: Port::reserve()?, key, certificate })
    }

    fn lines(&self, dir: &Path, port: u16, controller: u16) -> Vec<String> {
        let (sasl, tls) = (self.sasl.number(), self.tls.number());
        let login = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_{}=\"{}\";",
            Self::USER,
            Self::PASSWORD
        );
        let advertised = format!("PLAINTEXT://127.0.0.1:{port},SASL://localhost:{sasl},TLS://localhost:{tls}");
        vec![
            format!("listeners={advertised},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners={advertised}"),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL"
                .to_owned(),
            "listener.name.sasl.sasl.enabled.mechanisms=PLAIN".to_owned(),
            format!("listener.name.sasl.plain.sasl.jaas.config={login}"),
            "listener.name.tls.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512".to_owned(),
            format!("listener.name.tls.plain.sasl.jaas.config={login}"),
            "listener.name.tls.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;"
                .to_owned(),
            "listener.name.tls.ssl.client.auth=requested".to_owned(),
            "listener.name.tls.ssl.keystore.type=PEM".to_owned(),
            format!("listener.name.tls.ssl.keystore.location={}", dir.join(BOTH).display()),
            "listener.name.tls.ssl.truststore.type=PEM".to_owned(),
            format!("listener.name.tls.ssl.truststore.location={}", self.certificate.display()),
        ]
    }
}

/// File with the broker's key and certificate.
const BOTH: &str = "broker-key-and-certificate.pem";

impl Kafka {
    /// Starts one in its own directory; about 6 s.
    pub fn start(dir: &Path) -> Result<Self, ServerError> {
        Self::start_with(dir, &[])
    }

    /// As [`Kafka::start`], with these lines at the end of its configuration.
    pub fn start_with(dir: &Path, lines: &[&str]) -> Result<Self, ServerError> {
        Self::begin(dir, lines, None)
    }

    /// As [`Kafka::start`], with two listeners more: see [`Kafka::secured`].
    pub fn start_secured(dir: &Path) -> Result<Self, ServerError> {
        let dir = place::own(dir)?;
        let secured = Secured::prepare(&dir)?;
        Self::begin(&dir, &[], Some(secured))
    }

    fn begin(dir: &Path, lines: &[&str], secured: Option<Secured>) -> Result<Self, ServerError> {
        let java = place::program("java")?;
        let lib = place::cache()?.join(format!("kafka-{VERSION}/lib"));
        if !lib.is_dir() {
            return Err(ServerError::Missing(format!("Kafka {VERSION}")));
        }
        let jars = lib.join("*").into_os_string();
        let dir = place::own(dir)?;
        let (port, controller) = (Port::reserve()?, Port::reserve()?);
        let number = port.number();
        place::write(&dir.join("log4j2.properties"), LOGGING)?;
        let file = dir.join("server.properties");
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        lines.extend(secured.iter().flat_map(|secured| secured.lines(&dir, number, controller.number())));
        place::write(&file, &config(&dir, number, controller.number(), &lines))?;
        if !dir.join("data/meta.properties").exists() {
            let mut format = Command::new(&java);
            format.args(["-Xmx128m", "-XX:TieredStopAtLevel=1"]).args(quiet(&dir)).arg("-cp").arg(&jars);
            format.args(["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c"]).arg(&file);
            if secured.is_some() {
                let (user, password) = (Secured::USER, Secured::PASSWORD);
                format.args(["--add-scram", &format!("SCRAM-SHA-512=[name={user},password={password}]")]);
            }
            tool(format.current_dir(&dir))?;
        }
        let mut arguments: Vec<OsString> = ["-Xms192m", "-Xmx384m", "-XX:+UseSerialGC"].map(OsString::from).into();
        arguments.extend(quiet(&dir));
        arguments.extend(["-cp".into(), jars.clone(), "kafka.Kafka".into(), file.into()]);
        let recipe = Recipe {
            server: "Kafka",
            program: java.clone(),
            arguments,
            directory: dir,
            input: None,
            bound: Duration::from_secs(120),
        };
        let process = Process::start(recipe, move || brokers(number).is_ok_and(|count| count > 0))?;
        Ok(Self { process, port, _controller: controller, secured, java, jars })
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:PORT`: what a client is given as bootstrap server.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The listeners that ask who comes, of a broker started so.
    pub const fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    /// Makes a topic with Kafka's own tool (a JVM: about 2 s), for what no client of ours would make.
    pub fn create_topic(&self, name: &str, partitions: u32) -> Result<(), ServerError> {
        let partitions = partitions.to_string();
        self.topics(&["--create", "--topic", name, "--partitions", &partitions]).map(drop)
    }

    /// Gives a topic more partitions with Kafka's own tool; `partitions` is how many it has then.
    pub fn grow_topic(&self, name: &str, partitions: u32) -> Result<(), ServerError> {
        let partitions = partitions.to_string();
        self.topics(&["--alter", "--topic", name, "--partitions", &partitions]).map(drop)
    }

    /// Deletes a topic with Kafka's own tool.
    pub fn delete_topic(&self, name: &str) -> Result<(), ServerError> {
        self.topics(&["--delete", "--topic", name]).map(drop)
    }

    /// The names of the topics that are there, of Kafka's own too.
    pub fn list_topics(&self) -> Result<Vec<String>, ServerError> {
        Ok(self.topics(&["--list"])?.lines().map(str::to_owned).collect())
    }

    fn topics(&self, arguments: &[&str]) -> Result<String, ServerError> {
        self.run_tool("org.apache.kafka.tools.TopicCommand", arguments)
    }

    /// Runs one of Kafka's tools by its class (`--bootstrap-server` is added) and answers what it printed.
    pub fn run_tool(&self, class: &str, arguments: &[&str]) -> Result<String, ServerError> {
        let mut command = Command::new(&self.java);
        command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1"]).args(quiet(self.directory())).arg("-cp").arg(&self.jars);
        command.args([class, "--bootstrap-server", &self.bootstrap()]).args(arguments);
        tool(command.current_dir(self.directory()))
    }
}

/// Says where the logging's configuration lies, and keeps its libraries silent about themselves.
fn quiet(dir: &Path) -> [OsString; 1] {
    let mut option = OsString::from("-Dlog4j2.configurationFile=");
    option.push(dir.join("log4j2.properties"));
    [option]
}

const LOGGING: &str = "\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
";

fn config(dir: &Path, port: u16, controller: u16, lines: &[String]) -> String {
    // The two broker times make a restart after `kill -9` take 7 s, not 15. The rest makes it small, and quick to
    // clean old records up.
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={data}\n\
         offsets.topic.num.partitions=4\noffsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=4\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\n\
         broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n\
         num.network.threads=2\nnum.io.threads=4\nlog.cleaner.dedupe.buffer.size=8388608\n\
         log.index.size.max.bytes=1048576\n\
         log.retention.check.interval.ms=1000\nlog.cleaner.backoff.ms=500\n{more}\n",
        data = dir.join("data").display(),
        more = lines.join("\n"),
    )
}

/// How many brokers the broker knows: a Metadata request (version 1, no topic) by hand. It answers with one only
/// when it serves.
fn brokers(port: u16) -> std::io::Result<u32> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(ANSWER))?;
    connection.set_write_timeout(Some(ANSWER))?;
    // Size; kind 3, version 1; correlation 1; no client id; an empty list of topics.
    let request = [&14_u32.to_be_bytes()[..], &[0, 3, 0, 1], &1_u32.to_be_bytes(), &[0xff, 0xff], &[0; 4]].concat();
    connection.write_all(&request)?;
    // Size, correlation, number of brokers.
    let mut answer = [0; 12];
    connection.read_exact(&mut answer)?;
    Ok(u32::from_be_bytes([answer[8], answer[9], answer[10], answer[11]]))
}
