//! Filebeat as a child: it follows a file, remembers over `kill -9` what it sent, and a failed start says why.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use servers::{Filebeat, ServerError};

const CONFIG: &str = r#"
filebeat.inputs:
  - type: filestream
    id: shop
    paths: ["LOGS/*.log"]
    prospector.scanner.check_interval: 1s
queue.mem.flush.timeout: 0.2s
output.file:
  path: "@DIR@/out"
  filename: events
"#;

fn lines(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir.join("out")).into_iter().flatten().map(|f| f.unwrap().path());
    let text: String = files.map(|f| fs::read_to_string(f).unwrap()).collect();
    text.lines().map(str::to_owned).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = Instant::now();
    while !holds() {
        assert!(waited.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn it_follows_a_file_and_after_kill_9_goes_on_where_it_was() {
    let place = tempfile::tempdir().unwrap();
    // Filebeat runs as nobody, who must be able to come here.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (dir, logs) = (place.path().join("filebeat"), place.path().join("logs"));
    fs::create_dir(&logs).unwrap();
    let log = logs.join("access.log");
    fs::write(&log, "first\n").unwrap();
    let mut filebeat = Filebeat::start(&dir, &CONFIG.replace("LOGS", logs.to_str().unwrap())).unwrap();
    until("the first line", || lines(&dir).iter().any(|l| l.contains(r#""message":"first""#)));
    assert!(filebeat.stats().unwrap().contains("\"pipeline\""));
    // Its registry is written behind its acknowledgement; what is not in it would come again, rightly.
    until("the registry", || {
        let registry = dir.join("data/registry/filebeat/log.json");
        fs::read_to_string(registry).is_ok_and(|text| text.contains(r#""offset":6"#))
    });
    filebeat.kill();
    fs::write(&log, "first\nsecond\n").unwrap();
    filebeat.restart().unwrap();
    until("the second line", || lines(&dir).iter().any(|l| l.contains(r#""message":"second""#)));
    assert_eq!(lines(&dir).iter().filter(|l| l.contains(r#""message":"first""#)).count(), 1);
    filebeat.pause();
    assert!(filebeat.is_running() && filebeat.stats().is_err());
    filebeat.resume();
    filebeat.stats().unwrap();
    filebeat.stop();
    assert!(!filebeat.is_running());
}

#[test]
fn a_failed_start_shows_the_end_of_the_log() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = Filebeat::start(&place.path().join("filebeat"), "output.nowhere: {}").err().unwrap();
    assert!(matches!(error, ServerError::Died { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}
