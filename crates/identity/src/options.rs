//! Which issuers are believed, for what, and how dashboards log in: what can be told by configuration, with defaults
//! and checks. It opens nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{Invalid, Role};
use url::{Host, Url};

/// Most issuers: one for shoppers, one for staff, and room for a change of either.
const MAX_ISSUERS: usize = 8;
/// Most roles that are mapped.
const MAX_ROLES: usize = 64;
/// Largest difference of clocks that is allowed for.
const MAX_SKEW: Duration = Duration::from_secs(300);
/// Longest session of a dashboard: a working day.
const MAX_SESSION: Duration = Duration::from_secs(12 * 3600);

/// How an issuer may sign. A shared secret (HS…) is not among them: whoever can check such a token can make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    RS256,
    /// RSA, PSS, SHA-256.
    PS256,
    /// ECDSA on P-256.
    ES256,
    /// ECDSA on P-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// As it stands in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::PS256 => "PS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    pub(crate) const fn theirs(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::PS256 => jsonwebtoken::Algorithm::PS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::ES384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// One issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IssuerOptions {
    /// Exactly what its tokens say in `iss`.
    pub issuer: String,
    /// What `aud` of its tokens must hold.
    pub audience: String,
    /// Where its key set is: a URL or a file. Unset: what its discovery document
    /// (`<issuer>/.well-known/openid-configuration`) names.
    pub keys: Option<String>,
    /// How it signs; a token that says something else is refused, whatever key it names.
    pub algorithms: BTreeSet<Algorithm>,
    /// Where the roles stand: names of members, outermost first, joined by dots (`realm_access.roles`).
    pub roles_claim: String,
    /// What its words for roles mean here. A word that is not here means nothing.
    pub roles: BTreeMap<String, Role>,
    /// Roles that everybody has whom it names: `["shopper"]` for the shop's own login.
    pub everybody: BTreeSet<Role>,
    /// Put before `sub`, so that people of two issuers are never one.
    pub subject_prefix: String,
    /// Allowed difference between its clock and ours.
    #[serde(with = "types::time::duration_text")]
    pub skew: Duration,
    /// How often its keys are read again.
    #[serde(with = "types::time::duration_text")]
    pub refresh: Duration,
    /// Whether it may be reached over plain `http://` although it is not on this machine: in a private network whose
    /// every participant may be believed to be the issuer.
    pub plain_http: bool,
    /// Certificates (PEM) that are trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for IssuerOptions {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            keys: None,
            algorithms: BTreeSet::from([Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]),
            roles_claim: "roles".to_owned(),
            roles: BTreeMap::new(),
            everybody: BTreeSet::new(),
            subject_prefix: String::new(),
            skew: Duration::from_secs(30),
            refresh: Duration::from_secs(600),
            plain_http: false,
            ca_file: None,
        }
    }
}

/// How dashboards log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginOptions {
    /// Which of the issuers; unset: there is no login, dashboards send a token.
    pub issuer: Option<String>,
    /// Our name there.
    pub client_id: String,
    /// File with our secret there; unset: a public client, proved by PKCE alone.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Where dashboards are reached (`https://ops.shop.example`); a login from anywhere else is refused. Each with
    /// `/auth/callback` behind it is registered at the issuer.
    pub origins: Vec<String>,
    /// How long a session lasts until the issuer is asked again, mostly without the person noticing: so long may one who
    /// was dismissed still act.
    #[serde(with = "types::time::duration_text")]
    pub session: Duration,
}

impl Default for LoginOptions {
    fn default() -> Self {
        Self {
            issuer: None,
            client_id: String::new(),
            client_secret_file: None,
            scopes: vec!["profile".to_owned()],
            origins: Vec::new(),
            session: Duration::from_secs(3600),
        }
    }
}

/// Who is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityOptions {
    /// Issuers; without any the built-in one of the demo signs tokens, which production refuses.
    pub issuers: Vec<IssuerOptions>,
    /// Dashboards.
    pub login: LoginOptions,
}

impl IdentityOptions {
    /// Checks what serde cannot; the refusal names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.issuers.len() > MAX_ISSUERS {
            return Err(Invalid::new("issuers", format!("{}; at most {MAX_ISSUERS}", self.issuers.len())));
        }
        let mut seen = BTreeSet::new();
        let mut shoppers = BTreeSet::new();
        for one in &self.issuers {
            one.check().map_err(|e| Invalid::new(e.what, format!("{} (of issuer {:?})", e.why, one.issuer)))?;
            if !seen.insert(&one.issuer) {
                return Err(Invalid::new("issuers.issuer", format!("{:?} appears twice", one.issuer)));
            }
            if one.gives(Role::Shopper) && !shoppers.insert(&one.subject_prefix) {
                let why = "two issuers of shoppers need different prefixes, or one's shopper could be the other's";
                return Err(Invalid::new("issuers.subject_prefix", why));
            }
        }
        self.login.check(&self.issuers)
    }
}

