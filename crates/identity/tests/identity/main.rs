//! Tokens and logins against a small issuer that is a real HTTP server with real keys.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod login;
mod provider;
mod tokens;
