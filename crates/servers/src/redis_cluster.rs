//! Redis Cluster as children: three masters without replicas, the slots shared out as `redis-cli --cluster create`
//! does it.

use std::path::Path;
use std::time::Duration;

use crate::process::until;
use crate::{Port, Redis, ServerError};

/// Hash slots of a Redis Cluster; its protocol fixes them.
const SLOTS: u32 = 16_384;
/// Masters: the smallest cluster that has a majority without one of them.
const NODES: u32 = 3;
/// How long the nodes may take to agree.
const AGREED: Duration = Duration::from_secs(60);

/// A running cluster. Without a node its slots cannot be had; the others go on.
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// The nodes talk to each other on these.
    _bus: Vec<Port>,
}

impl RedisCluster {
    /// Starts three nodes, each in a directory below this one, and waits until they agree on the slots.
    pub fn start(dir: &Path) -> Result<Self, ServerError> {
        let bus = (0..NODES).map(|_| Port::reserve()).collect::<Result<Vec<_>, _>>()?;
        let start = |(i, bus): (usize, &Port)| {
            let cluster_port = format!("cluster-port {}", bus.number());
            let lines = [
                "cluster-enabled yes",
                "cluster-config-file nodes.conf",
                "cluster-node-timeout 2000",
                "cluster-require-full-coverage no",
                &cluster_port,
            ];
            Redis::start_with(&dir.join(format!("node{i}")), &lines)
        };
        let nodes = bus.iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        let cluster = Self { nodes, _bus: bus };
        cluster.form()?;
        cluster.agreed()?;
        Ok(cluster)
    }

    fn form(&self) -> Result<(), ServerError> {
        for (i, node) in (0_u32..).zip(&self.nodes) {
            let (from, to) = (SLOTS * i / NODES, SLOTS * (i + 1) / NODES - 1);
            node.ask(&format!("CLUSTER ADDSLOTSRANGE {from} {to}"))?;
            node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1))?;
        }
        let first = &self.nodes[0];
        for (node, bus) in self.nodes.iter().zip(&self._bus).skip(1) {
            first.ask(&format!("CLUSTER MEET 127.0.0.1 {} {}", node.port(), bus.number()))?;
        }
        Ok(())
    }

    /// Waits until every node sees every slot served by a node that it believes to be well.
    fn agreed(&self) -> Result<(), ServerError> {
        let well = |node: &Redis| {
            let info = node.ask("CLUSTER INFO").unwrap_or_default();
            ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"].iter().all(|s| info.contains(s))
        };
        if until(AGREED, || self.nodes.iter().all(well)) {
            return Ok(());
        }
        let tail = self.nodes.iter().map(Redis::log).collect::<Vec<_>>().join("\n--\n");
        Err(ServerError::Silent { server: "Redis Cluster", waited: AGREED, tail })
    }

    /// The nodes; node `i` has the `i`th third of the slots.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Which node has the slot of this key (its hash tag counts; a key without spaces).
    pub fn node_of(&self, key: &str) -> Result<usize, ServerError> {
        let said = self.nodes.iter().find_map(|node| node.ask(&format!("CLUSTER KEYSLOT {key}")).ok());
        let slot = said.and_then(|slot| slot.parse::<u32>().ok()).ok_or_else(|| ServerError::Tool {
            tool: "CLUSTER KEYSLOT".to_owned(),
            output: "no node answers".to_owned(),
        })?;
        // The last slot of node i is 16384 (i + 1) / 3 - 1, rounded down.
        Ok((0..NODES).take_while(|i| SLOTS * (i + 1) / NODES - 1 < slot).count())
    }

    /// The addresses of all nodes, as `redis://127.0.0.1:PORT/`.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// One node, to be paused, resumed or killed.
    pub fn node_mut(&mut self, node: usize) -> &mut Redis {
        &mut self.nodes[node]
    }

    /// `kill -9` of one node.
    pub fn kill_node(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts the node again on its data and waits until all nodes agree again.
    pub fn restart_node(&mut self, node: usize) -> Result<(), ServerError> {
        self.nodes[node].restart()?;
        self.agreed()
    }
}
