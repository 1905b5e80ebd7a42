//! Who calls, as outside issuers say it: bearer tokens verified by an issuer's published keys, and the login of
//! dashboards by OpenID Connect. It decides who somebody is, never what a route allows.
//!
//! `options` says which issuers are believed and for what; `keys` reads a key set, `claims` judges a token (both
//! pure); `issuer` holds the newest good keys of one issuer and fetches them (`fetch`); `outside` is the authenticator
//! over all of them. `login` is the browser's way: a redirect, a code, a session in a cookie.

mod claims;
mod fetch;
mod issuer;
mod keys;
pub mod login;
pub mod metrics;
mod options;
mod outside;

pub use issuer::{Issuer, IssuerError};
pub use login::{Login, LoginSecret, Sessions};
pub use options::{Algorithm, IdentityOptions, IssuerOptions, LoginOptions};
pub use outside::OutsideTokens;
