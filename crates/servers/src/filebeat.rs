//! Filebeat as a child. The binary is a third party's build: pinned by its hash when it is installed, used here only,
//! and never run as root.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
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
        let own = prepare(dir, config)?;
        let port = Port::reserve()?;
        let number = port.number();
        let figures = ["http.enabled=true".to_owned(), "http.host=127.0.0.1".to_owned(), format!("http.port={number}")];
        let mut arguments = own.arguments;
        arguments.push("-e".into());
        arguments.extend(figures.iter().flat_map(|setting| [OsString::from("-E"), setting.into()]));
        let recipe = Recipe {
            server: "Filebeat",
            program: own.program,
            arguments,
            directory: own.directory,
            input: own.input,
            bound: Duration::from_secs(60),
        };
        let process = Process::start(recipe, move || get(number, "/").is_ok_and(|page| page.contains(VERSION)))?;
        Ok(Self { process, port })
    }

    /// A configuration with some of its variables, `${NAME:default}`, filled in; none of them may be missing in it.
    pub fn fill(config: &str, values: &[(&str, &str)]) -> Result<String, ServerError> {
        let mut filled = config.to_owned();
        for (name, value) in values {
            let (head, mut found) = (format!("${{{name}:"), false);
            while let Some(start) = filled.find(&head) {
                let Some(length) = filled[start..].find('}') else { break };
                filled.replace_range(start..=start + length, value);
                found = true;
            }
            if !found {
                let output = format!("the configuration has no variable {name}");
                return Err(ServerError::Tool { tool: "Filebeat".to_owned(), output });
            }
        }
        Ok(filled)
    }

    /// Lets the real Filebeat judge this configuration (`filebeat test config`), and with `output` whether it can speak
    /// with what it would ship to; answers what it printed.
    pub fn judge(dir: &Path, config: &str, output: bool) -> Result<String, ServerError> {
        let own = prepare(dir, config)?;
        let mut command = Command::new(own.program);
        command.args(own.arguments).args(["test", if output { "output" } else { "config" }]);
        if let Some(input) = own.input {
            command.stdin(File::open(&input).map_err(at(&input))?);
        }
        let ended = command.current_dir(own.directory).output().map_err(at("filebeat"))?;
        let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        if ended.status.success() {
            Ok(said)
        } else {
            Err(ServerError::Tool { tool: "filebeat test".into(), output: said })
        }
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

/// How to run it in its directory.
struct Own {
    directory: PathBuf,
    program: PathBuf,
    arguments: Vec<OsString>,
    /// What it gets as its standard input.
    input: Option<PathBuf>,
}

fn prepare(dir: &Path, config: &str) -> Result<Own, ServerError> {
    let binary = place::cache()?.join(format!("filebeat-{VERSION}/filebeat"));
    if !binary.is_file() {
        return Err(ServerError::Missing(format!("Filebeat {VERSION}")));
    }
    let directory = place::own(dir)?;
    let file = directory.join("filebeat.yml");
    place::write(&file, &config.replace("@DIR@", &directory.display().to_string()))?;
    // It refuses a configuration that others may write.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).map_err(at(&file))?;
    let mut arguments: Vec<OsString> = Vec::new();
    let (program, input) = if place::is_root() {
        let (user, group) = nobody()?;
        for path in [&directory, &file] {
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
    arguments.extend(["-c".into(), "filebeat.yml".into()]);
    for (name, folder) in [("home", ""), ("config", ""), ("data", "data"), ("logs", "logs")] {
        arguments.push(format!("--path.{name}").into());
        arguments.push(if folder.is_empty() { directory.clone() } else { directory.join(folder) }.into());
    }
    Ok(Own { directory, program, arguments, input })
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
