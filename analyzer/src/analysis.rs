//! The analysis of one member without its edges: records and what other members say in, reports and what they must
//! know out. It does no I/O and reads no clock, so that a test can stop it between any two steps and go on from what
//! was kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use eventlog::{Record, partition_for};
use serde::{Deserialize, Serialize};
use types::{HeatReport, Invalid, PageId, Temperature, Timestamp};

use crate::board::{Board, Note, Part, Status};
use crate::engine::{Counters, FinalWindow, Ranking, Rules, bounded, by_heat, covered};
use crate::live::{HeatSnapshot, LiveHeat};
use crate::metrics;
use crate::options::{MAX_EMPTY_WINDOWS, Options, Patience};
use crate::publish::{MAX_ENTRIES, Reporter};
use crate::shard::{Kept, Shard, Took};
use crate::tables::HeatRow;
use crate::window::{Standing, Window, lines};

/// Report numbers that a takeover leaves out: above all that may have been published since the shard was kept. At five
/// reports a second this is two days.
pub const SEQUENCE_RESERVE: u64 = 1 << 20;

/// What is kept of a shard, so that whoever gets its partition goes on as if nothing had happened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptShard {
    /// The partition.
    pub partition: u32,
    /// Reports after this have a greater number.
    pub sequence: u64,
    /// Event time reached.
    pub reached: Option<Timestamp>,
    /// Pages in reports, with their temperature and since when they have it.
    pub since: Vec<(PageId, Temperature, Timestamp)>,
    /// Where to read.
    pub shard: Kept,
}

/// The analysis of one member.
#[derive(Debug)]
pub struct Analysis {
    rules: Rules,
    patience: Patience,
    // Partitions of the topic, ours and others'.
    partitions: u32,
    shards: BTreeMap<u32, Shard>,
    // Each shard's place: the end of the last window it was reported in.
    at: BTreeMap<u32, i64>,
    board: Board,
    note: Note,
    said: BTreeMap<u32, Status>,
    // Shards had nothing in windows that end here or before, or reported it.
    from: BTreeMap<u32, i64>,
    // Shards got their place since they were kept last: no window is drawn before they are kept there.
    unkept: bool,
    reporter: Reporter,
    live: Arc<LiveHeat>,
    outbox: VecDeque<HeatReport>,
    // Partitions that were read too far ahead: the record to go on from, and the second it has come to.
    parked: BTreeMap<u32, (u64, i64)>,
    // Rows of each partition were handed to queries up to this second.
    shown_to: BTreeMap<u32, i64>,
    // Newest event time, and when by the clock it was known; the latest event time ever answered.
    anchor: Option<(Timestamp, Timestamp)>,
    reached: Option<Timestamp>,
    // What shards that are not ours any more have counted.
    gone: (Counters, u64, u64),
    empty_run: u64,
    skipped: u64,
    cut: u64,
}

impl Analysis {
    /// Starts with no partition of so many; the first report is numbered above `sequence`.
    pub fn new(
        options: &Options,
        live: Arc<LiveHeat>,
        member: &str,
        partitions: u32,
        sequence: u64,
    ) -> Result<Self, Invalid> {
        let mut rules = options.rules()?;
        // Pages spread evenly: each partition has its part of the table.
        rules.max_pages = rules.max_pages.div_ceil(partitions.max(1) as usize);
        Ok(Self {
            rules,
            patience: options.patience(),
            partitions,
            shards: BTreeMap::new(),
            at: BTreeMap::new(),
            board: Board::default(),
            note: Note { member: member.to_owned(), ..Note::default() },
            said: BTreeMap::new(),
            from: BTreeMap::new(),
            unkept: false,
            reporter: Reporter::new(sequence, options.snapshot),
            live,
            outbox: VecDeque::new(),
            parked: BTreeMap::new(),
            shown_to: BTreeMap::new(),
            anchor: None,
            reached: None,
            gone: Default::default(),
            empty_run: 0,
            skipped: 0,
            cut: 0,
        })
    }

