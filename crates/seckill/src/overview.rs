//! The first dashboard page and the small JSON behind it: one task composes the picture from the services'
//! own snapshots, readers get the last one. It only reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use types::{Clock, Temperature, Tier};

/// How often the picture is composed, in real time: a person does not read faster.
const EVERY: Duration = Duration::from_millis(500);
/// Moves and pages that are shown.
const SHOWN: usize = 15;

const PAGE: &str = include_str!("../../../dashboards/live/index.html");

/// The last picture, as JSON text.
#[derive(Clone)]
pub struct Overview(Arc<ArcSwap<String>>);

/// What the picture is composed from.
pub struct Sources {
    /// Lines.
    pub collector: collector::Handle,
    /// Heat.
    pub analyzer: analyzer::Handle,
    /// Plans.
    pub control_plane: control_plane::Handle,
    /// Sales.
    pub core: seckill_core::CoreHandle,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
}

#[derive(Serialize)]
struct Picture {
    now: String,
    speed: f64,
    generation: u64,
    figures: Vec<Figure>,
    products: Vec<Product>,
    top: Vec<Page>,
    moves: Vec<Move>,
}
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    value: u64,
}
#[derive(Serialize)]
struct Product {
    product: String,
    tier: Tier,
    reason: &'static str,
    count60: u64,
    sellable: u64,
    reserved: u64,
    sold: u64,
    epoch: u64,
}
#[derive(Serialize)]
struct Page {
    rank: usize,
    page: String,
    count: u64,
    temperature: Temperature,
}
#[derive(Clone, Serialize)]
struct Move {
    at: String,
    product: String,
    from: Tier,
    to: Tier,
    reason: &'static str,
}

impl Overview {
    /// An empty picture.
    pub fn new() -> Self {
        Self(Arc::new(ArcSwap::from_pointee("{}".to_owned())))
    }

    /// `GET /` and `GET /overview.json`.
    pub fn router(&self) -> Router {
        let last = self.0.clone();
        Router::new().route("/", get(|| async { Html(PAGE) })).route(
            "/overview.json",
            get(move || {
                let text = last.load().as_str().to_owned();
                async move { ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text) }
            }),
        )
    }

    /// Composes the picture again and again until `stop`.
    pub async fn follow(self, sources: Sources, stop: CancellationToken) {
        let mut moves = sources.control_plane.moves();
        let mut latest: VecDeque<Move> = VecDeque::new();
        let mut timer = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(m) = moves.recv() => {
                    latest.truncate(SHOWN - 1);
                    latest.push_front(Move {
                        at: m.at.to_string(),
                        product: m.product.to_string(),
                        from: m.from,
                        to: m.to,
                        reason: m.reason.as_str(),
                    });
                }
                _ = timer.tick() => {
                    match serde_json::to_string(&sources.picture(&latest)) {
                        Ok(text) => self.0.store(Arc::new(text)),
                        Err(error) => tracing::error!(%error, "the overview cannot be written as JSON"),
                    }
                }
            }
        }
    }
}

impl Sources {
    fn picture(&self, latest: &VecDeque<Move>) -> Picture {
        let heat = self.analyzer.snapshot();
        let plan = self.control_plane.plan().borrow().clone();
        let lines = self.collector.accounting();
        let counts: BTreeMap<&str, u64> = heat.top.iter().map(|p| (&*p.page, p.count)).collect();
        let rows = self.core.products();
        let products: Vec<_> = rows
            .iter()
            .map(|row| Product {
                product: row.product.to_string(),
                tier: row.tier,
                reason: plan.decisions.get(&row.product).map_or("none yet", |d| d.reason.as_str()),
                count60: row.pages.iter().filter_map(|p| counts.get(p.as_str())).sum(),
                sellable: row.sellable,
                reserved: row.reserved,
                sold: row.total.saturating_sub(row.sellable + row.reserved),
                epoch: row.epoch.get(),
            })
            .collect();
        let figure = |name, value| Figure { name, value };
        let second = Duration::from_secs(1);
        Picture {
            now: self.clock.now().to_second_string(),
            speed: second.as_secs_f64() / self.clock.real(second).as_secs_f64(),
            generation: plan.generation.get(),
            figures: vec![
                figure("log lines", lines.lines),
                figure("product events", lines.events),
                figure("active pages", heat.active),
                figure("hot threshold", heat.thresholds.hot60),
                figure("units sold", products.iter().map(|p| p.sold).sum()),
                figure("units reserved", products.iter().map(|p| p.reserved).sum()),
            ],
            products,
            top: heat
                .top
                .iter()
                .take(SHOWN)
                .enumerate()
                .map(|(i, p)| Page {
                    rank: i + 1,
                    page: p.page.to_string(),
                    count: p.count,
                    temperature: p.temperature,
                })
                .collect(),
            moves: latest.iter().cloned().collect(),
        }
    }
}
