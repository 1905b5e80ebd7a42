//! What a core can be told by configuration, with defaults and checks. It reads no file and no
//! environment itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{CoreId, Invalid};

use crate::live::options::LiveOptions;
use crate::purchase_token;
use crate::retention::RetentionOptions;
use crate::webhooks::options::WebhookOptions;

/// Longest deadline of a ticket: a shopper who waits longer has left, and backlog bounds grow with it.
const MAX_DEADLINE: Duration = Duration::from_secs(60);
/// Longest pause of a request during a move: more would pile up more requests than memory should hold.
const MAX_HANDOVER_WAIT: Duration = Duration::from_secs(2);

/// Options of one core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// This core's name in the plan and in its answers.
    pub core: String,
    /// Shoppers' listener.
    pub public: SocketAddr,
    /// Listener for the control plane, health and metrics.
    pub private: SocketAddr,
    /// Listener for the shop's administration.
    pub admin: SocketAddr,
    /// Where the last good plan is kept.
    pub data_dir: PathBuf,
    /// How long an accepted order may stay unpaid.
    #[serde(with = "types::time::duration_text")]
    pub reserve_for: Duration,
    /// Time from a purchase call until its ticket must have ended.
    #[serde(with = "types::time::duration_text")]
    pub deadline: Duration,
    /// By how much the clocks of several machines may differ.
    #[serde(with = "types::time::duration_text")]
    pub skew: Duration,
    /// How long a purchase token is good, where a sale asks for one.
    #[serde(with = "types::time::duration_text")]
    pub token_life: Duration,
    /// Longest time that a request waits for a move to end before it gets 503.
    #[serde(with = "types::time::duration_text")]
    pub handover_wait: Duration,
    /// Partitions of `purchase-grants` and `purchase-queue`.
    pub partitions: u32,
    /// Who takes the buyers' money.
    pub payment_provider: PaymentProviderKind,
    /// The simulated payment provider.
    pub payment: SimulatedPaymentOptions,
    /// How long buyers are remembered.
    pub retention: RetentionOptions,
    /// Order events to the shop's own systems.
    pub webhooks: WebhookOptions,
    /// Live updates.
    pub live: LiveOptions,
    /// Seed of everything simulated. Ids and secrets never come from it.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            core: "core-1".to_owned(),
            public: local(8080),
            private: local(8081),
            admin: local(8082),
            data_dir: PathBuf::from("data/core"),
            reserve_for: Duration::from_secs(15 * 60),
            deadline: Duration::from_secs(10),
            skew: Duration::from_secs(1),
            token_life: Duration::from_secs(120),
            handover_wait: Duration::from_millis(200),
            partitions: 4,
            payment_provider: PaymentProviderKind::default(),
            payment: SimulatedPaymentOptions::default(),
            retention: RetentionOptions::default(),
            webhooks: WebhookOptions::default(),
            live: LiveOptions::default(),
            seed: 1,
        }
    }
}

impl Options {
    /// Checks what serde cannot; the refusal names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        CoreId::new(&self.core).map_err(|e| Invalid::new("core", e.why))?;
        within("reserve_for", self.reserve_for, Duration::from_secs(1), Duration::from_secs(7 * 86_400))?;
        within("deadline", self.deadline, Duration::from_millis(100), MAX_DEADLINE)?;
        within("skew", self.skew, Duration::ZERO, MAX_DEADLINE)?;
        within("token_life", self.token_life, Duration::from_secs(1), purchase_token::MAX_LIFE)?;
        within("handover_wait", self.handover_wait, Duration::ZERO, MAX_HANDOVER_WAIT)?;
        if self.partitions == 0 || self.partitions > eventlog::MAX_PARTITIONS {
            return Err(Invalid::new(
                "partitions",
                format!("{} is not in 1 to {}", self.partitions, eventlog::MAX_PARTITIONS),
            ));
        }
        self.retention.check()?;
        self.webhooks.check()?;
        self.live.check()?;
        self.payment.check()
    }

    /// The core's checked name.
    pub(crate) fn core_id(&self) -> Result<CoreId, Invalid> {
        CoreId::new(&self.core)
    }
}

