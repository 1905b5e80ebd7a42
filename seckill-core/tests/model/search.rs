//! Breadth-first search over every state that a configuration can reach: the shortest trace to a violation, and the
//! proof that from every state a path leads to rest.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::invariants::{broken, broken_rest, broken_step};
use super::state::{Config, Label, Steps, World};

/// States after which a run is given up: a configuration that needs more is too wide for a test.
const MOST_STATES: usize = 6_000_000;

/// What a run has found.
#[derive(Debug)]
pub struct Found {
    pub states: usize,
    pub steps: usize,
    pub rests: usize,
    pub took: Duration,
    /// What is broken, and the shortest way there.
    pub violation: Option<(String, Vec<Label>)>,
}

struct Graph {
    worlds: Vec<World>,
    cause: Vec<(u32, Label)>,
    index: HashTable<u32>,
    edges: Vec<u32>,
    first_edge: Vec<usize>,
}

fn hash(w: &World) -> u64 {
    FxBuildHasher.hash_one(w)
}

impl Graph {
    /// The state's number, and whether it is new.
    fn number(&mut self, w: World, from: u32, label: Label) -> (u32, bool) {
        let key = hash(&w);
        if let Some(known) = self.index.find(key, |i| self.worlds[*i as usize] == w) {
            return (*known, false);
        }
        let id = self.worlds.len() as u32;
        self.worlds.push(w);
        self.cause.push((from, label));
        let worlds = &self.worlds;
        self.index.insert_unique(key, id, |i| hash(&worlds[*i as usize]));
        (id, true)
    }

    fn trace(&self, mut at: u32) -> Vec<Label> {
        let mut trace = VecDeque::new();
        while at != 0 {
            let (from, label) = self.cause[at as usize];
            trace.push_front(label);
            at = from;
        }
        trace.into()
    }
}

/// Explores everything that `c` allows.
pub fn explore(c: &Config) -> Found {
    let most: usize = std::env::var("MOST_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(MOST_STATES);
    let begun = Instant::now();
    let mut start = c.start();
    c.canonical(&mut start);
    let mut g = Graph {
        worlds: Vec::new(),
        cause: Vec::new(),
        index: HashTable::new(),
        edges: Vec::new(),
        first_edge: vec![0],
    };
    g.number(start, 0, ("start", 0, 0));
    let (mut steps, mut rests, mut next) = (Steps::new(), 0, 0);
    let mut violation = broken(c, &start).map(|what| (what.to_owned(), Vec::new()));
    while violation.is_none() && next < g.worlds.len() {
        let world = g.worlds[next];
        steps.clear();
        c.steps(&world, &mut steps);
        let mut moved = false;
        for (label, mut after) in steps.drain(..) {
            c.canonical(&mut after);
            if after == world {
                continue;
            }
            moved = true;
            let (id, new) = g.number(after, next as u32, label);
            g.edges.push(id);
            let wrong = broken_step(&world, &after).or_else(|| new.then(|| broken(c, &after)).flatten());
            if let Some(what) = wrong {
                let mut trace = g.trace(next as u32);
                trace.push(label);
                violation = Some((what.to_owned(), trace));
                break;
            }
        }
        if violation.is_none() && !moved {
            rests += 1;
            violation = broken_rest(c, &world).map(|what| (what.to_owned(), g.trace(next as u32)));
        }
        g.first_edge.push(g.edges.len());
        next += 1;
        if violation.is_none() && g.worlds.len() > most {
            violation = Some((format!("not explored completely: more than {most} states"), Vec::new()));
            next = g.worlds.len();
        }
    }
    if violation.is_none() {
        violation = stuck(&g).map(|at| ("no path leads to rest from here".to_owned(), g.trace(at)));
    }
    Found { states: g.worlds.len(), steps: g.edges.len(), rests, took: begun.elapsed(), violation }
}

/// The first state from which no state of rest can be reached.
fn stuck(g: &Graph) -> Option<u32> {
    let n = g.worlds.len();
    let mut ends = vec![false; n];
    loop {
        let mut changed = false;
        for i in (0..n).rev() {
            let edges = &g.edges[g.first_edge[i]..g.first_edge[i + 1]];
            if !ends[i] && (edges.is_empty() || edges.iter().any(|e| ends[*e as usize])) {
                (ends[i], changed) = (true, true);
            }
        }
        if !changed {
            return ends.iter().position(|e| !e).map(|i| i as u32);
        }
    }
}
