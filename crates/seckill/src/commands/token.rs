//! `seckill token`: signs a token of the built-in issuer with the data directory's secret.

use std::process::ExitCode;

use types::Role;

use super::say;
use crate::cli::TokenArgs;
use crate::config::Config;
use crate::identity::local_token;

/// Prints the token alone, so that `$(seckill token …)` works.
pub fn run(config: &Config, args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let (subject, roles) = match &args.buyer {
        Some(buyer) => (buyer.clone(), vec![Role::Shopper]),
        None => {
            if let Some(service) = args.role.iter().find(|r| matches!(r, Role::Control | Role::Core | Role::Edge)) {
                anyhow::bail!("{service} is a service's role; services prove themselves by their own secret file");
            }
            let name = args.subject.clone().unwrap_or_else(|| args.role[0].to_string());
            (name, args.role.clone())
        }
    };
    say(local_token(config, &subject, &roles, args.ttl)?);
    Ok(ExitCode::SUCCESS)
}
