//! What a run's world consists of, in a few bytes, and what a configuration allows to happen in it. No behaviour but
//! that of a queue.

use types::Tier;

use super::books::{BUYERS, Books, KEYS};
use super::mutant::Mutant;

/// Most client calls, records per topic and attempts in a core's memory.
pub const CALLS: usize = 4;
pub const LOG: usize = 5;
pub const WAITING: usize = 2;

/// What lies in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    #[default]
    None,
    Grant,
    Barrier,
    Queued,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Record {
    pub kind: Kind,
    pub key: u8,
    pub lease: u8,
    pub seq: u8,
    pub quantity: u8,
    /// Under a new key: a mutant's doing.
    pub renamed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Log {
    pub records: [Record; LOG],
    pub len: u8,
    /// The front record is decided and waits to be submitted again.
    pub again: bool,
}

impl Log {
    pub fn front(&self) -> Option<Record> {
        (self.len > 0).then(|| self.records[0])
    }
    pub fn pop(&mut self) {
        self.records.copy_within(1.., 0);
        self.len -= 1;
        self.records[self.len as usize..].fill(Record::default());
        self.again = false;
    }
    /// Whether it fitted.
    pub fn push(&mut self, record: Record) -> bool {
        let fits = (self.len as usize) < LOG;
        if fits {
            self.records[self.len as usize] = record;
            self.len += 1;
        }
        fits
    }
    pub fn put_back(&mut self, record: Record) -> bool {
        let fits = (self.len as usize) < LOG;
        if fits {
            self.records.copy_within(..LOG - 1, 1);
            self.records[0] = record;
            self.len += 1;
        }
        fits
    }
    pub fn lose_tail(&mut self) {
        self.len -= 1;
        self.records[self.len as usize] = Record::default();
        self.again &= self.len > 0;
    }
    pub fn holds(&self, kind: Kind) -> bool {
        self.records.iter().any(|r| r.kind == kind)
    }
    pub fn units(&self) -> u8 {
        self.records.iter().map(|r| r.quantity).sum()
    }
}

/// What the lease store has of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Redis {
    pub on: bool,
    pub lease: u8,
    pub epoch: u8,
    pub cap: u8,
    pub taken: u8,
    pub next: u8,
    pub closed: bool,
    /// Grant number plus one, and quantity.
    pub grants: [(u8, u8); KEYS],
    pub held: [u8; BUYERS],
}

impl Redis {
    pub fn left(&self) -> u8 {
        self.cap.saturating_sub(self.taken)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Call {
    /// Not made yet, or its answer was lost: the client makes it (again) under the same key.
    #[default]
    Open,
    /// Granted; the record is not appended yet.
    Granted { lease: u8, seq: u8 },
    /// A mutant has read what it needs and writes later: free, leased, reserved, held.
    Read([u8; 4]),
    /// Answered.
    Done,
}

/// How often what may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Luck {
    pub moves: u8,
    pub replaces: u8,
    pub resets: u8,
    pub crashes: u8,
    pub zombies: u8,
    pub losses: u8,
    /// Of broken top-ups; sound ones end by themselves.
    pub top_ups: u8,
    pub adjusts: u8,
    pub slow_steps: u8,
    /// A mutant's own trick, once.
    pub trick: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub b: Books,
    pub calls: [Call; CALLS],
    /// One bit per key: somebody holds a ticket.
    pub tickets: u8,
    /// What owners of the key were told as final: 1 accepted, 2 refused.
    pub told: [u8; KEYS],
    /// 0 before the deadline, 1 past it, 2 past deadline and skew.
    pub clock: [u8; KEYS],
    pub redis: Redis,
    pub snapshot: Redis,
    pub grants: Log,
    pub queue: Log,
    /// Polled by a consumer that is paused meanwhile.
    pub zombie: Record,
    pub waiting: [Record; WAITING],
    /// A step that a slow core has decided and not taken yet.
    pub slow: Option<Slow>,
    /// A load whose mover has won `MarkLoaded`: lease and units.
    pub load: Option<(u8, u8)>,
    /// A top-up that SQL has and Redis may not have.
    pub top_up: Option<TopUp>,
    pub condemned: Option<u8>,
    /// What the total must be by the adjustments that were asked for.
    pub expected: u8,
    pub captured: [u8; KEYS],
    pub applied: [u8; KEYS],
    pub luck: Luck,
    /// The lease store has come back with old data.
    pub lied: bool,
    pub wrong: Option<&'static str>,
}

/// A top-up between its halves: what the lease was lent in all, and what of that is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopUp {
    pub lease: u8,
    pub granted: u8,
    pub units: u8,
}

/// A move's step, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slow {
    Switch { epoch: u8, target: Tier },
    Lend { epoch: u8, keep: u8 },
    Mark { lease: u8 },
    Fence { epoch: u8, target: Tier },
    Settle { lease: u8 },
    Open { epoch: u8 },
    TopUp { lease: u8, keep: u8 },
}

/// What may happen in a run, and how much of it.
#[derive(Debug, Clone)]
pub struct Config {
    pub name: &'static str,
    pub total: u8,
    pub limit: u8,
    /// Key and quantity of each client call; calls under one key are retries.
    pub calls: Vec<(u8, u8)>,
    /// Whose each key is.
    pub buyers: Vec<u8>,
    pub start: Tier,
    pub tiers: Vec<Tier>,
    pub luck: Luck,
    /// The lease store may come back with old data.
    pub stale: bool,
    pub deadlines: bool,
    /// Clocks differ by up to the skew.
    pub skew: bool,
    pub told: bool,
    pub barrier: bool,
    pub expiry: bool,
    pub cancel: bool,
    pub payments: u8,
    pub refunds: bool,
    pub mutant: Mutant,
}

/// A step's name and its two most telling numbers.
pub type Label = (&'static str, u8, u8);
pub type Steps = Vec<(Label, World)>;
