//! What configuration decides: passwords, the kind of server, how long keys live.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use seckill_core::stock::redis::server::{RedisLeases, RedisLeasesOptions};
use seckill_core::stock::redis::{LeaseLoad, LeaseStore, LeaseStoreError};
use types::{Clock, SystemClock};

use crate::contract::load;
use crate::place::{Cluster, Place, open, until, until_ready};

async fn refused(options: RedisLeasesOptions) -> String {
    match RedisLeases::connect(options, Arc::new(SystemClock::new())).await {
        Err(error @ LeaseStoreError::Refused(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_comes_from_a_file_and_may_change() {
    let mut place = Place::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    place.redis.ask("ACL SETUSER shop on >first-secret ~seckill:* +@all").unwrap();
    place.redis.ask("ACL SETUSER default -@all +ping +acl").unwrap();
    let options =
        RedisLeasesOptions { username: Some("shop".to_owned()), password_file: Some(file.clone()), ..place.options() };
    assert!(refused(options.clone()).await.contains("password file"));
    fs::write(&file, "not-the-secret\n").unwrap();
    let said = refused(options.clone()).await;
    assert!(!said.contains("not-the-secret"), "{said}");
    fs::write(&file, "first-secret\n").unwrap();
    let leases = open(options).await;
    assert!(!format!("{leases:?}").contains("secret"));
    assert!(leases.load(load("guarded", 1, 1, 1)).await.unwrap());

    // Another password for the next life; no restart of the core.
    place.redis.restart().unwrap();
    place.redis.ask("ACL SETUSER shop on >second-secret ~seckill:* +@all").unwrap();
    place.redis.ask("ACL SETUSER default -@all +ping +acl").unwrap();
    until("the break is seen", || leases.ready().is_err()).await;
    fs::write(&file, "second-secret\n").unwrap();
    until_ready(&leases).await;
    assert!(leases.load(load("guarded", 1, 1, 1)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_wrong_kind_is_refused_at_the_start() {
    let (one, three) = (Place::start(&[]), Cluster::start());
    assert!(refused(RedisLeasesOptions { cluster: true, ..one.options() }).await.contains("no cluster"));
    assert!(refused(RedisLeasesOptions { cluster: false, ..three.options() }).await.contains("a node of a cluster"));
    assert!(refused(RedisLeasesOptions { in_flight: 0, ..one.options() }).await.contains("in_flight"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_expire_some_time_after_their_sale() {
    let place = Place::start(&[]);
    let leases = open(RedisLeasesOptions { keep: Duration::from_secs(2), ..place.options() }).await;
    let now = SystemClock::new().now();
    let open_for = |product: &str, seconds: i64| LeaseLoad {
        closes: types::Timestamp::from_millis(now.millis() + seconds * 1_000),
        ..load(product, 1, 5, 1)
    };
    for (product, seconds) in [("over", -500), ("closed", 500), ("open", 500)] {
        assert!(leases.load(open_for(product, seconds)).await.unwrap());
    }
    let lives = |product: &str| -> i64 {
        place.redis.ask(&format!("PTTL seckill:lease:{{{product}}}")).unwrap().parse().unwrap()
    };
    // Sale's end and `keep` from now; the server reads its own clock, and only once for each of its turns.
    assert!((490_000..510_000).contains(&lives("open")), "{}", lives("open"));
    assert!(leases.close(&open_for("closed", 0).product, open_for("closed", 0).lease).await.unwrap());
    assert!(lives("over") < 10_000 && lives("closed") < 10_000);
    until("two keys have expired", || place.redis.ask("DBSIZE").unwrap() == "1").await;
    assert!(lives("open") > 0);
}