    /// A partition is ours, at `now` by the clock: as it was kept, or from `next`. Answers where to read it.
    pub fn assign(&mut self, partition: u32, kept: Option<KeptShard>, next: u64, now: Timestamp) -> u64 {
        let lateness = self.patience.lateness;
        let shard = match kept {
            Some(kept) => {
                self.reporter.go_on_above(kept.sequence.saturating_add(SEQUENCE_RESERVE));
                self.reporter.restore_since(kept.since);
                if let Some(reached) = kept.reached {
                    self.anchor_at(reached, now);
                    self.reached = self.reached.max(Some(reached));
                }
                Shard::restore(self.rules.clone(), lateness, kept.shard, now)
            }
            None => Shard::new(self.rules.clone(), lateness, next, now),
        };
        for places in [&mut self.at, &mut self.from] {
            match shard.reported_to() {
                Some(end) => places.insert(partition, end),
                None => places.remove(&partition),
            };
        }
        self.said.remove(&partition);
        let from = shard.next();
        if let Some(newest) = shard.newest() {
            self.anchor_at(newest, now);
        }
        self.shards.insert(partition, shard);
        self.parked.remove(&partition);
        // Who reads our reports does not know these pages as ours.
        self.reporter.forget_readers();
        from
    }

    /// A partition is another member's from now on; what is to be kept of it.
    pub fn revoke(&mut self, partition: u32, now: Timestamp) -> Option<KeptShard> {
        let kept = self.keep(partition, now);
        if let Some(shard) = self.shards.remove(&partition) {
            let (repeated, malformed) = shard.dropped();
            self.gone = (self.gone.0.plus(shard.engine.counters()), self.gone.1 + repeated, self.gone.2 + malformed);
        }
        self.at.remove(&partition);
        self.from.remove(&partition);
        self.parked.remove(&partition);
        self.reporter.forget_readers();
        kept
    }

    /// What is to be kept of a shard once everything in the outbox is published.
    pub fn keep(&mut self, partition: u32, now: Timestamp) -> Option<KeptShard> {
        let reached = self.event_now(now);
        let shard = self.shards.get(&partition)?;
        let mut since = self.reporter.since();
        since.retain(|(page, ..)| partition_for(page.as_str().as_bytes(), self.partitions) == partition);
        Some(KeptShard { partition, sequence: self.reporter.sequence(), reached, since, shard: shard.keep() })
    }

    /// The partitions that are ours.
    pub fn assigned(&self) -> Vec<u32> {
        self.shards.keys().copied().collect()
    }

    fn alone(&self) -> bool {
        self.shards.len() == self.partitions as usize
    }

    fn anchor_at(&mut self, event: Timestamp, now: Timestamp) {
        if self.anchor.is_none_or(|(newest, _)| event > newest) {
            self.anchor = Some((event, now));
        }
    }

    /// Takes records, in the order of their partitions, at `now` by the clock.
    pub fn take(&mut self, records: &[Record], now: Timestamp) {
        // All of them have spoken before the first is counted: none may be passed over as idle by another.
        for record in records {
            self.wake(record.partition, now);
        }
        for record in records {
            let Some(shard) = self.shards.get_mut(&record.partition) else { continue };
            if self.parked.contains_key(&record.partition) {
                // It will be read again.
                continue;
            }
            let mut took = shard.take(record);
            loop {
                let newest = self.shards.get(&record.partition).and_then(Shard::newest);
                if let Some(newest) = newest {
                    self.anchor_at(newest, now);
                }
                self.settle(now);
                let Took::Ahead(second) = took else { break };
                // What was just settled may have made room.
                let Some(shard) = self.shards.get_mut(&record.partition).filter(|s| s.engine.fits(second)) else {
                    self.parked.insert(record.partition, (record.offset, second));
                    break;
                };
                took = shard.take(record);
            }
        }
    }

    /// Takes what another member said, at `now` by the clock.
    pub fn hear(&mut self, note: &Note, now: Timestamp) {
        if note.member == self.note.member {
            return;
        }
        self.board.heard(note);
        if let Some(newest) = note.status.iter().filter_map(|status| status.newest).max() {
            self.anchor_at(newest, now);
        }
        self.settle(now);
    }

    /// What the others must know, since this was last asked.
    pub fn take_note(&mut self) -> Option<Note> {
        let fresh = Note { member: self.note.member.clone(), ..Note::default() };
        let note = std::mem::replace(&mut self.note, fresh);
        (!note.is_empty()).then_some(note)
    }

