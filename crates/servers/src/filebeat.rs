//! Filebeat as a child. The binary is a third party's build: pinned by its hash when it is installed, used here only,
//! and never run as root.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::controls;
use crate::error::at;
use crate::page::get;
use crate::process::{Process, Recipe};
use crate::{Port, ServerError, place};

/// The version that script/setup-servers fetches.
const VERSION: &str = "8.1.3";

/// A running Filebeat. What it has sent it remembers in its directory, over restarts too.
pub struct Filebeat {
    process: Process,
    port: Port,
}
controls!(Filebeat);

impl Filebeat {
    /// Starts one with this configuration (YAML), in which `@DIR@` stands for its directory. Its own figures are
    /// served on [`Filebeat::port`].
    ///
    /// As root it is run as `nobody`, who becomes the owner of `dir`; the logs that it follows must be readable to
    /// that user, with every directory above them.
    pub fn start(dir: &Path, config: &str) -> Result<Self, ServerError> {
        let binary = place::cache()?.join(format!("filebeat-{VERSION}/filebeat"));
        if !binary.is_file() {
            return Err(ServerError::Missing(format!("Filebeat {VERSION}")));
        }
        let dir = place::own(dir)?;
        let port = Port::reserve()?;
        let number = port.number();
        let file = dir.join("filebeat.yml");
        place::write(&file, &config.replace("@DIR@", &dir.display().to_string()))?;
        // It refuses a configuration that others may write.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).map_err(at(&file))?;
        let own = [
            "-e",
            "-c",
            "filebeat.yml",
            "-E",
            "http.enabled=true",
            "-E",
            "http.host=127.0.0.1",
            "-E",
            &format!("http.port={number}"),
        ]
        .map(OsString::from);
        let mut arguments: Vec<OsString> = Vec::new();
        let (program, input) = if place::is_root() {
            let (user, group) = nobody()?;
            for path in [&dir, &file] {
                chown(path, Some(user), Some(group)).map_err(at(path))?;
            }
            arguments.extend([
                format!("--reuid={user}").into(),
                format!("--regid={group}").into(),
                "--clear-groups".into(),
                "--no-new-privs".into(),
                "--".into(),
                // That user cannot enter root's cache: it gets the program as its standard input.
                "/proc/self/fd/0".into(),
            ]);
            (place::program("setpriv")?, Some(binary))
        } else {
            (binary, None)
        };
        arguments.extend(own);
        for (name, folder) in [("home", ""), ("config", ""), ("data", "data"), ("logs", "logs")] {
            arguments.push(format!("--path.{name}").into());
            arguments.push(if folder.is_empty() { dir.clone() } else { dir.join(folder) }.into());
        }
        let recipe =
            Recipe { server: "Filebeat", program, arguments, directory: dir, input, bound: Duration::from_secs(60) };
        let process = Process::start(recipe, move || get(number, "/").is_ok_and(|page| page.contains(VERSION)))?;
        Ok(Self { process, port })
    }

    /// The port of its figures on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its figures as JSON (events in the pipeline, acknowledged, open files).
    pub fn stats(&self) -> Result<String, ServerError> {
        get(self.port(), "/stats")
            .map_err(|error| ServerError::Tool { tool: "Filebeat /stats".to_owned(), output: error.to_string() })
    }
}

/// User and group of `nobody`.
fn nobody() -> Result<(u32, u32), ServerError> {
    let path = PathBuf::from("/etc/passwd");
    let users = std::fs::read_to_string(&path).map_err(at(&path))?;
    let line = users.lines().find(|line| line.starts_with("nobody:"));
    let ids = line.and_then(|line| {
        let mut fields = line.split(':').skip(2).map(str::parse);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    });
    ids.ok_or_else(|| ServerError::Missing("the user nobody".to_owned()))
}
