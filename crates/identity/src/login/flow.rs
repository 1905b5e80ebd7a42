//! The login of OpenID Connect, decided purely: what is sent to the issuer, and whether what comes back belongs to
//! what was sent. State, nonce and the PKCE verifier follow from one random number in the browser's own cookie and
//! our secret, so that nothing has to be kept here.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use types::Timestamp;
use url::Url;

use super::session::LoginSecret;
use crate::options::LoginOptions;

/// How long somebody may take at the issuer, with a second factor and a forgotten password.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// Longest path that one is brought back to.
const MAX_PATH: usize = 512;
/// Longest code that is taken to the issuer.
const MAX_CODE: usize = 4 * 1024;

const PURPOSE: &str = "begun";

/// A login that was begun, as it stands in the browser's cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    id: [u8; 16],
    until: Timestamp,
    /// The origin at which it was begun.
    pub(super) origin: String,
    /// The path that one is brought back to.
    pub(super) to: String,
}

impl Begun {
    pub(super) fn new(id: [u8; 16], now: Timestamp, origin: &str, to: &str) -> Self {
        Self { id, until: now.plus(PATIENCE), origin: origin.to_owned(), to: to.to_owned() }
    }

    pub(super) fn seal(&self, secret: &LoginSecret) -> Option<String> {
        secret.seal(PURPOSE, self)
    }

    /// `None`: not one of ours, or begun too long ago.
    pub(super) fn open(secret: &LoginSecret, cookie: &str, now: Timestamp) -> Option<Self> {
        secret.open::<Self>(PURPOSE, cookie).filter(|begun| now < begun.until)
    }

    fn word(&self, secret: &LoginSecret, purpose: &str) -> String {
        URL_SAFE_NO_PAD.encode(secret.word(purpose, &self.id))
    }

    /// Comes back from the issuer as it was sent.
    pub(super) fn state(&self, secret: &LoginSecret) -> String {
        self.word(secret, "state")
    }

    /// Must stand in the issuer's token.
    pub(super) fn nonce(&self, secret: &LoginSecret) -> String {
        self.word(secret, "nonce")
    }

    /// Proves to the issuer that who brings the code has begun the login (RFC 7636).
    pub(super) fn verifier(&self, secret: &LoginSecret) -> String {
        self.word(secret, "verifier")
    }

    /// Where the issuer sends the browser back to.
    pub(super) fn callback(&self) -> String {
        format!("{}/auth/callback", self.origin)
    }

    /// Where the browser is sent.
    pub(super) fn authorization(&self, secret: &LoginSecret, options: &LoginOptions, endpoint: &Url) -> Url {
        let mut url = endpoint.clone();
        let scope = std::iter::once("openid").chain(options.scopes.iter().map(String::as_str));
        let scope = scope.collect::<Vec<_>>().join(" ");
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier(secret).as_bytes()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &options.client_id)
            .append_pair("redirect_uri", &self.callback())
            .append_pair("scope", &scope)
            .append_pair("state", &self.state(secret))
            .append_pair("nonce", &self.nonce(secret))
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        url
    }
}

/// What the browser brings back.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Brought {
    code: Option<String>,
    state: Option<String>,
    /// Who sent it (RFC 9207), where the issuer says so.
    iss: Option<String>,
    pub(super) error: Option<String>,
}

/// Why what was brought is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    /// It answers no login that this browser has begun.
    State,
    /// It comes from another issuer.
    Issuer,
    /// The issuer has said no.
    Denied,
    /// It has no code, or one of impossible length.
    Code,
}

impl Brought {
    /// The code, if it answers `begun` and comes from `issuer`.
    pub(super) fn code(&self, begun: &Begun, secret: &LoginSecret, issuer: &str) -> Result<&str, Odd> {
        let state = self.state.as_deref().unwrap_or_default();
        if !bool::from(state.as_bytes().ct_eq(begun.state(secret).as_bytes())) {
            return Err(Odd::State);
        }
        if self.iss.as_ref().is_some_and(|iss| iss != issuer) {
            return Err(Odd::Issuer);
        }
        if self.error.is_some() {
            return Err(Odd::Denied);
        }
        self.code.as_deref().filter(|code| (1..=MAX_CODE).contains(&code.len())).ok_or(Odd::Code)
    }
}

/// The path to come back to: one of this very place, or the root.
pub(super) fn local_path(asked: Option<&str>) -> &str {
    let fine = |path: &&str| {
        let bytes = path.as_bytes();
        // `//host` and `/\host` are other places to a browser.
        bytes.first() == Some(&b'/')
            && !matches!(bytes.get(1), Some(b'/' | b'\\'))
            && path.len() <= MAX_PATH
            && bytes.iter().all(|b| b.is_ascii_graphic() && *b != b'\\')
    };
    asked.filter(fine).unwrap_or("/")
}

