//! A small shop that sells through seckill: `cargo run -p seckill --example shop`. It only reads its arguments; the
//! shop is in `shop.rs`.

#[path = "shop.rs"]
mod shop;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// A small shop that sells through seckill.
#[derive(Parser)]
struct Arguments {
    /// The platform's listener for shoppers.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    public: String,
    /// The platform's listener for the shop's staff and systems.
    #[arg(long, default_value = "http://127.0.0.1:8082")]
    admin: String,
    /// Where this shop listens.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// Where its order system keeps its book.
    #[arg(long, default_value = "data/shop.sqlite")]
    book: PathBuf,
    /// The key with which its login signs tokens: here the platform's own demo issuer's.
    #[arg(long, default_value = "data/secrets/issuer")]
    login_key: PathBuf,
    /// The secret with which order events are signed.
    #[arg(long, default_value = "shop-webhook.secret")]
    webhook_secret: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { public, admin, listen, book, login_key, webhook_secret } = Arguments::parse();
    let options = shop::Options {
        public,
        admin,
        listen,
        book,
        login_key: std::fs::read_to_string(login_key)?.trim().to_owned(),
        webhook_secret: std::fs::read_to_string(webhook_secret)?.trim().to_owned(),
    };
    let shop = shop::Shop::open(options).await?;
    tokio::signal::ctrl_c().await?;
    shop.close_order_system().await;
    Ok(())
}
