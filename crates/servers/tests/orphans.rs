//! No server outlives the process that started it, however that process ends.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use servers::Redis;

/// Set for the process that plays the one that dies.
const DIES: &str = "SERVERS_TEST_DIES_IN";

fn until_closed(port: u16) {
    let waited = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(waited.elapsed() < Duration::from_secs(30), "an orphan listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn killed_with_kill_9_it_leaves_neither_a_running_nor_a_paused_server() {
    if let Some(dir) = std::env::var_os(DIES) {
        let running = Redis::start(&std::path::Path::new(&dir).join("running")).unwrap();
        let paused = Redis::start(&std::path::Path::new(&dir).join("paused")).unwrap();
        paused.pause();
        println!("\nports {} {}", running.port(), paused.port());
        loop {
            std::thread::park();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "killed_with_kill_9"])
        .env(DIES, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("ports ")).unwrap();
    let ports: Vec<u16> = line.split(' ').skip(1).map(|port| port.parse().unwrap()).collect();
    assert_eq!(ports.len(), 2);
    assert!(TcpStream::connect(("127.0.0.1", ports[0])).is_ok());
    other.kill().unwrap();
    other.wait().unwrap();
    ports.into_iter().for_each(until_closed);
}
