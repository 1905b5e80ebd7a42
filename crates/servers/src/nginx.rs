//! Nginx as a child with a prefix of its own: the master and its workers as in production.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::control::controls;
use crate::process::{Process, Recipe, tool};
use crate::{Port, ServerError, place};

/// A running Nginx.
pub struct Nginx {
    process: Process,
    port: Port,
}
controls!(Nginx);

impl Nginx {
    /// Starts one with this configuration, in which `@PORT@` stands for its port, `@DIR@` for its directory,
    /// `@MODULES@` for the directory of the installed modules and `@TEMPORARY@` (in `http`) for the directives that
    /// put its temporary files into its directory. `daemon`, `pid`, `user` and the first `error_log` are set here.
    pub fn start(dir: &Path, config: &str) -> Result<Self, ServerError> {
        let program = place::program("nginx")?;
        let dir = place::own(dir)?;
        let port = Port::reserve()?;
        let number = port.number();
        place::write(&dir.join("nginx.conf"), &filled(config, &dir, number))?;
        let recipe = Recipe {
            server: "Nginx",
            arguments: arguments(&dir),
            program,
            directory: dir,
            input: None,
            bound: Duration::from_secs(30),
        };
        let answers = move || TcpStream::connect((Ipv4Addr::LOCALHOST, number)).is_ok();
        Ok(Self { process: Process::start(recipe, answers)?, port })
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// SIGHUP to the master: it reads its files again.
    pub(crate) fn hang_up(&self) {
        self.process.hang_up();
    }

    /// Has the new configuration checked (a wrong one is refused and the old one stays) and tells the master to
    /// take it. Returns before the workers have changed.
    pub fn reload(&self, config: &str) -> Result<(), ServerError> {
        let (file, next) = (self.directory().join("nginx.conf"), self.directory().join("next.conf"));
        place::write(&next, &filled(config, self.directory(), self.port()))?;
        let mut check = Command::new(place::program("nginx")?);
        check.args(["-t", "-q", "-p"]).arg(self.directory()).args(["-c", "next.conf", "-e", "stderr"]);
        tool(check.args(["-g", &directives()]))?;
        std::fs::rename(&next, &file).map_err(crate::error::at(&file))?;
        self.process.hang_up();
        Ok(())
    }
}

/// As root the workers would become another user, who cannot enter the directory of a test.
fn directives() -> String {
    format!("daemon off; pid nginx.pid;{}", if place::is_root() { " user root;" } else { "" })
}

fn arguments(dir: &Path) -> Vec<std::ffi::OsString> {
    vec![
        "-p".into(),
        dir.into(),
        "-c".into(),
        "nginx.conf".into(),
        "-e".into(),
        "stderr".into(),
        "-g".into(),
        directives().into(),
    ]
}

fn filled(config: &str, dir: &Path, port: u16) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = kinds.iter().map(|kind| format!("{kind}_temp_path {}/{kind}; ", dir.display())).collect();
    config
        .replace("@PORT@", &port.to_string())
        .replace("@DIR@", &dir.display().to_string())
        .replace("@MODULES@", &PathBuf::from("/usr/lib/nginx/modules").display().to_string())
        .replace("@TEMPORARY@", &temporary)
}
