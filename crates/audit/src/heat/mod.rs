//! Recounts heat from raw log lines without the collector's parser and without the analyzer's counting, and
//! compares what the analyzer said. Slow and plain by intention; it never shares a line with what it judges.

pub mod raw;
mod window;

use std::collections::{BTreeMap, HashMap};

pub use window::{Comparison, Window, compare};

use raw::Kind;

/// How long, in seconds of the log, visitors of a pane are remembered for the per-visitor cap. Lines come in
/// order up to the time a request takes, so this is generous; older lines would be counted without the cap.
const REMEMBER_SECONDS: i64 = 120;

/// The definition of heat, with the numbers that configuration may change.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Weight of a view; 0 does not count it at all.
    pub view: u64,
    /// Weight of an addition to the cart.
    pub cart: u64,
    /// Weight of a purchase attempt, whatever its answer.
    pub attempt: u64,
    /// Most events that count per visitor, page and second; 0 for no cap.
    pub per_visitor: u32,
    /// Window in seconds.
    pub window: i64,
    /// Of how many active pages one is hot: 100 for the top 1 %. A whole number, so that `k` is exact.
    pub one_in: u64,
    /// Weighted events per second below which nothing is hot.
    pub floor: f64,
    /// User agents that hold one of these (in any case) are bots and do not count.
    pub bot_tokens: Vec<String>,
}

impl Rules {
    /// The defaults of the analyzer, with the collector's list of bot tokens.
    pub fn defaults(bot_tokens: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            view: 1,
            cart: 3,
            attempt: 5,
            per_visitor: 2,
            window: 60,
            one_in: 100,
            floor: 0.2,
            bot_tokens: bot_tokens.into_iter().map(|t| t.into().to_lowercase()).collect(),
        }
    }
    /// `seckill top --raw`: every product view once, nothing filtered, no floor.
    pub fn raw() -> Self {
        Self { cart: 0, attempt: 0, per_visitor: 0, floor: 0.0, ..Self::defaults(Vec::<String>::new()) }
    }
    fn weight(&self, kind: Kind) -> u64 {
        match kind {
            Kind::View => self.view,
            Kind::Cart => self.cart,
            Kind::Attempt => self.attempt,
        }
    }
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It counts.
    Counted,
    /// It would, but its visitor has had his share of this page in this second.
    Capped,
    /// A bot's.
    Bot,
    /// A request that is no product event.
    Other,
    /// Not a log line.
    Unreadable,
}

/// Counts per second and page, from raw lines.
#[derive(Debug)]
pub struct BruteForce {
    rules: Rules,
    pages: Vec<String>,
    page_ids: HashMap<String, u32>,
    seconds: BTreeMap<i64, HashMap<u32, u64>>,
    visits: BTreeMap<i64, HashMap<(String, u32), u32>>,
    lines: u64,
    counted: u64,
}

impl BruteForce {
    /// Nothing counted yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            pages: Vec::new(),
            page_ids: HashMap::new(),
            seconds: BTreeMap::new(),
            visits: BTreeMap::new(),
            lines: 0,
            counted: 0,
        }
    }

    /// Counts every line of `log` (bytes that are no UTF-8 make the line unreadable, not the log).
    pub fn read(&mut self, mut log: impl std::io::BufRead) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while log.read_until(b'\n', &mut bytes)? > 0 {
            match std::str::from_utf8(&bytes) {
                Ok(text) => {
                    self.line(text);
                }
                Err(_) => self.lines += 1,
            }
            bytes.clear();
        }
        Ok(())
    }

    /// Counts one raw line.
    pub fn line(&mut self, line: &str) -> Fate {
        self.lines += 1;
        let Some(raw) = raw::fields(line) else { return Fate::Unreadable };
        let Some((kind, page)) = raw::product(&raw) else { return Fate::Other };
        let weight = self.rules.weight(kind);
        if weight == 0 {
            return Fate::Other;
        }
        if !self.rules.bot_tokens.is_empty() {
            let agent = raw.agent.to_lowercase();
            if self.rules.bot_tokens.iter().any(|token| agent.contains(token.as_str())) {
                return Fate::Bot;
            }
        }
        let page = self.page_id(page);
        if self.rules.per_visitor > 0 {
            let visitor = if matches!(raw.visitor, "" | "-") {
                format!("{}|{}", raw.address, raw.agent)
            } else {
                raw.visitor.to_owned()
            };
            let times = self.visits.entry(raw.second).or_default().entry((visitor, page)).or_insert(0);
            *times += 1;
            if *times > self.rules.per_visitor {
                return Fate::Capped;
            }
            while self.visits.first_key_value().is_some_and(|(second, _)| *second < raw.second - REMEMBER_SECONDS) {
                self.visits.pop_first();
            }
        }
        *self.seconds.entry(raw.second).or_default().entry(page).or_insert(0) += weight;
        self.counted += 1;
        Fate::Counted
    }

    fn page_id(&mut self, page: &str) -> u32 {
        if let Some(id) = self.page_ids.get(page) {
            return *id;
        }
        let id = u32::try_from(self.pages.len()).expect("fewer than 2^32 pages fit into memory");
        self.pages.push(page.to_owned());
        self.page_ids.insert(page.to_owned(), id);
        id
    }

    /// Lines read.
    pub fn lines(&self) -> u64 {
        self.lines
    }
    /// Lines that count as events.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Every window, one per second, from the end of the first pane to the last that still holds an event.
    pub fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        let first = self.seconds.first_key_value().map(|(s, _)| *s);
        let last = self.seconds.last_key_value().map(|(s, _)| *s);
        let ends = first.zip(last).map(|(first, last)| first + 1..=last + self.rules.window).into_iter().flatten();
        // Rolling: a second enters at its end and leaves a window later; the order is made anew each time.
        let mut counts: HashMap<u32, u64> = HashMap::new();
        ends.map(move |end| {
            for (page, n) in self.seconds.get(&(end - 1)).into_iter().flatten() {
                *counts.entry(*page).or_insert(0) += n;
            }
            for (page, n) in self.seconds.get(&(end - 1 - self.rules.window)).into_iter().flatten() {
                if let Some(count) = counts.get_mut(page) {
                    *count -= n;
                    if *count == 0 {
                        counts.remove(page);
                    }
                }
            }
            self.window(end, &counts)
        })
    }

    fn window(&self, end: i64, counts: &HashMap<u32, u64>) -> Window {
        let active = counts.len();
        if active == 0 {
            return Window { window_end: end, active: 0, k: 0, threshold: 0, hot: Vec::new() };
        }
        let mut sorted: Vec<u64> = counts.values().copied().collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        // The k-th largest count is the largest t that k pages reach.
        let k = active.div_ceil(self.rules.one_in as usize);
        let floor = (self.rules.floor * self.rules.window as f64).ceil() as u64;
        let threshold = sorted[k - 1].max(floor);
        let mut hot: Vec<(String, u64)> = counts
            .iter()
            .filter(|(_, count)| **count >= threshold)
            .map(|(page, count)| (self.pages[*page as usize].clone(), *count))
            .collect();
        hot.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Window { window_end: end, active: active as u64, k: k as u64, threshold, hot }
    }
}