    /// Whether another member waits for what there is to say.
    pub fn is_waited_for(&self) -> bool {
        let waiting = !self.note.parts.is_empty() || !self.note.lines.is_empty();
        waiting && !self.alone()
    }

    /// Whether there is something to say.
    pub fn has_to_say(&self) -> bool {
        !self.note.is_empty()
    }

    /// It could not be said: it has to be said again.
    pub fn not_said(&mut self, mut note: Note) {
        note.status.append(&mut self.note.status);
        note.lines.append(&mut self.note.lines);
        note.parts.append(&mut self.note.parts);
        self.said.clear();
        self.note = note;
    }

    /// Partitions that waited and may go on: each with the record to seek. They are parked until
    /// [`Analysis::unpark`] says that the seek has been done.
    pub fn may_go_on(&self) -> Vec<(u32, u64)> {
        let fits = |partition: &u32, second| self.shards.get(partition).is_some_and(|s| s.engine.fits(second));
        self.parked.iter().filter(|(p, (_, second))| fits(p, *second)).map(|(p, (offset, _))| (*p, *offset)).collect()
    }

    /// A partition that waited is read on.
    pub fn unpark(&mut self, partition: u32) {
        self.parked.remove(&partition);
    }

    /// Partitions that have been silent for long, and are idle if their end is at or before this offset.
    pub fn silent(&self, now: Timestamp) -> Vec<(u32, u64)> {
        let silent = |shard: &Shard| !shard.idle && now.since(shard.heard) >= self.patience.idle;
        let shards = self.shards.iter().filter(|(p, shard)| silent(shard) && !self.parked.contains_key(p));
        shards.map(|(p, shard)| (*p, shard.next())).collect()
    }

    /// Partitions that are called idle, each with the offset up to which it has been read.
    pub fn idle(&self) -> Vec<(u32, u64)> {
        self.shards.iter().filter(|(_, shard)| shard.idle).map(|(p, shard)| (*p, shard.next())).collect()
    }

    /// Something waits to be read from this partition after all.
    pub fn wake(&mut self, partition: u32, now: Timestamp) {
        if let Some(shard) = self.shards.get_mut(&partition) {
            (shard.heard, shard.idle) = (now, false);
        }
    }

    /// Nothing waits to be read from this partition.
    pub fn mark_idle(&mut self, partition: u32) {
        if let Some(shard) = self.shards.get_mut(&partition) {
            shard.idle = !shard.is_again();
        }
    }

    /// Whether shards still read again what had been counted before.
    pub fn reads_again(&self) -> bool {
        self.shards.values().any(Shard::is_again)
    }

    fn others(&self) -> impl Iterator<Item = u32> {
        (0..self.partitions).filter(|partition| !self.shards.contains_key(partition))
    }

    // The state of every partition; `None` if one is not known.
    fn all_status(&self) -> Option<Vec<Status>> {
        let own = self.shards.iter().map(|(partition, shard)| Some(self.status(*partition, shard)));
        let others = self.others().map(|partition| self.board.status(partition).copied());
        own.chain(others).collect()
    }

    fn status(&self, partition: u32, shard: &Shard) -> Status {
        let from = self.from.get(&partition).copied();
        Status { partition, newest: shard.newest(), idle: shard.idle, first: shard.engine.first(), from }
    }

    /// The present in event time; `None` before the first event. It never goes back.
    pub fn event_now(&mut self, now: Timestamp) -> Option<Timestamp> {
        let (newest, known) = self.anchor?;
        let all_idle = self.all_status().is_some_and(|all| !all.is_empty() && all.iter().all(|s| s.idle));
        let ran = if all_idle { newest.plus(now.since(known)) } else { newest };
        self.reached = self.reached.max(Some(ran));
        self.reached
    }

    // Windows that end at or before this second are final; `None` while a partition that is not idle has not spoken.
    fn watermark(&mut self, all: &[Status], now: Timestamp) -> Option<i64> {
        let Patience { lateness, quiet, .. } = self.patience;
        if all.iter().all(|status| status.idle) {
            return Some(self.event_now(now)?.minus(lateness).minus(quiet).second());
        }
        let mut least = None;
        for status in all.iter().filter(|status| !status.idle) {
            let own = status.newest?.minus(lateness).second();
            least = Some(least.map_or(own, |l: i64| l.min(own)));
        }
        least
    }

