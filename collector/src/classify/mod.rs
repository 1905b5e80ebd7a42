//! What a decoded line means: a product event, or why it is none. Pure; it must never look at anything but
//! the line and its options, so that a log read twice gives the same events twice.

mod agents;
mod bots;
mod pattern;
mod rate;
mod trace;
mod visitor;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use types::{EventKind, Invalid, PageId, VisitorHash};

use crate::decode::{Line, Method, reasons};
pub(crate) use agents::AgentMemory;
use bots::Bots;
pub use bots::bot_tokens;
use pattern::Pattern;
pub(crate) use rate::Rates;
pub use rate::{MAX_RATE, RATE_VISITORS, RATE_WINDOW};
pub use trace::{Hits, Trace};
use visitor::VisitorHasher;
pub use visitor::VisitorKey;

/// Most patterns of one kind: each is tried on each line.
pub const MAX_PATTERNS: usize = 32;
/// Most extra bot tokens: they become one automaton that is held in memory.
pub const MAX_EXTRA_BOTS: usize = 1_000;

/// Endings of paths that no product pattern matched and that are files of the page, not pages.
const ASSET_ENDINGS: [&str; 20] = [
    ".css", ".js", ".mjs", ".map", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg", ".ico", ".bmp", ".woff",
    ".woff2", ".ttf", ".otf", ".eot", ".mp4", ".webm",
];
/// Folders that hold nothing but such files.
const ASSET_FOLDERS: [&str; 8] =
    ["/image/", "/images/", "/img/", "/static/", "/assets/", "/media/", "/fonts/", "/.well-known/"];
/// What probes and scrapers ask for.
const HEALTH_PATHS: [&str; 7] = ["/health", "/healthz", "/readyz", "/livez", "/ping", "/metrics", "/nginx_status"];

reasons!(
    /// Why a well-formed line is no product event. When several hold, the first of this order is given.
    FilterReason {
        /// There was no request: the client connected and left.
        NoRequest = "no_request",
        /// The user agent is a known bot's.
        Bot = "bot",
        /// A page view of a visitor who opens pages faster than people do; see [`ClassifierOptions::views_of_visitor`].
        BotRate = "bot_rate",
        /// A product's path whose id cannot be a page: too long, `..`, or not printable ASCII.
        BadPage = "bad_page",
        /// A product's path, but another method than this kind of event has (HEAD, for example).
        Method = "method",
        /// A product view that was not answered with 2xx or 304 (a redirect, for example).
        Status = "status",
        /// A probe of health or metrics.
        Health = "health",
        /// A file of a page: image, style, script, font.
        Asset = "asset",
        /// Any other path.
        NotProduct = "not_product",
    }
);

/// Which requests are product events. A pattern is a path of texts and `{name}`s, one of them `{id}`, the page, or
/// `{id:digits}`: `/product/{id}`, `/{slug}-p{id:digits}.html`, `/item.php?sku={id}`. It matches a prefix of the path
/// that ends at `/`, `?` or the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifierOptions {
    /// Product pages: views, counted for GET with 2xx or 304.
    pub views: Vec<String>,
    /// Availability calls: views where a CDN serves the page itself. Empty (off) by default, for example
    /// `/v1/products/{id}/availability`.
    pub availability: Vec<String>,
    /// Adding to the cart: counted for POST with any status.
    pub carts: Vec<String>,
    /// Attempts to buy: counted for POST with any status, as a refused attempt is demand too.
    pub attempts: Vec<String>,
    /// Whether lines of known bots are left out.
    pub filter_bots: bool,
    /// Parts of user agents that are bots beside the built-in list; case does not matter.
    pub extra_bots: Vec<String>,
    /// Most page views, in any ten seconds of the log's own time, of a visitor whom the edge names; further ones are
    /// a robot's (`bot_rate`) until he is slower. 0: no limit. Adding to the cart and attempts to buy are never left
    /// out for it: they are demand, and what one visitor adds of it is bounded by the analyzer's visitor cap.
    pub views_of_visitor: u32,
    /// The same for address and user agent together, which stand for the visitor where nobody names him. Many people
    /// may share both (one carrier's gateway, one telephone), so it is far higher. 0: no limit.
    pub views_of_address: u32,
}