impl IssuerOptions {
    fn gives(&self, role: Role) -> bool {
        self.everybody.contains(&role) || self.roles.values().any(|given| *given == role)
    }

    fn check(&self) -> Result<(), Invalid> {
        for (field, text) in [("issuers.issuer", &self.issuer), ("issuers.audience", &self.audience)] {
            if text.is_empty() || text.len() > 512 {
                return Err(Invalid::new(field, "must have 1 to 512 bytes"));
            }
        }
        if self.algorithms.is_empty() {
            return Err(Invalid::new("issuers.algorithms", "is empty: no token would be good"));
        }
        let service = |role: &&Role| matches!(role, Role::Core | Role::Edge | Role::Control);
        if let Some(role) = self.roles.values().chain(&self.everybody).find(service) {
            let why = format!("{role} is a service's role; services prove themselves by their own secret");
            return Err(Invalid::new("issuers.roles", why));
        }
        if self.everybody.iter().any(|role| *role != Role::Shopper && *role != Role::Viewer) {
            return Err(Invalid::new("issuers.everybody", "everybody can be a shopper or a viewer and nothing more"));
        }
        if self.roles.len() > MAX_ROLES {
            return Err(Invalid::new("issuers.roles", format!("more than {MAX_ROLES}")));
        }
        if self.roles.is_empty() && self.everybody.is_empty() {
            return Err(Invalid::new("issuers.roles", "nobody would have a role: map its roles, or name `everybody`"));
        }
        if self.skew > MAX_SKEW {
            return Err(Invalid::new("issuers.skew", format!("{:?} is above {MAX_SKEW:?}", self.skew)));
        }
        if !(Duration::from_secs(10)..=Duration::from_secs(24 * 3600)).contains(&self.refresh) {
            return Err(Invalid::new("issuers.refresh", format!("{:?} is not in 10s to 24h", self.refresh)));
        }
        match &self.keys {
            Some(keys) if !is_url(keys) => Ok(()),
            Some(keys) => self.reachable("issuers.keys", keys),
            None => self.reachable("issuers.issuer", &self.issuer),
        }
    }

    /// Whether we would ask there: by https, or by http where that is as good.
    pub(crate) fn reachable(&self, field: &'static str, text: &str) -> Result<(), Invalid> {
        let url = Url::parse(text).map_err(|e| Invalid::new(field, format!("{text:?} is not a URL: {e}")))?;
        let here = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => return Err(Invalid::new(field, format!("{text:?} names no host"))),
        };
        match url.scheme() {
            "https" if cfg!(feature = "tls") => Ok(()),
            "https" => Err(Invalid::new(field, "this program was built without TLS (feature `tls`)")),
            "http" if here || self.plain_http => Ok(()),
            "http" => {
                let why = format!(
                    "{text} is not on this machine, and who can answer for it on the network can sign anything: use \
                     https, or say plain_http = true in a network that you trust that far"
                );
                Err(Invalid::new(field, why))
            }
            other => Err(Invalid::new(field, format!("{other}:// is neither https:// nor http://"))),
        }
    }
}

impl LoginOptions {
    fn check(&self, issuers: &[IssuerOptions]) -> Result<(), Invalid> {
        let Some(issuer) = &self.issuer else { return Ok(()) };
        let Some(found) = issuers.iter().find(|one| one.issuer == *issuer) else {
            return Err(Invalid::new("login.issuer", format!("{issuer:?} is none of identity.issuers")));
        };
        found.reachable("login.issuer", issuer)?;
        if self.client_id.is_empty() || self.client_id.len() > 256 {
            return Err(Invalid::new("login.client_id", "must have 1 to 256 bytes: our name at the issuer"));
        }
        if self.origins.is_empty() || self.origins.len() > 16 {
            return Err(Invalid::new("login.origins", "name 1 to 16 origins at which dashboards are reached"));
        }
        for origin in &self.origins {
            let parsed = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            if parsed.is_none_or(|url| url.origin().ascii_serialization() != *origin) {
                let why = format!("{origin:?} is not an origin: scheme, host and port as a browser says it, no path");
                return Err(Invalid::new("login.origins", why));
            }
        }
        if self.scopes.len() > 16 || self.scopes.iter().any(|s| s.is_empty() || s.contains(char::is_whitespace)) {
            return Err(Invalid::new("login.scopes", "at most 16 words without spaces"));
        }
        if !(Duration::from_secs(60)..=MAX_SESSION).contains(&self.session) {
            return Err(Invalid::new("login.session", format!("{:?} is not in 1min to {MAX_SESSION:?}", self.session)));
        }
        Ok(())
    }
}