    /// Makes every window final that all partitions have passed.
    fn settle(&mut self, now: Timestamp) {
        self.settle_again();
        let Some(all) = self.all_status() else { return };
        let Some(watermark) = self.watermark(&all, now) else { return };
        if !self.begin(&all, watermark) || self.unkept {
            return;
        }
        while let Some(place) = self.at.values().min().copied() {
            let end = place + 1;
            if end > watermark {
                return;
            }
            if self.skips(place, watermark) {
                continue;
            }
            if !self.step(end, now) {
                return;
            }
        }
    }

    // Shards that read again settle by themselves what was reported before.
    fn settle_again(&mut self) {
        let (shown_to, live) = (&mut self.shown_to, &self.live);
        for (partition, shard) in &mut self.shards {
            let Some(reported) = shard.reported_to() else { continue };
            while let Some(settled) = shard.engine.settled_to()
                && settled < reported
                && (!shard.is_again() || shard.engine.closed_to().is_some_and(|closed| closed > settled))
            {
                let rows = shard.engine.settle(settled + 1);
                show(live, shown_to, settled, vec![(*partition, rows)]);
            }
        }
    }

    // Gives shards that were never settled their place: where the first event of all lies, or where the others are.
    fn begin(&mut self, all: &[Status], watermark: i64) -> bool {
        if self.at.len() == self.shards.len() {
            return true;
        }
        let first = all.iter().filter_map(|status| status.first).min();
        let drawn = self.board.drawn_to();
        let Some(start) = self.at.values().max().copied().or(drawn).or(first) else { return false };
        if start >= watermark {
            // Something older may still come, in time.
            return false;
        }
        for (partition, shard) in self.shards.iter_mut().filter(|(partition, _)| !self.at.contains_key(partition)) {
            shard.close(start);
            let first = shard.engine.first().map_or(start, |first| first.min(start));
            shard.engine.skip_to(first);
            for second in first..start {
                let rows = shard.engine.settle(second + 1);
                show(&self.live, &mut self.shown_to, second, vec![(*partition, rows)]);
            }
            shard.reported(start);
            self.from.insert(*partition, start);
        }
        for partition in self.shards.keys() {
            self.at.entry(*partition).or_insert(start);
        }
        self.unkept = true;
        true
    }

    /// Whether all shards have to be kept before any window is drawn: a shard that got its place and is not found there
    /// by the next who holds it would have a window that nobody reported.
    pub const fn must_be_kept(&self) -> bool {
        self.unkept
    }

