//! MariaDB as a child, as durable as in production: what was committed is there after `kill -9`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::control::controls;
use crate::error::at;
use crate::process::{Process, Recipe, remove, tool};
use crate::{Port, ServerError, place};

/// A running MariaDB. `root` needs no password and comes from loopback only.
pub struct MariaDb {
    process: Process,
    port: Port,
    databases: AtomicU32,
}
controls!(MariaDb);

impl MariaDb {
    /// Starts one in its own directory.
    pub fn start(dir: &Path) -> Result<Self, ServerError> {
        Self::start_with(dir, &[])
    }

    /// As [`MariaDb::start`], with these lines at the end of the `[mysqld]` part of its configuration.
    pub fn start_with(dir: &Path, lines: &[&str]) -> Result<Self, ServerError> {
        let program = place::program("mariadbd")?;
        let dir = place::own(dir)?;
        let data = dir.join("data");
        if !data.exists() {
            copy(&prepared(&program)?, &data)?;
        }
        let port = Port::reserve()?;
        let number = port.number();
        let file = dir.join("my.cnf");
        place::write(&file, &config(&data, number, lines))?;
        let recipe = Recipe {
            server: "MariaDB",
            program,
            arguments: vec![format!("--defaults-file={}", file.display()).into()],
            directory: dir,
            input: None,
            bound: Duration::from_secs(60),
        };
        let process = Process::start(recipe, move || run(number, "SELECT 1").is_ok())?;
        Ok(Self { process, port, databases: AtomicU32::new(0) })
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// `mysql://root@127.0.0.1:PORT/mysql`: the server's own database.
    pub fn url(&self) -> String {
        self.url_of("mysql")
    }

    /// The address of this database.
    pub fn url_of(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port())
    }

    /// Makes a fresh, empty database and answers its address.
    pub fn create_database(&self) -> Result<String, ServerError> {
        let name = format!("fresh_{}_{}", std::process::id(), self.databases.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"))?;
        Ok(self.url_of(&name))
    }

    /// Runs SQL through the server's own client and answers its rows, columns parted by tabs, without a head.
    pub fn run(&self, sql: &str) -> Result<String, ServerError> {
        run(self.port(), sql)
    }
}

fn run(port: u16, sql: &str) -> Result<String, ServerError> {
    let client = place::program("mariadb")?;
    tool(
        Command::new(client)
            .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root", "--connect-timeout=2"])
            .args(["--batch", "--skip-column-names", &format!("--port={port}"), &format!("--execute={sql}")]),
    )
}

fn config(data: &Path, port: u16, lines: &[&str]) -> String {
    // As root it wants to be told that this is meant.
    let user = if place::is_root() { "user=root\n" } else { "" };
    format!(
        "[mysqld]\n{user}datadir={data}\nsocket=mysqld.sock\npid-file=mysqld.pid\nport={port}\n\
         bind-address=127.0.0.1\nskip-name-resolve\ncharacter-set-server=utf8mb4\nmax_connections=300\n\
         innodb_buffer_pool_size=64M\nperformance_schema=off\nserver-id=1\nlog-bin=binlog\n\
         sync_binlog=1\ninnodb_flush_log_at_trx_commit=1\n{more}\n",
        data = data.display(),
        more = lines.join("\n"),
    )
}

fn copy(from: &Path, to: &Path) -> Result<(), ServerError> {
    tool(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}

/// A data directory with only the system's tables, made once for this version of the server (3 s) and kept in the
/// cache; copying it takes a moment. Appears whole or not at all.
fn prepared(server: &Path) -> Result<PathBuf, ServerError> {
    let version = tool(Command::new(server).args(["--no-defaults", "--version"]))?;
    let number = version.split_whitespace().skip_while(|word| *word != "Ver").nth(1).unwrap_or("unknown");
    let cache = place::cache()?;
    fs::create_dir_all(&cache).map_err(at(&cache))?;
    let kept = cache.join(format!("mariadb-{number}"));
    if kept.exists() {
        return Ok(kept);
    }
    // One at a time; what an earlier one left half made is its to remove.
    let lock_path = cache.join("mariadb.lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    lock.lock().map_err(at(&lock_path))?;
    if kept.exists() {
        return Ok(kept);
    }
    let half = cache.join(format!("mariadb-{number}.half"));
    remove(&half)?;
    let mut install = Command::new(place::program("mariadb-install-db")?);
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    // A machine may not know its own name.
    install.args(["--force", "--skip-name-resolve"]);
    install.args(["--innodb-log-file-size=16M", &format!("--datadir={}", half.display())]);
    if place::is_root() {
        install.arg("--user=root");
    }
    tool(&mut install)?;
    fs::rename(&half, &kept).map_err(at(&kept))?;
    Ok(kept)
}
