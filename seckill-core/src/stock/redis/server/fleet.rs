//! The servers that hold leases: one, or a cluster's nodes with the table of who owns which slots. One task learns
//! the table, callers read snapshots of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fault::Fault;
use super::link::{Connector, Link, Live, State};
use super::metrics;
use super::options::{NodeAddress, RedisLeasesOptions};
use super::route::SlotTable;

/// Most servers that are connected to; a cluster's own limit is 1,000, and redirections must not lead beyond.
const MAX_NODES: usize = 1_000;
/// How often the table is learnt anew when no redirection asked for it.
const LEARN_EVERY: Duration = Duration::from_secs(15);
/// Pause after it was learnt: while slots move, thousands of calls may ask for it at once.
const LEARN_PAUSE: Duration = Duration::from_millis(50);

/// One server with its connections.
pub(super) struct Node {
    pub address: NodeAddress,
    links: Vec<Link>,
    next: AtomicUsize,
    /// How long a caller waits for a connection that has just been lost.
    patience: Duration,
}

impl Node {
    fn new(connector: &Connector, address: NodeAddress, options: &RedisLeasesOptions) -> Self {
        let link = |_| Link::new(connector.clone(), address.clone());
        let links = (0..options.connections).map(link).collect();
        Self { links, next: AtomicUsize::new(0), patience: options.answer_within, address }
    }

    /// A connection that is up, and its number here. Waits until `deadline` for one that was lost just now; one that
    /// has been down for longer is answered at once, so that a Redis that is away costs its callers no time.
    pub async fn live(&self, deadline: Instant) -> Result<(usize, Live), Fault> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut newest: Option<(Instant, Option<Fault>, usize)> = None;
        for i in 0..self.links.len() {
            let i = (start + i) % self.links.len();
            match &*self.links[i].state().borrow() {
                State::Up(live) => return Ok((i, live.clone())),
                State::Down { since, why } if newest.as_ref().is_none_or(|(newest, ..)| newest < since) => {
                    newest = Some((*since, why.clone(), i));
                }
                State::Down { .. } => {}
            }
        }
        let away = |why: Option<Fault>| why.unwrap_or_else(|| Fault::Lost("not connected".to_owned()));
        let Some((since, why, i)) = newest else { return Err(away(None)) };
        if since.elapsed() >= self.patience {
            return Err(away(why));
        }
        let mut state = self.links[i].state();
        match tokio::time::timeout_at(deadline, state.wait_for(|state| matches!(state, State::Up(_)))).await {
            Ok(Ok(up)) => match &*up {
                State::Up(live) => Ok((i, live.clone())),
                State::Down { why, .. } => Err(away(why.clone())),
            },
            _ => Err(self.trouble().unwrap_or_else(|| away(why))),
        }
    }

    /// The connection broke or fell silent.
    pub fn report(&self, link: usize, live: &Live) {
        if let Some(link) = self.links.get(link) {
            link.report(live);
        }
    }

    /// Whether a connection is up.
    pub fn is_up(&self) -> bool {
        self.links.iter().any(|link| matches!(&*link.state().borrow(), State::Up(_)))
    }

    /// Why the last try to connect failed, if none is up.
    pub fn trouble(&self) -> Option<Fault> {
        if self.is_up() {
            return None;
        }
        self.links.iter().find_map(|link| match &*link.state().borrow() {
            State::Down { why, .. } => why.clone(),
            State::Up(_) => None,
        })
    }
}

/// All servers.
pub(super) struct Fleet {
    options: RedisLeasesOptions,
    connector: Connector,
    nodes: Mutex<HashMap<NodeAddress, Arc<Node>>>,
    table: ArcSwap<SlotTable>,
    learn: Notify,
}

impl Fleet {
    /// Begins to connect to the servers that the options name.
    pub fn new(options: RedisLeasesOptions) -> Self {
        let connector = Connector::new(&options);
        let table = match &options.nodes[..] {
            [only] if !options.cluster => SlotTable::single(only.clone()),
            _ => SlotTable::default(),
        };
        let fleet = Self {
            connector,
            nodes: Mutex::default(),
            table: ArcSwap::from_pointee(table),
            learn: Notify::new(),
            options,
        };
        for seed in &fleet.options.nodes {
            let _known = fleet.node(seed);
        }
        fleet
    }

    /// The server at an address; `None` if there are too many.
    pub fn node(&self, address: &NodeAddress) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Some(node.clone());
        }
        if nodes.len() >= MAX_NODES {
            return None;
        }
        let node = Arc::new(Node::new(&self.connector, address.clone(), &self.options));
        nodes.insert(address.clone(), node.clone());
        Some(node)
    }

    /// The server of a slot. While nobody knows, any server: it redirects.
    pub fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let table = self.table.load();
        match table.owner(slot) {
            Some(address) => self.node(address),
            None => {
                self.learn.notify_one();
                let nodes = self.nodes.lock();
                nodes.values().find(|node| node.is_up()).or_else(|| nodes.values().next()).cloned()
            }
        }
    }

    /// The table seems wrong.
    pub fn doubt(&self) {
        if self.options.cluster {
            self.learn.notify_one();
        }
    }

    /// The named servers.
    pub fn seeds(&self) -> Vec<Arc<Node>> {
        self.options.nodes.iter().filter_map(|seed| self.node(seed)).collect()
    }

    /// The servers that own slots; empty while that is not known.
    pub fn owners(&self) -> Vec<Arc<Node>> {
        let table = self.table.load();
        let mut addresses: Vec<_> = table.owners().collect();
        addresses.sort();
        addresses.dedup();
        addresses.into_iter().filter_map(|address| self.node(address)).collect()
    }

    /// Learns the cluster's table for as long as it lives.
    pub async fn keep_learning(&self) {
        loop {
            self.learn_once().await;
            tokio::time::sleep(LEARN_PAUSE).await;
            tokio::select! {
                () = self.learn.notified() => {}
                () = tokio::time::sleep(LEARN_EVERY) => {}
            }
        }
    }

    /// Asks one server after the other who owns what, the ones that are up first.
    pub async fn learn_once(&self) {
        let mut nodes: Vec<_> = self.nodes.lock().values().cloned().collect();
        nodes.sort_by_key(|node| !node.is_up());
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        for node in nodes {
            let deadline = Instant::now() + self.options.answer_within;
            let Ok((link, live)) = node.live(deadline).await else { continue };
            match tokio::time::timeout_at(deadline, live.send(&node.address, &[], &command)).await {
                Ok(Ok(answer)) => {
                    let table = SlotTable::parse(&answer, &node.address);
                    // A node that has forgotten everything knows less than we do.
                    if let Some(table) = table.filter(|table| !table.is_empty()) {
                        self.adopt(table);
                        return;
                    }
                    tracing::warn!(node = %node.address, "a node of the lease store's cluster knows no slots");
                }
                Ok(Err(Fault::Lost(_))) | Err(_) => node.report(link, &live),
                Ok(Err(fault)) => tracing::warn!(node = %node.address, ?fault, "a node names no owners of slots"),
            }
        }
    }

    fn adopt(&self, table: SlotTable) {
        if **self.table.load() != table {
            metrics::learnt();
            tracing::info!("the owners of the lease store's slots changed");
        }
        // Dropping a node stops its connections: only those stay that are named.
        self.nodes
            .lock()
            .retain(|address, _| self.options.nodes.contains(address) || table.owners().any(|o| o == address));
        self.table.store(Arc::new(table));
        for node in self.owners() {
            tracing::trace!(node = %node.address, "owns slots");
        }
    }
}
