//! `seckill token`: signs a token of the built-in issuer with the data directory's secret.

use std::process::ExitCode;
use std::sync::Arc;

use types::{BuyerId, Role, SystemClock};

use super::say;
use crate::cli::TokenArgs;
use crate::config::Config;
use crate::identity::DemoIssuer;
use crate::secrets::Secrets;

/// Prints the token alone, so that `$(seckill token …)` works.
pub fn run(config: &Config, args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let secrets = Secrets::load(&config.secrets, &config.data_dir, config.mode.makes_secrets())?;
    let issuer = DemoIssuer::new(&secrets.issuer, secrets.control, Arc::new(SystemClock::new()));
    let (subject, roles) = match &args.buyer {
        Some(buyer) => (BuyerId::new(buyer)?, vec![Role::Shopper]),
        None => {
            if let Some(service) = args.role.iter().find(|r| matches!(r, Role::Control | Role::Core | Role::Edge)) {
                anyhow::bail!("{service} is a service's role; services prove themselves by their own secret file");
            }
            let name = args.subject.clone().unwrap_or_else(|| args.role[0].to_string());
            (BuyerId::new(name)?, args.role.clone())
        }
    };
    say(issuer.issue(&subject, &roles, args.ttl)?);
    Ok(ExitCode::SUCCESS)
}