/// Who takes the buyers' money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentProviderKind {
    /// Nobody really: a provider of this process with failures by seed.
    #[default]
    Simulated,
    /// The shop, which says what is paid by the callback or as administrator.
    External,
}

/// How the simulated payment provider behaves. Of each payment at most one of the rates comes true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatedPaymentOptions {
    /// Of 1,000 payments, how many fail.
    pub fail_per_mille: u32,
    /// Of 1,000 payments, how many are slow.
    pub slow_per_mille: u32,
    /// Of 1,000 payments, how many are told twice at once and once more.
    pub double_per_mille: u32,
    /// Of 1,000 payments, how many are told before their start was answered.
    pub early_per_mille: u32,
    /// Of 1,000 payments, how many come after the order has expired.
    pub late_per_mille: u32,
    /// Of 1,000 payments, how many are of a wrong amount.
    pub wrong_amount_per_mille: u32,
    /// Of 1,000 payments, how many are of a wrong currency.
    pub wrong_currency_per_mille: u32,
    /// Time until a payment's result.
    #[serde(with = "types::time::duration_text")]
    pub delay: Duration,
    /// Time until a slow payment's result.
    #[serde(with = "types::time::duration_text")]
    pub slow_delay: Duration,
}

impl Default for SimulatedPaymentOptions {
    fn default() -> Self {
        Self {
            fail_per_mille: 20,
            slow_per_mille: 20,
            double_per_mille: 0,
            early_per_mille: 0,
            late_per_mille: 0,
            wrong_amount_per_mille: 0,
            wrong_currency_per_mille: 0,
            delay: Duration::from_millis(50),
            slow_delay: Duration::from_secs(3),
        }
    }
}

impl SimulatedPaymentOptions {
    fn check(&self) -> Result<(), Invalid> {
        let rates = [
            ("payment.fail_per_mille", self.fail_per_mille),
            ("payment.slow_per_mille", self.slow_per_mille),
            ("payment.double_per_mille", self.double_per_mille),
            ("payment.early_per_mille", self.early_per_mille),
            ("payment.late_per_mille", self.late_per_mille),
            ("payment.wrong_amount_per_mille", self.wrong_amount_per_mille),
            ("payment.wrong_currency_per_mille", self.wrong_currency_per_mille),
        ];
        let mut sum = 0u32;
        for (field, value) in rates {
            sum = sum.saturating_add(value);
            if sum > 1000 {
                let why = format!("{value} makes the rates of all kinds more than 1000 together");
                return Err(Invalid::new(field, why));
            }
        }
        let most = Duration::from_secs(3600);
        within("payment.delay", self.delay, Duration::ZERO, most)?;
        within("payment.slow_delay", self.slow_delay, Duration::ZERO, most)
    }
}

fn within(field: &'static str, value: Duration, least: Duration, most: Duration) -> Result<(), Invalid> {
    if value < least || value > most {
        return Err(Invalid::new(field, format!("{value:?} is not in {least:?} to {most:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_legal_and_a_wrong_field_is_named() {
        assert_eq!(Options::default().check(), Ok(()));
        let refused = |o: Options| o.check().expect_err("must be refused").what;
        assert_eq!(refused(Options { partitions: 0, ..Options::default() }), "partitions");
        assert_eq!(refused(Options { core: "a b".into(), ..Options::default() }), "core");
        assert_eq!(refused(Options { deadline: Duration::ZERO, ..Options::default() }), "deadline");
        let payment = SimulatedPaymentOptions { fail_per_mille: 1001, ..SimulatedPaymentOptions::default() };
        assert_eq!(refused(Options { payment, ..Options::default() }), "payment.fail_per_mille");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let text = serde_json::json!({"core": "a", "colour": "red"});
        assert!(serde_json::from_value::<Options>(text).is_err());
    }
}