impl Default for ClassifierOptions {
    fn default() -> Self {
        Self {
            views: vec!["/product/{id}".to_owned(), "/m/product/{id}".to_owned()],
            availability: Vec::new(),
            carts: vec!["/cart/add/{id}".to_owned()],
            attempts: vec!["/v1/sales/{sale}/products/{id}/purchases".to_owned()],
            filter_bots: true,
            extra_bots: Vec::new(),
            views_of_visitor: 100,
            views_of_address: 1_000,
        }
    }
}

impl ClassifierOptions {
    /// What `seckill top --raw` counts: every product view, bots included, and nothing else.
    pub fn raw() -> Self {
        let none = Self { carts: Vec::new(), attempts: Vec::new(), filter_bots: false, ..Self::default() };
        none.without_rates()
    }

    /// The same, whatever a visitor's rate: for lines without their neighbours.
    #[must_use]
    pub fn without_rates(self) -> Self {
        Self { views_of_visitor: 0, views_of_address: 0, ..self }
    }

    /// Whether every pattern and token can be used; the refusal names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        Classifier::new(self, &VisitorKey::public()).map(drop)
    }
}

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// A shopper did something on a product's page.
    Event {
        /// The page, as it stands in the path.
        page: PageId,
        /// What was done.
        kind: EventKind,
        /// By whom.
        visitor: VisitorHash,
    },
    /// Not a product event.
    Filtered(FilterReason),
}

/// What a matched pattern asks of the request.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// GET, answered with 2xx or 304.
    Shown(EventKind),
    /// POST, however answered.
    Asked(EventKind),
}

impl Rule {
    fn judge(self, line: &Line<'_>) -> Result<EventKind, FilterReason> {
        match self {
            Self::Shown(_) if line.method != Method::Get => Err(FilterReason::Method),
            Self::Shown(_) if !(matches!(line.status, 200..=299 | 304)) => Err(FilterReason::Status),
            Self::Asked(_) if line.method != Method::Post => Err(FilterReason::Method),
            Self::Shown(kind) | Self::Asked(kind) => Ok(kind),
        }
    }
}

/// Tells product events from other lines.
#[derive(Debug)]
pub struct Classifier {
    rules: Vec<(Pattern, Rule)>,
    /// What the rules are called, in their order.
    names: Vec<Arc<str>>,
    bots: Option<Bots>,
    visitors: VisitorHasher,
    /// Most views in ten seconds of who is named, and of who is known by address and agent; 0 for no limit.
    most_views: (u32, u32),
}

impl Classifier {
    /// A classifier by these options, hashing visitors with this key.
    pub fn new(options: &ClassifierOptions, key: &VisitorKey) -> Result<Self, Invalid> {
        let mut rules = Vec::new();
        let mut names = Vec::new();
        for (field, patterns, rule) in [
            ("classifier.views", &options.views, Rule::Shown(EventKind::View)),
            ("classifier.availability", &options.availability, Rule::Shown(EventKind::View)),
            ("classifier.carts", &options.carts, Rule::Asked(EventKind::Cart)),
            ("classifier.attempts", &options.attempts, Rule::Asked(EventKind::Attempt)),
        ] {
            if patterns.len() > MAX_PATTERNS {
                return Err(Invalid::new(field, format!("has {} patterns; at most {MAX_PATTERNS}", patterns.len())));
            }
            for text in patterns {
                rules.push((Pattern::parse(field, text)?, rule));
                names.push(Arc::from(format!("{} {text}", field.trim_start_matches("classifier."))));
            }
        }
        let bots = options.filter_bots.then_some(Bots::new(&options.extra_bots)?);
        let most_views = (options.views_of_visitor, options.views_of_address);
        for (field, most) in
            [("classifier.views_of_visitor", most_views.0), ("classifier.views_of_address", most_views.1)]
        {
            if most > MAX_RATE {
                return Err(Invalid::new(field, format!("must be at most {MAX_RATE}; 0 is no limit")));
            }
        }
        Ok(Self { rules, names, bots, visitors: VisitorHasher::new(key), most_views })
    }

    /// What this line means.
    pub fn classify(&self, line: &Line<'_>) -> Class {
        self.traced(line).0
    }

    /// What this line means, and by what it was judged.
    pub fn traced(&self, line: &Line<'_>) -> (Class, Trace) {
        let mut trace = Trace::default();
        let class = match self.judge(line, None, &mut trace) {
            Ok((page, kind)) => match PageId::new(page) {
                Ok(page) => Class::Event { page, kind, visitor: self.visitor(line) },
                Err(_) => Class::Filtered(FilterReason::BadPage),
            },
            Err(reason) => Class::Filtered(reason),
        };
        (class, trace)
    }

