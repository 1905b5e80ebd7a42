//! The edge as a child: the shop's Nginx with the files of `edge/`, in front of cores of this machine. It writes what a
//! site sets for itself; all else is what production runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::error::at;
use crate::{Nginx, Port, ServerError, place};

/// What is the same everywhere.
const CONFIG: &str = include_str!("../../../edge/nginx.conf");
const LOG_FORMAT: &str = include_str!("../../../edge/log_format.conf");
macro_rules! lua {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../edge/lua/edge/", $name, ".lua")))),*]
    };
}
const LUA: &[(&str, &str)] = lua![
    "bots", "credits", "door", "finish", "hmac", "http", "init", "known", "ledger", "metrics", "poll", "problem",
    "product", "purchase", "rate", "ready", "request", "settings", "token", "visitor",
];

/// Names a checkout's `edge/` to take the files from instead of those built in: to work on them without building.
const FILES: &str = "EDGE_FILES";

/// The file of `edge/` with this name.
fn file(name: &str, built_in: &str) -> Result<String, ServerError> {
    match std::env::var_os(FILES) {
        None => Ok(built_in.to_owned()),
        Some(folder) => {
            let path = Path::new(&folder).join(name);
            std::fs::read_to_string(&path).map_err(at(path))
        }
    }
}

/// One core behind the edge.
#[derive(Debug, Clone)]
pub struct EdgeCore {
    /// `host:port` of shoppers' listener.
    pub public: String,
    /// `host:port` of the private listener.
    pub private: String,
}

/// What a site says of its edge.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// Its name.
    pub name: String,
    /// The cores.
    pub cores: Vec<EdgeCore>,
    /// Secret file: the edges' token at the cores.
    pub token_file: PathBuf,
    /// Secret file: keys the hashes in the log.
    pub hash_key_file: PathBuf,
    /// Secret file: signs the built-in issuer's tokens.
    pub issuer_file: PathBuf,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted: Vec<String>,
    /// Certificate and key, to listen with TLS and HTTP/2 on a second port.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Calls a second of one address.
    pub client_calls: u32,
    /// Purchase calls a second of one buyer.
    pub buyer_calls: u32,
    /// Worker processes.
    pub workers: u32,
    /// Whether programs that say that they are programs are refused.
    pub refuse_bots: bool,
    /// Where the access log goes; else into its directory.
    pub log: Option<PathBuf>,
    /// More of the shop's locations.
    pub shop: String,
}

/// A running edge.
pub struct Edge {
    nginx: Nginx,
    private: Port,
    tls: Option<Port>,
    log: PathBuf,
}

impl Edge {
    /// Starts one; returns when it listens, which is before the first core has given credits.
    pub fn start(dir: &Path, options: &EdgeOptions) -> Result<Self, ServerError> {
        let dir = place::own(dir)?;
        let private = Port::reserve()?;
        let tls = options.certificate.as_ref().map(|_| Port::reserve()).transpose()?;
        let log = options.log.clone().unwrap_or_else(|| dir.join("access.log"));
        for folder in ["site", "lua/edge", "pages", "temporary"] {
            std::fs::create_dir_all(dir.join(folder)).map_err(at(dir.join(folder)))?;
        }
        place::write(&dir.join("log_format.conf"), &file("log_format.conf", LOG_FORMAT)?)?;
        for (name, text) in LUA {
            let name = format!("lua/edge/{name}.lua");
            place::write(&dir.join(&name), &file(&name, text)?)?;
        }
        // The port is the Nginx's own: known only when it starts, and put into its configuration then. The site's files
        // are included, so that one line stands in it.
        let config = file("nginx.conf", CONFIG)?
            .replace("include site/listen.conf;", "listen 127.0.0.1:@PORT@; include site/listen.conf;");
        for (name, text) in site(options, &private, tls.as_ref(), &log) {
            place::write(&dir.join("site").join(name), &text)?;
        }
        let nginx = Nginx::start(&dir, &config)?;
        Ok(Self { nginx, private, tls, log })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.nginx.url()
    }

