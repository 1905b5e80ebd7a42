//! The private listener of a collector of its own: health, books, and nothing that is private to the store.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use collector::Collector;
use common::{Shop, lines, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use types::SystemClock;

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn it_shows_the_books_and_dead_letters_without_what_they_hold() {
    let shop = Shop::new();
    shop.append("access.log", &lines(0..20));
    shop.append("access.log", "203.0.113.9 was here with token=0123456789abcdef0123456789abcdef\n");
    let (log, clock) = (Arc::new(shop.log.clone()), Arc::new(SystemClock::new()));
    let mut collector = Collector::new(shop.options.clone(), log, clock).await.unwrap();
    let telemetry = Router::new().route("/metrics", get(|| async { "a_metric 1\n" }));
    let address = collector.listen(([127, 0, 0, 1], 0).into(), telemetry).await.unwrap();
    let handle = collector.handle();
    let stop = CancellationToken::new();
    let running = tokio::spawn(collector.run(stop.clone()));
    until("all lines are counted", || handle.accounting().lines == 21).await;

    let books = ask(address, "/v1/accounting").await;
    assert!(books.starts_with("HTTP/1.1 200"), "{books}");
    for part in
        [r#""lines":21"#, r#""events":20"#, r#""ended":21"#, r#""balanced":true"#, r#""views /product/{id}":20"#]
    {
        assert!(books.contains(part), "{part} in {books}");
    }
    assert!(ask(address, "/healthz").await.contains("alive"));
    assert!(ask(address, "/readyz").await.contains("ready"));
    assert!(ask(address, "/metrics").await.contains("a_metric 1"));
    let letters = ask(address, "/v1/dead-letters").await;
    assert!(letters.contains("was here") && !letters.contains("203.0.113.9") && !letters.contains("0123456789abcdef"));
    let printed = format!("{:?}", handle.dead_letters(1).await.unwrap());
    assert!(!printed.contains("203.0.113.9"), "{printed}");
    assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));
    stop.cancel();
    running.await.unwrap().unwrap();
}
