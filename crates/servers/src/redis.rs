//! Redis as a child: append-only file on, so that what it answered is there again after `kill -9`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::control::controls;
use crate::process::{Process, Recipe};
use crate::{Port, ServerError, place};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// A running Redis.
pub struct Redis {
    process: Process,
    port: Port,
}
controls!(Redis);

impl Redis {
    /// Starts one in its own directory.
    pub fn start(dir: &Path) -> Result<Self, ServerError> {
        Self::start_with(dir, &[])
    }

    /// As [`Redis::start`], with these lines at the end of its configuration.
    pub fn start_with(dir: &Path, lines: &[&str]) -> Result<Self, ServerError> {
        let dir = place::own(dir)?;
        let port = Port::reserve()?;
        let number = port.number();
        // The kernel has what was appended before the answer goes out: only a crash of the machine loses a second.
        let mut config = format!(
            "bind 127.0.0.1\nport {number}\ndir \"{}\"\ndaemonize no\nsave \"\"\n\
             appendonly yes\nappendfsync everysec\nlogfile \"\"\n",
            dir.display()
        );
        for line in lines {
            config.push_str(line);
            config.push('\n');
        }
        let file = dir.join("redis.conf");
        place::write(&file, &config)?;
        let recipe = Recipe {
            server: "Redis",
            program: place::program("redis-server")?,
            arguments: vec![file.into()],
            directory: dir,
            input: None,
            bound: Duration::from_secs(60),
        };
        let process = Process::start(recipe, move || ask(number, "PING").is_ok_and(|answer| answer == "PONG"))?;
        Ok(Self { process, port })
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// `redis://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port())
    }

    /// Sends one command line (words without spaces) and answers its simple or bulk answer as text.
    pub fn ask(&self, line: &str) -> Result<String, ServerError> {
        ask(self.port(), line)
            .map_err(|error| ServerError::Tool { tool: format!("redis {line}"), output: error.to_string() })
    }
}

/// One inline command over a connection of its own.
pub(crate) fn ask(port: u16, line: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(ANSWER))?;
    connection.set_write_timeout(Some(ANSWER))?;
    connection.write_all(format!("{line}\r\n").as_bytes())?;
    let mut answer = BufReader::new(connection.take(MAX_ANSWER));
    let mut first = String::new();
    answer.read_line(&mut first)?;
    let first = first.trim_end();
    match first.split_at_checked(1) {
        Some(("+" | ":", text)) => Ok(text.to_owned()),
        Some(("$", "-1")) => Ok(String::new()),
        Some(("$", length)) => {
            let length: usize = length.parse().map_err(std::io::Error::other)?;
            let mut bytes = vec![0; length.min(MAX_ANSWER as usize)];
            answer.read_exact(&mut bytes)?;
            String::from_utf8(bytes).map_err(std::io::Error::other)
        }
        _ => Err(std::io::Error::other(format!("answered {first:?}"))),
    }
}
