//! The shop: puts its catalogue on sale, subscribes its order system to order events, and serves its own pages.

// The test of this example uses more of it than its program does.
#![allow(dead_code)]

pub mod catalogue;
pub mod login;
pub mod orders;
pub mod payment;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use reqwest::Client;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::login::Login;
use self::orders::Book;

/// Under which name the platform knows this shop's order system, and its secret.
const NAME: &str = "shop";

/// What the shop is told.
pub struct Options {
    /// The platform's listener for shoppers.
    pub public: String,
    /// The platform's listener for the shop's staff and systems.
    pub admin: String,
    /// Where the shop listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The order system's database.
    pub book: PathBuf,
    /// Signs the login's tokens.
    pub login_key: String,
    /// Signs order events.
    pub webhook_secret: String,
}

/// A shop that sells.
pub struct Shop {
    pub login: Arc<Login>,
    pub book: Arc<Book>,
    pub public: String,
    pub admin: String,
    pub http: Client,
    address: SocketAddr,
    serving: std::sync::Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

impl Shop {
    /// Opens the order system, then subscribes it, then starts to sell: so no order is missed.
    pub async fn open(options: Options) -> anyhow::Result<Self> {
        let login = Arc::new(Login::new(&options.login_key));
        let book = Arc::new(Book::open(&options.book, options.webhook_secret.as_bytes())?);
        let http = Client::builder().no_proxy().build()?;
        let mut shop = Self {
            login,
            book,
            public: options.public,
            admin: options.admin,
            http,
            address: options.listen,
            serving: std::sync::Mutex::default(),
        };
        shop.address = shop.open_order_system().await?;

        let staff = shop.login.staff("shop-system", &["admin"])?;
        let url = format!("http://{}/hooks/orders", shop.address);
        let subscription = json!({"url": url, "secret": NAME});
        let path = format!("{}/v1/webhooks/{NAME}", shop.admin);
        let answer = shop.http.put(path).bearer_auth(&staff).json(&subscription).send().await?;
        ensure!(answer.status().is_success(), "not subscribed: {}", answer.text().await?);

        let import = catalogue::as_import(include_str!("catalogue.csv"))?;
        let path = format!("{}/v1/sales/{}/imports/catalogue", shop.admin, catalogue::SALE);
        let call = shop.http.post(path).query(&catalogue::WINDOW).header("content-type", "text/csv").body(import);
        let answer = call.bearer_auth(&staff).send().await?;
        ensure!(answer.status().is_success(), "not on sale: {}", answer.text().await?);
        Ok(shop)
    }

    /// Starts the order system (again); it goes on with the book that it left.
    pub async fn open_order_system(&self) -> anyhow::Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind(self.address).await.context("the order system's listener")?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let router = orders::routes(self.book.clone()).merge(login::routes(self.login.clone()));
        let serve = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let serving = tokio::spawn(async move {
            if let Err(error) = serve.await {
                eprintln!("the order system ended: {error}");
            }
        });
        *self.serving.lock().expect("nobody panics with it") = Some((stop, serving));
        Ok(address)
    }

    /// Ends the order system; the rest of the shop goes on.
    pub async fn close_order_system(&self) {
        let serving = self.serving.lock().expect("nobody panics with it").take();
        if let Some((stop, serving)) = serving {
            stop.cancel();
            serving.abort();
            let _ended = serving.await;
        }
    }

    /// Where the shop listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