/// The configured origin that has this host.
pub(super) fn origin_of<'a>(origins: &'a [String], host: &str) -> Option<&'a str> {
    let of = |origin: &&String| origin.split_once("://").is_some_and(|(_, its)| its.eq_ignore_ascii_case(host));
    origins.iter().find(of).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(key: u8) -> LoginSecret {
        LoginSecret::new([key; 32]).expect("a secret")
    }
    fn begun(id: u8) -> Begun {
        Begun::new([id; 16], Timestamp::from_seconds(100), "https://ops.example", "/plan")
    }

    #[test]
    fn what_is_sent_holds_a_challenge_and_never_the_verifier() {
        let options = LoginOptions { client_id: "dash".to_owned(), ..LoginOptions::default() };
        let url =
            begun(1).authorization(&secret(1), &options, &Url::parse("https://id.example/auth?x=1").expect("a URL"));
        let said = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned());
        assert_eq!(said("x").as_deref(), Some("1"), "what the endpoint has already stays");
        assert_eq!(said("redirect_uri").as_deref(), Some("https://ops.example/auth/callback"));
        assert_eq!(said("scope").as_deref(), Some("openid profile"));
        assert_eq!(said("code_challenge_method").as_deref(), Some("S256"));
        let verifier = begun(1).verifier(&secret(1));
        assert!((43..=128).contains(&verifier.len()), "RFC 7636, 4.1");
        assert!(!url.as_str().contains(&verifier));
        let words = [begun(1).state(&secret(1)), begun(1).nonce(&secret(1)), verifier];
        assert!(words[0] != words[1] && words[1] != words[2], "none gives another away");
        assert_ne!(begun(1).state(&secret(1)), begun(2).state(&secret(1)));
        assert_ne!(begun(1).state(&secret(1)), begun(1).state(&secret(2)));
    }

    #[test]
    fn only_the_answer_to_its_own_login_is_taken() {
        let (secret, begun) = (secret(1), begun(1));
        let state = Some(begun.state(&secret));
        let code = Some("c".to_owned());
        let says = |brought: Brought| brought.code(&begun, &secret, "https://id.example").map(str::to_owned);
        assert_eq!(
            says(Brought { code: code.clone(), state: state.clone(), ..Brought::default() }),
            Ok("c".to_owned())
        );
        let foreign = Some(self::begun(2).state(&secret));
        assert_eq!(says(Brought { code: code.clone(), state: foreign, ..Brought::default() }), Err(Odd::State));
        assert_eq!(says(Brought { code: code.clone(), ..Brought::default() }), Err(Odd::State));
        let iss = Some("https://evil.example".to_owned());
        let mixed = Brought { code: code.clone(), state: state.clone(), iss, error: None };
        assert_eq!(says(mixed), Err(Odd::Issuer));
        let denied = Brought { state: state.clone(), error: Some("access_denied".to_owned()), ..Brought::default() };
        assert_eq!(says(denied), Err(Odd::Denied));
        assert_eq!(says(Brought { state: state.clone(), ..Brought::default() }), Err(Odd::Code));
        let long = Some("c".repeat(MAX_CODE + 1));
        assert_eq!(says(Brought { code: long, state, ..Brought::default() }), Err(Odd::Code));
        let sealed = begun.seal(&secret).expect("sealed");
        assert_eq!(Begun::open(&secret, &sealed, Timestamp::from_seconds(699)), Some(begun.clone()));
        assert_eq!(Begun::open(&secret, &sealed, Timestamp::from_seconds(700)), None, "begun too long ago");
        assert_eq!(Begun::open(&self::secret(2), &sealed, Timestamp::from_seconds(100)), None);
    }

    #[test]
    fn one_is_brought_back_to_this_very_place() {
        for good in ["/", "/plan?x=1#y", "/a/b"] {
            assert_eq!(local_path(Some(good)), good);
        }
        let long = format!("/{}", "x".repeat(MAX_PATH));
        for bad in
            ["", "plan", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", "/\u{e9}", &long]
        {
            assert_eq!(local_path(Some(bad)), "/", "{bad}");
        }
        assert_eq!(local_path(None), "/");
        let origins = ["https://ops.example".to_owned(), "http://127.0.0.1:8090".to_owned()];
        assert_eq!(origin_of(&origins, "OPS.example"), Some("https://ops.example"));
        assert_eq!(origin_of(&origins, "127.0.0.1:8090"), Some("http://127.0.0.1:8090"));
        for other in ["ops.example:8443", "ops.example.evil.example", "", "127.0.0.1"] {
            assert_eq!(origin_of(&origins, other), None, "{other}");
        }
    }
}
