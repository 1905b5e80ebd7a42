//! Flow control: what may enter, how fast, and what is refused with which reason. Rules go in ([`RuleSet`]), a verdict
//! comes out of [`Resource::enter`]. No I/O, no clock and no thread of its own: the caller says what time it is
//! ([`Nanos`]) and waits himself where a verdict says so. The words are those of Alibaba Sentinel, whose rules' JSON is
//! read by [`sentinel`].
//!
//! ```
//! use flow_control::{Entry, FlowControl, FlowRule, Nanos, Options, RuleSet, Verdict};
//!
//! let control = FlowControl::new(Options::default());
//! let rules = RuleSet { flow: vec![FlowRule::qps("two-a-second", "purchase", 2.0)], ..RuleSet::default() };
//! control.apply(rules.check().expect("sound"));
//! let purchase = control.inbound("purchase").expect("room");
//! let now = Nanos::from_millis(10);
//! let first = purchase.enter(&Entry::default(), now);
//! let second = purchase.enter(&Entry::default(), now);
//! let third = purchase.enter(&Entry::default(), now);
//! assert!(matches!((&first, &second), (Verdict::Pass(_), Verdict::Pass(_))));
//! let Verdict::Block(why) = third else { panic!("two a second are through") };
//! assert_eq!(&*why.rule, "two-a-second");
//! ```

pub mod adaptive;
mod authority;
pub mod breaker;
pub mod cluster;
mod compiled;
mod control;
mod entry;
mod flow;
mod hot;
mod live;
mod origins;
mod pacing;
mod resource;
pub mod rules;
pub mod sentinel;
mod system;
mod time;
mod warm_up;
mod window;

pub use control::{Applied, FlowControl, NoRoom, Options};
pub use entry::{Block, Entry, Kind, Param, Pass, Priority, Verdict};
pub use live::{LiveResource, Totals};
pub use resource::Resource;
pub use rules::{
    AuthorityRule, Basis, BreakerRule, Checked, Effect, FlowRule, HotParamRule, Measure, RuleSet, SystemRule, Trip,
    Unsound,
};
pub use system::SystemSample;
pub use time::Nanos;