    /// All shards are kept, at `now` by the clock.
    pub fn kept(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.unkept) {
            self.settle(now);
        }
    }

    // In a gap of which nothing more is learnt, goes to the next second that has events.
    fn skips(&mut self, place: i64, watermark: i64) -> bool {
        if !self.alone() || self.empty_run < MAX_EMPTY_WINDOWS || self.at.values().any(|at| *at != place) {
            return false;
        }
        let next = self.shards.values().filter_map(|shard| shard.engine.next_pane()).min();
        let next = next.map_or(watermark, |next| next.min(watermark));
        if next <= place {
            return false;
        }
        self.skipped += u64::try_from(next - place).unwrap_or(0);
        for (partition, shard) in &mut self.shards {
            shard.close(next);
            shard.engine.skip_to(next);
            shard.reported(next);
            self.at.insert(*partition, next);
        }
        true
    }

    // The window that ends here, for the shards whose turn it is; false if something of it is not known yet.
    fn step(&mut self, end: i64, now: Timestamp) -> bool {
        let alone = self.alone();
        let turn: Vec<u32> =
            self.at.iter().filter(|(_, at)| **at == end - 1).map(|(partition, _)| *partition).collect();
        let behind = |shard: &Shard| shard.engine.settled_to().is_none_or(|settled| settled < end - 1);
        if turn.iter().filter_map(|partition| self.shards.get(partition)).any(behind) {
            // It has not read again what was reported before: windows are drawn over whole shards.
            return false;
        }
        let mut rows = Vec::new();
        for partition in &turn {
            let Some(shard) = self.shards.get_mut(partition) else { continue };
            if shard.engine.settled_to() != Some(end - 1) {
                continue;
            }
            shard.close(end);
            rows.push((*partition, shard.engine.settle(end)));
            if !alone {
                let window = shard.engine.final_window();
                self.note.parts.push((end, part(*partition, window)));
            }
        }
        show(&self.live, &mut self.shown_to, end - 1, rows);
        let Some(line) = self.board.line(end).or_else(|| self.draw(end)) else { return false };
        let mut hot = Vec::new();
        for partition in turn {
            if let Some(shard) = self.shards.get_mut(&partition) {
                if line.active > 0 {
                    hot.append(&mut shard.engine.hot(line.hot));
                }
                shard.reported(end);
                self.at.insert(partition, end);
            }
        }
        by_heat(&mut hot);
        self.empty_run = if line.active == 0 { self.empty_run + 1 } else { 0 };
        let window = FinalWindow { end: Timestamp::from_seconds(end), standing: line, hot };
        let (report, over) = self.reporter.settled(window, now);
        self.cut += over as u64;
        self.outbox.push_back(report);
        if let Some(done) = self.at.values().min() {
            self.board.done_to(*done);
        }
        true
    }

    // Draws the lines of the window that ends here, if every partition's histogram is known.
    fn draw(&mut self, end: i64) -> Option<Standing> {
        if self.shards.values().any(|shard| shard.engine.settled_to() != Some(end)) {
            return None;
        }
        let others: Vec<_> = self.others().map(|partition| self.board.part(end, partition)).collect::<Option<_>>()?;
        let others: Vec<_> = others.into_iter().flatten().map(crate::board::Piece::as_counts).collect();
        let windows = self.shards.values_mut().map(|shard| shard.engine.final_window());
        let line = lines(windows, &others, self.rules.floors()[0]);
        self.board.draw(end, line);
        self.note.lines.push((end, line));
        Some(line)
    }

    /// One tick at `now` by the clock: windows that are final, then the provisional standing.
    pub fn tick(&mut self, now: Timestamp) {
        self.settle(now);
        self.say_status();
        let Some(event_now) = self.event_now(now) else { return };
        // Half a shard would look like a page that has cooled.
        if self.shards.is_empty() || self.reads_again() {
            return;
        }
        let standing = self.lines_now(event_now);
        if !self.alone() {
            for (partition, shard) in &mut self.shards {
                let (long, short) = shard.engine.live_windows();
                self.note.live.push((part(*partition, long), part(*partition, short)));
            }
        }
        let (leasts, cut) = bounded(self.shards.values().map(|shard| &shard.engine), standing, MAX_ENTRIES);
        let mut pages = Vec::new();
        let (mut events, mut head) = (0, event_now.second());
        for shard in self.shards.values_mut() {
            pages.append(&mut shard.engine.rank(event_now, leasts));
            events += shard.engine.burst_events();
            head = shard.engine.head().unwrap_or(head);
        }
        pages.sort_by(|a, b| b.count60.cmp(&a.count60).then_with(|| a.page.cmp(&b.page)));
        let events_per_s = events as f64 / covered(event_now, head);
        let ranking = Ranking { standing: standing[0], burst: standing[1], pages, cut, events_per_s };
        let shards = &self.shards;
        let counts = |page: &str| {
            let own = shards.get(&partition_for(page.as_bytes(), self.partitions));
            let found = own.and_then(|shard| shard.engine.counts(page));
            // A log that was partitioned in another way.
            found.or_else(|| shards.values().find_map(|shard| shard.engine.counts(page)))
        };
        let place = (self.at.values().min().map(|at| Timestamp::from_seconds(*at)), self.counters());
        let (report, snapshot) = self.reporter.provisional(&ranking, counts, place, event_now, now);
        self.cut += ranking.cut;
        self.outbox.push_back(report);
        self.show(&snapshot);
        self.live.publish(snapshot);
    }

    /// The lines of the window and of the short one at event time `now`.
    pub fn lines_now(&mut self, now: Timestamp) -> [Standing; 2] {
        let known: Vec<_> = self.others().filter_map(|partition| self.board.live(partition)).collect();
        let (long, short): (Vec<_>, Vec<_>) = known.into_iter().map(|(l, s)| (l.as_counts(), s.as_counts())).unzip();
        let (mut live, mut burst) = (Vec::new(), Vec::new());
        for shard in self.shards.values_mut() {
            shard.engine.advance(now.second());
            let (l, b) = shard.engine.live_windows();
            live.push(l);
            burst.push(b);
        }
        let [floors, burst_floors] = self.rules.floors();
        [lines(live.into_iter(), &long, floors), lines(burst.into_iter(), &short, burst_floors)]
    }

    fn say_status(&mut self) {
        if self.alone() {
            return;
        }
        let all: Vec<Status> = self.shards.iter().map(|(partition, shard)| self.status(*partition, shard)).collect();
        for status in all {
            if self.said.insert(status.partition, status) != Some(status) {
                self.note.status.push(status);
            }
        }
    }

    /// Counters of all shards that are or were ours.
    pub fn counters(&self) -> Counters {
        self.shards.values().fold(self.gone.0, |sum, shard| sum.plus(shard.engine.counters()))
    }
    /// Events dropped as repeated, records that could not be read.
    pub fn dropped(&self) -> (u64, u64) {
        let add = |sum: (u64, u64), shard: &Shard| (sum.0 + shard.dropped().0, sum.1 + shard.dropped().1);
        self.shards.values().fold((self.gone.1, self.gone.2), add)
    }

    fn show(&self, snapshot: &HeatSnapshot) {
        let (repeated, malformed) = self.dropped();
        let rebuilds = self.shards.values().map(|shard| shard.engine.rebuilds()).sum();
        metrics::totals(&snapshot.counters, repeated, malformed, rebuilds);
        ::metrics::counter!(metrics::SKIPPED).absolute(self.skipped);
        metrics::set(metrics::PAGES, self.shards.values().map(|shard| shard.engine.known_pages()).sum());
        metrics::set(metrics::PARKED, self.parked.len());
        metrics::set(metrics::SHARDS, self.shards.len());
        metrics::set(metrics::ROWS, self.live.rows());
        ::metrics::gauge!(metrics::ACTIVE).set(snapshot.active as f64);
        ::metrics::counter!(metrics::CUT).absolute(self.cut);
        if let Some(final_to) = snapshot.final_to {
            ::metrics::gauge!(metrics::FINAL_LAG).set(snapshot.window_end.since(final_to).as_secs_f64());
        }
    }

    /// The key of this member's reports: its lowest partition, which no other member has.
    pub fn key(&self) -> u32 {
        self.shards.keys().next().copied().unwrap_or(0)
    }
    /// Reports to be published, oldest first; taken from the front once they are.
    pub const fn outbox(&self) -> &VecDeque<HeatReport> {
        &self.outbox
    }
    /// The first `n` reports of the outbox are published.
    pub fn published(&mut self, n: usize) {
        self.outbox.drain(..n.min(self.outbox.len()));
    }
    /// Publishing failed: what readers missed must be said again, and provisional reports that wait are
    /// dropped, because the next tick makes a newer one.
    pub fn not_published(&mut self) {
        self.outbox.retain(|report| report.is_final);
        self.reporter.forget_readers();
    }
    /// The number of the next report.
    pub const fn sequence(&self) -> u64 {
        self.reporter.sequence()
    }
}

fn part(partition: u32, window: &Window) -> Part {
    Part { partition, counts: window.histogram().pairs(), total: window.total() }
}

// Hands the rows of a second to queries, but for those of shards of which that was done before: by this process, which
// lost them and got them back.
fn show(live: &LiveHeat, shown_to: &mut BTreeMap<u32, i64>, second: i64, parts: Vec<(u32, Vec<HeatRow>)>) {
    let mut all = Vec::new();
    let mut several = false;
    for (partition, mut rows) in parts {
        if shown_to.get(&partition).is_none_or(|shown| second > *shown) {
            shown_to.insert(partition, second);
            several |= !all.is_empty();
            all.append(&mut rows);
        }
    }
    if several {
        all.sort_by(|a: &HeatRow, b| a.page.cmp(&b.page).then(a.kind.cmp(&b.kind)));
    }
    if !all.is_empty() {
        live.join(second, all);
    }
}
