//! Everything else that a shop's log is full of: other products' pages (a real trace), bots, pictures, broken
//! links and torn lines. Log lines only; nothing is asked of the core.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::access_log::{AccessLog, Request};
use super::shoppers::{mix, visitor};
use super::trace::Trace;

/// Visitors of the background: as many as a shop has in a few minutes, so that one rarely comes twice a second.
const VISITORS: u64 = 20_000;
/// Visitor numbers of the background begin here; shoppers count up from zero.
const FIRST_VISITOR: u64 = 1 << 40;
/// Of 1,000 lines: bots, pictures and assets, HEAD and redirects and broken links, lines that are none.
const BOTS: u32 = 40;
const ASSETS: u32 = 60;
const OTHERS: u32 = 30;
const GARBAGE: u32 = 2;
const BOT_AGENTS: [&str; 3] = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
];

/// The background traffic.
pub(super) struct Background {
    pub(super) trace: Trace,
    pub(super) random: ChaCha8Rng,
    pub(super) seed: u64,
    pub(super) run: String,
    pub(super) number: u64,
    /// Lines owed by the rate: fractions of a line wait here.
    pub(super) owed: f64,
}

impl Background {
    /// Writes what is due after `passed` of event time at `rate` lines a second.
    pub(super) async fn write(&mut self, log: &AccessLog, rate: f64, passed: Duration) {
        self.owed += rate * passed.as_secs_f64();
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.line(log).await;
        }
    }

    async fn line(&mut self, log: &AccessLog) {
        self.number += 1;
        let page = self.trace.next_page();
        let who = visitor(self.seed, FIRST_VISITOR + self.random.random_range(0..VISITORS));
        let mut request = Request {
            remote_addr: who.address,
            method: "GET",
            uri: format!("/product/{page}"),
            status: 200,
            bytes: 9_000 + mix(u64::from(page)) % 30_000,
            request_time: 0.001,
            request_id: format!("bg-{}-{:x}", self.run, self.number),
            visitor: who.hash,
            referer: "-",
            user_agent: who.agent,
            product: page.to_string(),
            ..Request::default()
        };
        match self.random.random_range(0..1_000u32) {
            n if n < GARBAGE => return log.garbage(garbage(n + self.random.random_range(0..3), page)).await,
            n if n < GARBAGE + BOTS => request.user_agent = BOT_AGENTS[n as usize % BOT_AGENTS.len()],
            n if n < GARBAGE + BOTS + ASSETS => {
                request.uri = format!("/image/{page}/200x200");
                request.product.clear();
            }
            n if n < GARBAGE + BOTS + ASSETS + OTHERS => match n % 3 {
                0 => request.method = "HEAD",
                1 => request.status = 301,
                _ => request.status = 404,
            },
            _ => {}
        }
        log.request(request).await;
    }
}

/// A line that is none, of several kinds.
fn garbage(kind: u32, page: u32) -> Vec<u8> {
    match kind % 4 {
        0 => format!(r#"{{"time":"2026-11-11T00:00:00.000Z","method":"GET","uri":"/product/{page}","sta"#).into_bytes(),
        1 => b"\x00\xff\xfe\x81 not a line".to_vec(),
        2 => b"worker process 4711 exited on signal 9".to_vec(),
        _ => format!(r#"10.0.0.1 - - [not a time] "GET /product/{page}"#).into_bytes(),
    }
}
