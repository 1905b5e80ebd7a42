//! What every HTTP listener of the house shares: problem answers, request ids, bearer tokens, body and
//! time limits, graceful serving. It knows no route and no service.

pub mod auth;
pub mod openapi;
pub mod problem;
pub mod serve;
pub mod verified;

pub use auth::{Caller, SharedAuthenticator, authenticate, bearer};
pub use problem::{Problem, ProblemKind};
pub use serve::{Limits, Listening, RequestIdExt, bind, harden};
pub use verified::VerifiedTokens;