    /// Who asked.
    pub(crate) fn visitor(&self, line: &Line<'_>) -> VisitorHash {
        self.visitors.hash(line)
    }

    /// Most of this that this visitor may do in ten seconds; `None` if there is no limit.
    #[inline]
    pub(crate) fn most_views(&self, line: &Line<'_>, kind: EventKind) -> Option<u32> {
        let (named, by_address) = self.most_views;
        let most = if line.visitor.is_some() { named } else { by_address };
        (kind == EventKind::View && most > 0).then_some(most)
    }

    /// The page, which is fit for a [`PageId`], and what was done there; `trace` gets by what that was judged.
    /// Remembers the agents it has judged, if given something to remember them with.
    pub(crate) fn judge<'l>(
        &self,
        line: &'l Line<'_>,
        memory: Option<&mut AgentMemory>,
        trace: &mut Trace,
    ) -> Result<(&'l str, EventKind), FilterReason> {
        trace.named = line.visitor.is_some();
        if line.method == Method::Absent {
            return Err(FilterReason::NoRequest);
        }
        if let Some(bots) = &self.bots {
            let judge = |agent: &str| bots.bot(agent);
            trace.bot = match memory {
                Some(memory) => memory.recall(&line.user_agent, judge),
                None => judge(&line.user_agent),
            };
            if trace.bot.is_some() {
                return Err(FilterReason::Bot);
            }
        }
        let (path, query) = match memchr::memchr(b'?', line.target.as_bytes()) {
            Some(end) => (&line.target[..end], &line.target[end + 1..]),
            None => (&*line.target, ""),
        };
        let mut refusal = None;
        for (number, (pattern, rule)) in self.rules.iter().enumerate() {
            let Some(id) = pattern.page(path, query) else { continue };
            let before = trace.pattern.replace(number as u16);
            if !PageId::fits(id) || id == "." || id == ".." {
                return Err(FilterReason::BadPage);
            }
            match rule.judge(line) {
                Ok(kind) => return Ok((id, kind)),
                Err(reason) => {
                    refusal = refusal.or(Some(reason));
                    trace.pattern = before.or(trace.pattern);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| other(path)))
    }
}

