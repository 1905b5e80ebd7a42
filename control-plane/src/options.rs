//! What can be configured of the control plane, and what is refused. It reads no file itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

use crate::policy::Policy;
use crate::reconcile::http_core::base_url;

/// Most cores: one loop and one connection each.
pub const MAX_CORES: usize = 1_000;

/// Longest name of a control plane: a column's width, and a host name's.
const MAX_INSTANCE: usize = 128;
/// Longest address: a column's width.
const MAX_ADVERTISE: usize = 512;

/// Options of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Admin listener of the ops REST.
    pub listen: SocketAddr,
    /// Directory of the embedded plan store; made if absent.
    pub data_dir: PathBuf,
    /// Name of this control plane among those that share a plan store; each has its own. One that starts again under
    /// its old name need not wait for its old lease.
    pub instance: String,
    /// Where the others and people find this one's ops REST; if empty `http://` and `listen`.
    pub advertise: String,
    /// Base URLs of the cores' private listeners (`http://host:port`).
    pub cores: Vec<String>,
    /// Time between plans, and between looks at each core's state; on the service's clock.
    #[serde(with = "types::time::duration_text")]
    pub tick: Duration,
    /// The planner's numbers.
    pub policy: Policy,
    /// Folder in which each sale is recorded for `seckill ctl replay`; unset: nothing is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<PathBuf>,
    /// Seeds jitter and push nonces.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8090)),
            data_dir: PathBuf::from("data/control-plane"),
            instance: "control-plane".to_owned(),
            advertise: String::new(),
            cores: vec!["http://127.0.0.1:8081".to_owned()],
            tick: Duration::from_millis(250),
            policy: Policy::default(),
            record: None,
            seed: 0,
        }
    }
}

impl Options {
    /// Checks every field; the error names the first bad one.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(Invalid::new("data_dir", "is empty; give a directory"));
        }
        if self.instance.is_empty() || self.instance.len() > MAX_INSTANCE {
            return Err(Invalid::new("instance", format!("must have 1 to {MAX_INSTANCE} bytes")));
        }
        if self.advertise.len() > MAX_ADVERTISE {
            return Err(Invalid::new("advertise", format!("is longer than {MAX_ADVERTISE} bytes")));
        }
        if self.cores.is_empty() || self.cores.len() > MAX_CORES {
            return Err(Invalid::new("cores", format!("{} cores; give 1 to {MAX_CORES}", self.cores.len())));
        }
        let mut seen = std::collections::BTreeSet::new();
        for core in &self.cores {
            if !seen.insert(base_url(core)?) {
                return Err(Invalid::new("cores", format!("{core:?} appears twice")));
            }
        }
        if self.tick < Duration::from_millis(10) || self.tick > Duration::from_secs(10) {
            return Err(Invalid::new("tick", format!("{:?} is not in 10ms to 10s", self.tick)));
        }
        self.policy.check()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_defaults_pass_and_each_bad_field_is_named() {
        Options::default().check().unwrap();
        let bad = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check().unwrap_err().what
        };
        assert_eq!(bad(|o| o.cores.clear()), "cores");
        assert_eq!(bad(|o| o.cores.push("http://127.0.0.1:8081/".into())), "cores");
        assert_eq!(bad(|o| o.cores[0] = "localhost".into()), "cores");
        assert_eq!(bad(|o| o.tick = Duration::ZERO), "tick");
        assert_eq!(bad(|o| o.data_dir = PathBuf::new()), "data_dir");
        assert_eq!(bad(|o| o.policy.demote_ratio = 2.0), "policy.demote_ratio");
    }
}
