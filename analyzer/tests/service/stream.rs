//! Heat as it is pushed: a snapshot first, then what changes, in the end the same as what is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{EventLog, MemoryLog};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use types::Timestamp;

use crate::{GIVE_UP, append, ready, start_on, views};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_deltas_knows_what_a_snapshot_says() {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
    ready(&*log).await;
    let (handle, stop, running) = start_on(&log, crate::Fast::new(), true).await;
    let begin = Timestamp::from_seconds(1_548_000_000);
    let mut line = 0;
    append(&*log, &views(&mut ChaCha8Rng::seed_from_u64(1), begin, 10, &mut line)).await;

    let client = reqwest::Client::new();
    let address = handle.address();
    let refused = client.get(format!("http://{address}/v1/heat/stream?limit=0")).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 422);
    let mut stream = client.get(format!("http://{address}/v1/heat/stream?limit=50")).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let (mut text, mut known, mut snapshots, mut deltas) = (String::new(), BTreeMap::new(), 0, 0);
    let mut first = None;
    let mut more = Some(views(&mut ChaCha8Rng::seed_from_u64(2), begin.plus(Duration::from_secs(10)), 10, &mut line));
    let follow = async {
        // Forty-one events: a second snapshot has come, which says the same as the deltas before it.
        while snapshots < 2 {
            text.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
            while let Some((event, rest)) = text.split_once("\n\n") {
                let of =
                    |name: &str| event.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default();
                let (kind, data) = (of("event:").to_owned(), of("data:"));
                if kind.is_empty() {
                    text = rest.to_owned();
                    continue;
                }
                let data: Value = serde_json::from_str(data).unwrap();
                first.get_or_insert(kind.clone());
                let list = |name: &str| data[name].as_array().cloned().unwrap_or_default();
                if kind == "snapshot" {
                    snapshots += 1;
                    known = list("top").into_iter().map(|p| (p["product"].to_string(), p)).collect();
                    assert!(known.len() <= 50);
                } else {
                    deltas += 1;
                    for page in list("changed") {
                        known.insert(page["product"].to_string(), page);
                    }
                    for page in list("gone") {
                        assert!(known.remove(&page.to_string()).is_some(), "{page} was never in the list");
                    }
                }
                assert!(data["window_end"].is_string() && data["thresholds"]["hot60"].is_u64(), "{data}");
                text = rest.to_owned();
            }
            if let Some(more) = more.take_if(|_| deltas > 3) {
                append(&*log, &more).await;
            }
        }
    };
    assert!(tokio::time::timeout(GIVE_UP, follow).await.is_ok(), "{snapshots} snapshots, {deltas} deltas");
    assert_eq!(first.as_deref(), Some("snapshot"), "the state as it is comes first");
    assert!(deltas >= 39);
    // It ends with the service, which does not wait for it.
    stop.cancel();
    running.await.unwrap().unwrap();
}
