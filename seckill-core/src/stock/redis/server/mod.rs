//! Leases in a real Redis or Redis Cluster. It grants only where the asked process itself holds the lease, at its
//! epoch, as it was loaded into it: whatever else answers is not the owner.
//!
//! A lease is one hash under `PREFIX{SKU}`, so that it lies in one slot, and is there or not as a whole. It remembers
//! the server process (`run_id`) that it was loaded into, and every call names the process that its connection leads
//! to. A Redis that came back empty has no lease; one that came back with yesterday's data, and a replica that was
//! promoted with data a moment too old, have a lease of another process: both answer `NotOwner`, the mover fences,
//! settles and opens a new lease. (A master that was demoted, given its replica's older data and promoted again
//! without ever ending is not recognised here; `UNIQUE(lease, seq)` in SQL stops what it repeats.)
//!
//! A grant that was not answered in time may have been made. The same call again (the same buyer and key) gets the
//! same grant, so a caller may always repeat; if nobody does, leak recovery brings the units back.
//!
//! Memory: a grant and its buyer take about 190 bytes of Redis's memory (`tests/lease_store/measure.rs`), whatever the
//! length of their names; a lease of 100,000 units at one per buyer 18 MiB at most. Keys expire `keep` after the sale.

mod fault;
mod fleet;
mod link;
pub mod metrics;
mod options;
mod route;
mod script;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use types::{Clock, LeaseId, Sku};

use self::fault::Fault;
use self::fleet::{Fleet, Node};
pub use self::options::{NodeAddress, RedisLeasesOptions};
use self::script::Ask;
use super::{GrantReply, GrantRequest, LeaseLoad, LeaseLook, LeaseStore, LeaseStoreError};

/// Pause before a call that found nobody ready is tried again: some twenty tries within the usual limit.
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// Redirections that are followed at once; more follow each other only while slots move, and wait in between.
const QUICK_REDIRECTIONS: u32 = 3;

/// Leases in Redis. Dropping it closes its connections.
pub struct RedisLeases {
    fleet: Arc<Fleet>,
    clock: Arc<dyn Clock>,
    options: RedisLeasesOptions,
    places: Semaphore,
    learner: Option<JoinHandle<()>>,
}

impl fmt::Debug for RedisLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLeases").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Drop for RedisLeases {
    fn drop(&mut self) {
        if let Some(learner) = &self.learner {
            learner.abort();
        }
    }
}

/// What one call came to.
enum End {
    /// Redis's answer, with the server process that gave it.
    Answer(Value, Arc<str>),
    /// A replica: not the owner of anything.
    Replica,
}