/// Whether keys are asked for over the network, and not read from a file.
pub(crate) fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> IssuerOptions {
        IssuerOptions {
            issuer: "https://login.shop.example/".to_owned(),
            audience: "seckill".to_owned(),
            everybody: BTreeSet::from([Role::Shopper]),
            ..IssuerOptions::default()
        }
    }
    fn refused(issuers: Vec<IssuerOptions>) -> &'static str {
        IdentityOptions { issuers, login: LoginOptions::default() }.check().expect_err("must be refused").what
    }

    #[test]
    fn a_wrong_field_is_named() {
        let good = IdentityOptions { issuers: vec![shop()], login: LoginOptions::default() };
        assert_eq!(good.check(), Ok(()));
        assert_eq!(IdentityOptions::default().check(), Ok(()), "the demo has no issuer");
        let rows = [
            ("issuers.issuer", IssuerOptions { issuer: String::new(), ..shop() }),
            ("issuers.issuer", IssuerOptions { issuer: "login.shop.example".to_owned(), ..shop() }),
            ("issuers.issuer", IssuerOptions { issuer: "http://login.shop.example".to_owned(), ..shop() }),
            ("issuers.audience", IssuerOptions { audience: String::new(), ..shop() }),
            ("issuers.algorithms", IssuerOptions { algorithms: BTreeSet::new(), ..shop() }),
            ("issuers.roles", IssuerOptions { roles: BTreeMap::from([("x".to_owned(), Role::Control)]), ..shop() }),
            ("issuers.roles", IssuerOptions { everybody: BTreeSet::new(), ..shop() }),
            ("issuers.everybody", IssuerOptions { everybody: BTreeSet::from([Role::Admin]), ..shop() }),
            ("issuers.skew", IssuerOptions { skew: Duration::from_secs(3600), ..shop() }),
            ("issuers.refresh", IssuerOptions { refresh: Duration::ZERO, ..shop() }),
            ("issuers.keys", IssuerOptions { keys: Some("http://10.0.0.7/keys".to_owned()), ..shop() }),
        ];
        for (field, issuer) in rows {
            assert_eq!(refused(vec![issuer.clone()]), field, "{issuer:?}");
        }
        assert_eq!(refused(vec![shop(), shop()]), "issuers.issuer");
        let other = IssuerOptions { issuer: "https://other.example".to_owned(), ..shop() };
        assert_eq!(refused(vec![shop(), other]), "issuers.subject_prefix", "ann here is not ann there");
        let plain = IssuerOptions { keys: Some("http://10.0.0.7/keys".to_owned()), plain_http: true, ..shop() };
        let file = IssuerOptions { keys: Some("keys.json".to_owned()), issuer: "any text".to_owned(), ..shop() };
        for good in [plain, file] {
            assert_eq!(IdentityOptions { issuers: vec![good], ..IdentityOptions::default() }.check(), Ok(()));
        }
    }

    #[test]
    fn a_login_needs_its_issuer_and_where_it_happens() {
        let good = LoginOptions {
            issuer: Some(shop().issuer),
            client_id: "dashboards".to_owned(),
            origins: vec!["https://ops.shop.example".to_owned()],
            ..LoginOptions::default()
        };
        let says = |login: LoginOptions| IdentityOptions { issuers: vec![shop()], login }.check().map_err(|e| e.what);
        assert_eq!(says(good.clone()), Ok(()));
        let unknown = LoginOptions { issuer: Some("https://evil.example".to_owned()), ..good.clone() };
        assert_eq!(says(unknown), Err("login.issuer"));
        for origin in ["https://ops.shop.example/", "ops.shop.example", "https://OPS.shop.example", "*", "null"] {
            assert_eq!(says(LoginOptions { origins: vec![origin.to_owned()], ..good.clone() }), Err("login.origins"));
        }
        assert_eq!(says(LoginOptions { client_id: String::new(), ..good.clone() }), Err("login.client_id"));
        assert_eq!(says(LoginOptions { session: Duration::from_secs(90_000), ..good }), Err("login.session"));
    }
}