/// Why a path that no pattern knows is left out; the reasons only serve whoever reads the counts.
fn other(path: &str) -> FilterReason {
    if HEALTH_PATHS.contains(&path) {
        return FilterReason::Health;
    }
    let ending = |end: &&str| {
        path.len() > end.len() && path.as_bytes()[path.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
    };
    if ASSET_FOLDERS.iter().any(|folder| path.starts_with(folder)) || ASSET_ENDINGS.iter().any(ending) {
        return FilterReason::Asset;
    }
    FilterReason::NotProduct
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::borrow::Cow;

    use types::Timestamp;

    use super::*;

    fn class(options: &ClassifierOptions, method: Method, target: &str, status: u16, agent: &str) -> String {
        let line = Line {
            at: Timestamp::from_seconds(1),
            remote_addr: Cow::Borrowed("2001:db8::7"),
            method,
            target: Cow::Borrowed(target),
            status,
            user_agent: Cow::Borrowed(agent),
            visitor: None,
        };
        match Classifier::new(options, &VisitorKey::public()).unwrap().classify(&line) {
            Class::Event { page, kind, .. } => format!("{} {page}", kind.as_str()),
            Class::Filtered(reason) => reason.to_string(),
        }
    }

    #[test]
    fn each_request_has_one_meaning() {
        use Method::{Absent, Get, Head, Other, Post};
        let long = format!("/product/{}", "9".repeat(129));
        let attempt = "/v1/sales/eleven/products/SKU-1/purchases";
        for (method, target, status, meaning) in [
            (Get, "/product/42", 200, "view 42"),
            (Get, "/product/42/", 206, "view 42"),
            (Get, "/product/42?model=7", 304, "view 42"),
            (Get, "/m/product/42/red-shoe", 200, "view 42"),
            (Get, "/product/-5", 200, "view -5"),
            (Get, "/product/99999999999999999999999", 200, "view 99999999999999999999999"),
            (Get, "/product/%D9%88", 200, "view %D9%88"),
            (Get, r"/product/\xD9\x88", 200, r"view \xD9\x88"),
            (Get, "/product/42/../43", 200, "view 42"),
            (Get, "/product/..", 200, "bad_page"),
            (Get, "/product/./x", 200, "bad_page"),
            (Get, "/product/وان", 200, "bad_page"),
            (Get, "/product/4 2", 200, "bad_page"),
            (Get, &long, 200, "bad_page"),
            (Get, "/product/42/وان", 200, "view 42"),
            (Get, "/product/", 200, "not_product"),
            (Get, "/product//42", 200, "not_product"),
            (Get, "/product", 200, "not_product"),
            (Get, "/products/42", 200, "not_product"),
            (Get, "//product/42", 200, "not_product"),
            (Get, "/?page=/product/42", 200, "not_product"),
            (Get, "http://shop.example/product/42", 200, "not_product"),
            (Get, "*", 200, "not_product"),
            (Head, "/product/42", 200, "method"),
            (Post, "/product/42", 200, "method"),
            (Other, "/product/42", 200, "method"),
            (Get, "/product/42", 301, "status"),
            (Get, "/product/42", 404, "status"),
            (Get, "/product/42", 499, "status"),
            (Get, "/product/42", 0, "status"),
            (Post, "/cart/add/42", 302, "cart 42"),
            (Post, "/cart/add/42", 429, "cart 42"),
            (Get, "/cart/add/42", 200, "method"),
            (Post, attempt, 201, "attempt SKU-1"),
            (Post, attempt, 410, "attempt SKU-1"),
            (Post, attempt, 0, "attempt SKU-1"),
            (Get, attempt, 200, "method"),
            (Post, "/v1/sales/eleven/products/SKU-1/token", 200, "not_product"),
            (Post, "/v1/sales//products/SKU-1/purchases", 200, "not_product"),
            (Get, "/v1/products/42/availability", 200, "not_product"),
            (Absent, "", 400, "no_request"),
            (Get, "/static/app.js", 200, "asset"),
            (Get, "/a/b.JPEG?x", 200, "asset"),
            (Get, "/healthz", 200, "health"),
        ] {
            assert_eq!(class(&ClassifierOptions::default(), method, target, status, "Firefox"), meaning, "{target}");
        }
    }

    #[test]
    fn raw_counts_every_view_and_nothing_else() {
        let raw = ClassifierOptions::raw();
        assert_eq!(class(&raw, Method::Get, "/m/product/7", 200, "Googlebot/2.1"), "view 7");
        assert_eq!(class(&raw, Method::Post, "/cart/add/7", 200, "Firefox"), "not_product");
        let attempt = "/v1/sales/s/products/7/purchases";
        assert_eq!(class(&raw, Method::Post, attempt, 201, "Firefox"), "not_product");
    }

    #[test]
    fn a_shop_behind_a_cdn_counts_availability_calls() {
        let options = ClassifierOptions {
            availability: vec!["/v1/products/{id}/availability".to_owned()],
            ..ClassifierOptions::default()
        };
        assert_eq!(class(&options, Method::Get, "/v1/products/A1/availability", 200, "x"), "view A1");
        assert_eq!(class(&options, Method::Get, "/v1/products/A1/availability", 503, "x"), "status");
    }

    #[test]
    fn bots_are_left_out_before_anything_else_is_asked() {
        let options = ClassifierOptions { extra_bots: vec!["PriceRobber".to_owned()], ..ClassifierOptions::default() };
        assert_eq!(class(&options, Method::Get, "/product/1", 200, "x (compatible; bingbot/2.0)"), "bot");
        assert_eq!(class(&options, Method::Get, "/", 404, "pricerobber 3"), "bot");
        assert_eq!(class(&options, Method::Get, "/product/1", 200, "Android; CUBOT X18 Build/x"), "view 1");
    }

    #[test]
    fn a_wrong_pattern_is_refused_with_its_field() {
        for bad in ["", "product/{id}", "/product", "/{id}/{id}", "/product/{id", "/a//{id}", "/a/{}/{id}", "/a?b/{id}"]
        {
            let options = ClassifierOptions { carts: vec![bad.to_owned()], ..ClassifierOptions::default() };
            assert_eq!(options.check().unwrap_err().what, "classifier.carts", "{bad:?}");
        }
        let options = ClassifierOptions { extra_bots: vec!["b".to_owned()], ..ClassifierOptions::default() };
        assert_eq!(options.check().unwrap_err().what, "classifier.extra_bots");
    }
}