impl RedisLeases {
    /// Begins to connect and waits until that has succeeded or failed, for [`RedisLeasesOptions::connect_within`] at
    /// most. A Redis that is away is no error: the core sells on the other paths, every call here fails closed, and
    /// the connections come up by themselves. An error is what waiting cannot mend: wrong options, a refused or
    /// unreadable password, a cluster that is none.
    pub async fn connect(options: RedisLeasesOptions, clock: Arc<dyn Clock>) -> Result<Self, LeaseStoreError> {
        options.check().map_err(|error| LeaseStoreError::Refused(error.to_string()))?;
        let fleet = Arc::new(Fleet::new(options.clone()));
        let mut leases =
            Self { fleet, clock, places: Semaphore::new(options.in_flight as usize), learner: None, options };
        let deadline = Instant::now() + leases.options.connect_within;
        while Instant::now() < deadline {
            let seeds = leases.fleet.seeds();
            if seeds.iter().any(|node| node.is_up()) {
                break;
            }
            if seeds.iter().all(|node| node.trouble().is_some()) {
                break;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        for node in leases.fleet.seeds() {
            match node.trouble() {
                Some(Fault::Refused(why)) => {
                    return Err(LeaseStoreError::Refused(format!("{}: {why}", node.address)));
                }
                Some(fault) => tracing::warn!(node = %node.address, ?fault, "starting without the lease store"),
                None => {}
            }
        }
        if leases.options.cluster {
            leases.fleet.learn_once().await;
            let fleet = leases.fleet.clone();
            leases.learner = Some(tokio::spawn(async move { fleet.keep_learning().await }));
        }
        Ok(leases)
    }

    /// Whether every server that owns leases can be asked now; else the first one's trouble. For readiness probes: it
    /// looks at the connections and asks nothing.
    pub fn ready(&self) -> Result<(), LeaseStoreError> {
        let owners = self.fleet.owners();
        if owners.is_empty() {
            return Err(LeaseStoreError::Away("no server has said who owns which slots".to_owned()));
        }
        for node in owners {
            if let Some(fault) = node.trouble() {
                return Err(away(&node, &fault));
            }
            if !node.is_up() {
                return Err(LeaseStoreError::Away(format!("{} is not connected", node.address)));
            }
        }
        Ok(())
    }

    /// Milliseconds until a lease's key expires: `keep` behind the sale's end, by the caller's clock.
    fn expires(&self, lease: &LeaseLoad) -> u64 {
        let open = self.clock.real(lease.closes.since(self.clock.now()));
        millis(open.saturating_add(self.options.keep))
    }

    async fn ask(&self, product: &Sku, ask: Ask) -> Result<End, LeaseStoreError> {
        let started = Instant::now();
        let result = match self.places.try_acquire() {
            Ok(_place) => {
                metrics::in_flight(self.options.in_flight as usize - self.places.available_permits());
                self.try_until(product, &ask, started + self.options.answer_within).await
            }
            Err(_) => Err(LeaseStoreError::Full(self.options.in_flight)),
        };
        let end = match &result {
            Ok(End::Answer(..)) => "answered",
            Ok(End::Replica) => "replica",
            Err(error) => error.label(),
        };
        metrics::call(ask.label(), end, started.elapsed());
        result
    }

    /// Asks whoever has the product until somebody answers or the time is up.
    async fn try_until(&self, product: &Sku, ask: &Ask, deadline: Instant) -> Result<End, LeaseStoreError> {
        let (slot, key) = (route::slot(product), script::key(&self.options.prefix, product));
        let (mut target, mut asking, mut teach) = (None, false, false);
        let mut redirections = 0;
        // The last trouble on the way, for the error when the time is up.
        let mut last = None;
        loop {
            let Some(node) = target.take().or_else(|| self.fleet.owner(slot)) else {
                return Err(LeaseStoreError::Away("there are too many servers".to_owned()));
            };
            let fault = match node.live(deadline).await {
                Ok((link, live)) => {
                    let mut first = Vec::new();
                    if let (true, Some(text)) = (teach, ask.text()) {
                        first.push(redis::cmd("SCRIPT").arg("LOAD").arg(text).to_owned());
                    }
                    // Right before the call: it is good for the next command only.
                    if asking {
                        first.push(redis::cmd("ASKING"));
                    }
                    let command = ask.command(&key, &live.run);
                    let sent = live.send(&node.address, &first, &command);
                    match tokio::time::timeout_at(deadline, sent).await {
                        Ok(Ok(value)) => return Ok(End::Answer(value, live.run)),
                        Ok(Err(fault)) => {
                            if matches!(fault, Fault::Lost(_)) {
                                node.report(link, &live);
                                if !ask.repeatable() {
                                    return Err(away(&node, &fault));
                                }
                            }
                            fault
                        }
                        Err(_) => {
                            node.report(link, &live);
                            metrics::fault("late");
                            self.fleet.doubt();
                            return Err(LeaseStoreError::Late(self.options.answer_within));
                        }
                    }
                }
                // It was not sent. A cluster may have another owner by now, one server has not.
                Err(fault) if !self.options.cluster => {
                    metrics::fault(fault.label());
                    return Err(away(&node, &fault));
                }
                Err(fault) => fault,
            };
            metrics::fault(fault.label());
            (asking, teach) = (false, false);
            let mut wait = true;
            match &fault {
                Fault::NoScript => {
                    teach = true;
                    wait = last.as_ref() == Some(&fault);
                    target = Some(node.clone());
                }
                Fault::Moved(to) | Fault::Ask(to) => {
                    redirections += 1;
                    wait = redirections > QUICK_REDIRECTIONS;
                    asking = matches!(fault, Fault::Ask(_));
                    target = to.as_ref().and_then(|address| self.fleet.node(address));
                    if !asking {
                        self.fleet.doubt();
                    }
                }
                Fault::Replica => {
                    self.fleet.doubt();
                    return Ok(End::Replica);
                }
                Fault::Refused(why) => {
                    return Err(LeaseStoreError::Refused(format!("{}: {why}", node.address)));
                }
                Fault::NotNow(_) | Fault::Lost(_) => self.fleet.doubt(),
            }
            if wait {
                if Instant::now() + TRY_AGAIN >= deadline {
                    return Err(away(&node, last.as_ref().unwrap_or(&fault)));
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
            last = Some(fault);
        }
    }
}

fn away(node: &Node, fault: &Fault) -> LeaseStoreError {
    let why = match fault {
        Fault::NotNow(why) | Fault::Lost(why) | Fault::Refused(why) => why.as_str(),
        Fault::NoScript => "it forgets its scripts",
        Fault::Moved(_) | Fault::Ask(_) => "its slots are being moved",
        Fault::Replica => "it is a replica",
    };
    LeaseStoreError::Away(format!("{}: {why}", node.address))
}

fn countable(units: u64) -> Result<(), LeaseStoreError> {
    if units > script::MAX_UNITS {
        return Err(LeaseStoreError::Refused(format!("{units} units are more than Redis counts")));
    }
    Ok(())
}

fn millis(d: Duration) -> u64 {
    // Redis counts in signed 64 bits and adds its own clock.
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 52)
}

#[async_trait]
impl LeaseStore for RedisLeases {
    async fn load(&self, lease: LeaseLoad) -> Result<bool, LeaseStoreError> {
        countable(lease.granted)?;
        let (product, expires) = (lease.product.clone(), self.expires(&lease));
        match self.ask(&product, Ask::Load(lease, expires)).await? {
            End::Answer(value, _) => script::done_reply(&value),
            End::Replica => Err(LeaseStoreError::Away("the server is a replica".to_owned())),
        }
    }

    async fn grant(&self, request: GrantRequest) -> Result<GrantReply, LeaseStoreError> {
        let product = request.product.clone();
        match self.ask(&product, Ask::Grant(request)).await? {
            End::Answer(value, _) => script::grant_reply(&value),
            End::Replica => Ok(GrantReply::NotOwner),
        }
    }

    async fn close(&self, product: &Sku, lease: LeaseId) -> Result<bool, LeaseStoreError> {
        match self.ask(product, Ask::Close(lease, millis(self.options.keep))).await? {
            End::Answer(value, _) => script::done_reply(&value),
            End::Replica => Ok(false),
        }
    }

    async fn top_up(&self, product: &Sku, lease: LeaseId, granted: u64) -> Result<bool, LeaseStoreError> {
        countable(granted)?;
        match self.ask(product, Ask::TopUp(lease, granted)).await? {
            End::Answer(value, _) => script::done_reply(&value),
            End::Replica => Ok(false),
        }
    }

    async fn look(&self, product: &Sku, lease: LeaseId) -> Result<Option<LeaseLook>, LeaseStoreError> {
        match self.ask(product, Ask::Look).await? {
            End::Answer(value, run) => script::look_reply(&value, lease, &run),
            End::Replica => Ok(None),
        }
    }
}