    /// Shoppers' port.
    pub const fn port(&self) -> u16 {
        self.nginx.port()
    }

    /// Shoppers' port with TLS, if it has one.
    pub fn tls_port(&self) -> Option<u16> {
        self.tls.as_ref().map(Port::number)
    }

    /// Metrics and health.
    pub const fn private_port(&self) -> u16 {
        self.private.number()
    }

    /// The access log.
    pub fn access_log(&self) -> &Path {
        &self.log
    }

    /// Reads its configuration again: new workers take over, old ones finish what they have.
    pub fn reload(&self) {
        self.nginx.hang_up();
    }

    /// `kill -9`, for the master and its workers.
    pub fn kill(&mut self) {
        self.nginx.kill();
    }

    /// Ends it in its own way.
    pub fn stop(&mut self) {
        self.nginx.stop();
    }

    /// Starts it again on the same ports.
    pub fn restart(&mut self) -> Result<(), ServerError> {
        self.nginx.restart()
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.nginx.directory()
    }

    /// The end of what it has said.
    pub fn said(&self) -> String {
        self.nginx.log()
    }

    /// The master's process.
    pub fn pid(&self) -> Option<u32> {
        self.nginx.pid()
    }
}

/// The files of `site/`.
fn site(options: &EdgeOptions, private: &Port, tls: Option<&Port>, log: &Path) -> Vec<(&'static str, String)> {
    let mut http = format!("access_log {} edge;\n", log.display());
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(http, "{kind}_temp_path temporary/{kind};");
    }
    for proxy in &options.trusted {
        let _ = writeln!(http, "set_real_ip_from {proxy};");
    }
    if !options.trusted.is_empty() {
        http.push_str("real_ip_header X-Forwarded-For;\nreal_ip_recursive on;\n");
    }
    let modules = "/usr/lib/nginx/modules";
    let main = format!(
        "load_module {modules}/ndk_http_module.so;\nload_module {modules}/ngx_http_lua_module.so;\n\
         worker_processes {};\nworker_rlimit_nofile 65536;\nerror_log stderr notice;\n",
        options.workers
    );
    let mut listen = "server_name _;\n".to_owned();
    if let (Some(port), Some((certificate, key))) = (tls, &options.certificate) {
        let _ = write!(
            listen,
            "listen 127.0.0.1:{} ssl http2;\nssl_certificate {};\nssl_certificate_key {};\nssl_protocols TLSv1.2 TLSv1.3;\n",
            port.number(),
            certificate.display(),
            key.display()
        );
    }
    let mut cores = "upstream cores {\n".to_owned();
    for core in &options.cores {
        let _ = writeln!(cores, "server {} max_fails=3 fail_timeout=1s;", core.public);
    }
    cores.push_str("keepalive 256;\n}\n");
    vec![
        ("main.conf", main),
        ("http.conf", http),
        ("listen.conf", listen),
        ("cores.conf", cores),
        ("private.conf", format!("listen 127.0.0.1:{};\n", private.number())),
        ("shop.conf", options.shop.clone()),
        ("settings.lua", settings(options)),
    ]
}

fn settings(options: &EdgeOptions) -> String {
    let cores: Vec<_> = options.cores.iter().map(|core| format!("{:?}", core.private)).collect();
    format!(
        "return {{\n  edge = {:?}, cores = {{ {} }},\n  token_file = {:?}, hash_key_file = {:?},\n  \
         tokens = {{ kind = \"hs256\", secret_file = {:?}, issuer = \"seckill-demo\", audience = \"seckill-demo\", \
         roles = {{ \"shopper\", \"admin\" }} }},\n  client_calls = {}, buyer_calls = {}, refuse_bots = {},\n}}\n",
        options.name,
        cores.join(", "),
        options.token_file,
        options.hash_key_file,
        options.issuer_file,
        options.client_calls,
        options.buyer_calls,
        options.refuse_bots,
    )
}
