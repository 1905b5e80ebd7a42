//! Which user agents are bots: a list of tokens, found in one pass. Must never match what phones and
//! browsers call themselves (a `CUBOT` is a telephone).

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use types::Invalid;

use super::MAX_EXTRA_BOTS;

/// Lengths of a configured token, in bytes: one of a letter or two would match half of all browsers.
const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 3..=128;

/// Tokens of crawlers, previews, monitors and HTTP libraries, lower case. The general ones come last: a
/// crawler that follows the custom of naming a page about itself is known by that.
const TOKENS: &[&str] = &[
    // Search engines.
    "googlebot",
    "google-inspectiontool",
    "googleother",
    "adsbot-google",
    "mediapartners-google",
    "apis-google",
    "feedfetcher-google",
    "google-read-aloud",
    "storebot-google",
    "bingbot",
    "bingpreview",
    "adidxbot",
    "msnbot",
    "slurp",
    "duckduckbot",
    "duckassistbot",
    "baiduspider",
    "yandex.com/bots",
    "yandexbot",
    "yandeximages",
    "sogou",
    "exabot",
    "seznambot",
    "petalbot",
    "applebot",
    "qwantify",
    "coccocbot",
    "yeti/",
    "naverbot",
    "360spider",
    "mojeekbot",
    "ia_archiver",
    "archive.org_bot",
    // Search engine optimisers and data sellers.
    "ahrefsbot",
    "ahrefssiteaudit",
    "semrushbot",
    "mj12bot",
    "dotbot",
    "rogerbot",
    "blexbot",
    "barkrowler",
    "dataforseobot",
    "serpstatbot",
    "screaming frog",
    "linkdexbot",
    "megaindex",
    "sistrix",
    "zoominfobot",
    "criteobot",
    "turnitin",
    "nlpproject",
    // Models' readers.
    "gptbot",
    "chatgpt-user",
    "oai-searchbot",
    "claudebot",
    "claude-web",
    "anthropic-ai",
    "ccbot",
    "perplexitybot",
    "bytespider",
    "amazonbot",
    "meta-externalagent",
    "cohere-ai",
    "diffbot",
    "youbot",
    "timpibot",
    "imagesiftbot",
    // Link previews.
    "facebookexternalhit",
    "facebookcatalog",
    "facebot",
    "twitterbot",
    "linkedinbot",
    "pinterestbot",
    "slackbot",
    "slack-imgproxy",
    "telegrambot",
    "discordbot",
    "whatsapp/",
    "skypeuripreview",
    "embedly",
    "vkshare",
    "redditbot",
    // Monitors.
    "uptimerobot",
    "pingdom",
    "statuscake",
    "site24x7",
    "newrelicpinger",
    "datadogsynthetics",
    "betteruptime",
    "hetrixtools",
    "gtmetrix",
    "lighthouse",
    "pagespeed",
    "kube-probe",
    "elb-healthchecker",
    "googlehc/",
    // Scripts and scanners.
    "python-requests",
    "python-urllib",
    "python-httpx",
    "aiohttp/",
    "scrapy",
    "curl/",
    "wget/",
    "go-http-client",
    "libwww-perl",
    "httpclient/",
    "node-fetch",
    "axios/",
    "headlesschrome",
    "phantomjs",
    "puppeteer",
    "playwright",
    "nutch",
    "heritrix",
    "zgrab",
    "masscan",
    "nmap scripting",
    "censysinspect",
    "nuclei",
    "sqlmap",
    "nikto",
    // Customs.
    "bot/",
    "bot;",
    "bot)",
    "crawler",
    "spider/",
    "+http://",
    "+https://",
];

/// The built-in tokens, lower case: for readers that judge bots without this code, such as the auditor.
pub const fn bot_tokens() -> &'static [&'static str] {
    TOKENS
}

/// Finds any token in a user agent.
#[derive(Debug)]
pub(super) struct Bots {
    automaton: AhoCorasick,
    names: Vec<Arc<str>>,
}

impl Bots {
    pub(super) fn new(extra: &[String]) -> Result<Self, Invalid> {
        let field = "classifier.extra_bots";
        if extra.len() > MAX_EXTRA_BOTS {
            return Err(Invalid::new(field, format!("has {} tokens; at most {MAX_EXTRA_BOTS}", extra.len())));
        }
        if let Some(token) = extra.iter().find(|token| !TOKEN_LENGTH.contains(&token.len())) {
            return Err(Invalid::new(field, format!("token {token:?} must have 3 to 128 bytes")));
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(aho_corasick::AhoCorasickKind::DFA))
            .build(TOKENS.iter().copied().chain(extra.iter().map(String::as_str)))
            .map_err(|e| Invalid::new(field, e.to_string()))?;
        let names = TOKENS.iter().copied().chain(extra.iter().map(String::as_str)).map(Arc::from).collect();
        Ok(Self { automaton, names })
    }

    /// The number of the token by which a user agent is a bot.
    pub(super) fn bot(&self, user_agent: &str) -> Option<u16> {
        // There are at most some 1,150 tokens.
        self.automaton.find(user_agent).map(|found| found.pattern().as_u32() as u16)
    }

    pub(super) fn name(&self, number: u16) -> Option<&Arc<str>> {
        self.names.get(usize::from(number))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_list_is_lower_case_and_free_of_repeats() {
        let mut seen = std::collections::HashSet::new();
        for token in TOKENS {
            assert_eq!(*token, token.to_ascii_lowercase());
            assert!(seen.insert(token), "{token} stands twice");
        }
    }

    #[test]
    fn browsers_and_telephones_are_no_bots() {
        let bots = Bots::new(&[]).unwrap();
        for agent in [
            "",
            "-",
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "Mozilla/5.0 (Linux; Android 8.1; CUBOT_NOTE_S Build/O11019) AppleWebKit/537.36 Chrome/71.0 Mobile Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 12_1_2 like Mac OS X) AppleWebKit/605.1.15 Version/12.0 Mobile Safari/604.1",
            "Dalvik/2.1.0 (Linux; U; Android 8.1.0; SM-J710F Build/M1AJQ)",
        ] {
            assert!(bots.bot(agent).is_none(), "{agent}");
        }
        assert!(bots.bot("Mozilla/5.0 (compatible; NewThing/1.0; +https://new.example/about)").is_some());
    }
}