/// The windows that `seckill top --raw --json` must print for these lines.
pub fn top_raw<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Window> {
    let mut count = BruteForce::new(Rules::raw());
    for line in lines {
        count.line(line);
    }
    count.windows().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn view(second: u32, page: &str, visitor: &str, agent: &str) -> String {
        format!(
            r#"{{"time":"2026-11-11T00:{:02}:{:02}.500Z","method":"GET","uri":"/product/{page}","status":200,"visitor":"{visitor}","user_agent":"{agent}"}}"#,
            second / 60,
            second % 60
        )
    }

    #[test]
    fn a_window_is_the_last_sixty_whole_seconds() {
        let lines = [view(0, "a", "v", ""), view(0, "a", "v", ""), view(1, "b", "v", ""), view(61, "c", "v", "")];
        let windows = top_raw(lines.iter().map(String::as_str));
        assert_eq!(windows.len(), 121, "from the end of the first pane to the last window with an event");
        assert_eq!(
            serde_json::to_string(&windows[0]).unwrap(),
            r#"{"window_end":"2026-11-11T00:00:01Z","active":1,"k":1,"threshold":2,"hot":[{"product":"a","count":2}]}"#
        );
        assert_eq!((windows[59].active, windows[60].active), (2, 1), "the first second leaves after sixty");
        assert_eq!(windows[61].hot, [("c".to_owned(), 1)]);
        assert_eq!(windows[120].active, 1);
    }

    #[test]
    fn ties_at_the_threshold_are_all_hot_and_k_rounds_up() {
        let lines: Vec<String> = (0..101).map(|n| view(0, &format!("p{n:03}"), &format!("v{n}"), "")).collect();
        let windows = top_raw(lines.iter().map(String::as_str));
        assert_eq!((windows[0].active, windows[0].k, windows[0].threshold, windows[0].hot.len()), (101, 2, 1, 101));
        assert_eq!(windows[0].hot[0].0, "p000", "equal counts stand in the order of their names");
    }

    #[test]
    fn the_defaults_cap_a_visitor_skip_bots_and_keep_the_floor() {
        let mut count = BruteForce::new(Rules::defaults(["SomeBot"]));
        for n in 0..5 {
            let fate = count.line(&view(0, "a", "greedy", ""));
            assert_eq!(fate, if n < 2 { Fate::Counted } else { Fate::Capped });
        }
        assert_eq!(count.line(&view(0, "a", "x", "Mozilla (compatible; somebot/2)")), Fate::Bot);
        assert_eq!(count.line("nonsense"), Fate::Unreadable);
        let first = count.windows().next().unwrap();
        assert_eq!((first.threshold, first.hot.len()), (12, 0), "0.2 a second over a minute");
        for n in 0..10 {
            count.line(&view(1, "a", &format!("v{n}"), ""));
        }
        assert_eq!(count.windows().nth(1).unwrap().hot, [("a".to_owned(), 12)]);
        assert_eq!((count.lines(), count.counted()), (17, 12));
    }

    #[test]
    fn attempts_and_carts_weigh_more_and_refusals_count() {
        let mut count = BruteForce::new(Rules::defaults(["bot"]));
        for (n, status) in [201, 410, 429].into_iter().enumerate() {
            count.line(&format!(
                r#"{{"time":"2026-11-11T00:00:00.000Z","method":"POST","uri":"/v1/sales/s/products/a/purchases","status":{status},"visitor":"{n}"}}"#
            ));
        }
        count.line(r#"{"time":"2026-11-11T00:00:00Z","method":"POST","uri":"/cart/add/a","status":200,"visitor":"9"}"#);
        assert_eq!(count.windows().next().unwrap().hot, [("a".to_owned(), 18)]);
    }
}
