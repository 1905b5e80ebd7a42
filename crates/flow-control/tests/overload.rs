//! Overload in virtual time: a server of eight workers and an unbounded line before them, an open loop of arrivals that
//! does not wait for answers, and people who have left after 100 ms. With the adaptive limiter goodput stays, without it
//! it is gone. The seed is printed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use flow_control::{Entry, FlowControl, Nanos, Options, Pass, Priority, Verdict};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 20_261_130;
const WORKERS: usize = 8;
/// Mean of an exponential service time. Eight workers: 2,000 a second.
const SERVICE: f64 = 0.004;
const PEAK: f64 = WORKERS as f64 / SERVICE;
/// An answer later than this finds nobody.
const PATIENCE: u64 = 100_000_000;

#[derive(Debug, Default)]
struct Seen {
    in_time: u64,
    late: u64,
    refused: u64,
    high_refused: u64,
    times: Vec<u64>,
    most_inside: u64,
}

impl Seen {
    fn p99(&mut self) -> f64 {
        self.times.sort_unstable();
        self.times[self.times.len() * 99 / 100] as f64 / 1e6
    }
}

/// One second after another at these multiples of the peak; what was seen in each.
fn run(multiples: &[f64], limited: bool) -> Vec<Seen> {
    eprintln!("seed {SEED}");
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let options = Options { adaptive: limited.then(Default::default), ..Options::default() };
    let control = FlowControl::new(options);
    let resource = control.inbound("purchase").expect("room");
    let mut seen: Vec<Seen> = multiples.iter().map(|_| Seen::default()).collect();
    let mut line: VecDeque<(u64, Pass)> = VecDeque::new();
    let mut busy: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
    let mut working: std::collections::HashMap<u64, (u64, Pass)> = std::collections::HashMap::new();
    let (mut now, mut number) = (0_u64, 0_u64);
    let exponential = |random: &mut ChaCha8Rng, mean: f64| (-(1.0 - random.random::<f64>()).ln() * mean * 1e9) as u64;
    let end = multiples.len() as u64 * 1_000_000_000;
    while now < end {
        let second = (now / 1_000_000_000) as usize;
        let arrival = now + exponential(&mut random, 1.0 / (PEAK * multiples[second])).max(1);
        // Whoever is done before the next arrival is done first, and the next in line begins.
        while let Some(Reverse((done, who))) = busy.peek().copied().filter(|it| it.0.0 <= arrival) {
            busy.pop();
            let (asked, pass) = working.remove(&who).expect("at work");
            pass.done(Nanos::new(done), true);
            let of = &mut seen[((done / 1_000_000_000) as usize).min(multiples.len() - 1)];
            of.times.push(done - asked);
            if done - asked <= PATIENCE {
                of.in_time += 1
            } else {
                of.late += 1
            }
            if let Some((asked, pass)) = line.pop_front() {
                busy.push(Reverse((done + exponential(&mut random, SERVICE), number)));
                working.insert(number, (asked, pass));
                number += 1;
            }
        }
        now = arrival;
        let of = &mut seen[((now / 1_000_000_000) as usize).min(multiples.len() - 1)];
        let high = random.random_ratio(1, 50);
        let priority = if high { Priority::High } else { Priority::Normal };
        match resource.enter(&Entry { priority, ..Entry::default() }, Nanos::new(now)) {
            Verdict::Pass(pass) if working.len() < WORKERS => {
                busy.push(Reverse((now + exponential(&mut random, SERVICE), number)));
                working.insert(number, (now, pass));
                number += 1;
            }
            Verdict::Pass(pass) => line.push_back((now, pass)),
            Verdict::Wait(..) => unreachable!("no rule paces"),
            Verdict::Block(_) => {
                of.refused += 1;
                of.high_refused += u64::from(high);
            }
        }
        of.most_inside = of.most_inside.max((working.len() + line.len()) as u64);
    }
    seen
}

fn goodput(seen: &[Seen]) -> f64 {
    seen.iter().map(|second| second.in_time).sum::<u64>() as f64 / seen.len() as f64
}

#[test]
fn goodput_stays_at_ten_times_the_peak() {
    // Ten seconds to learn at the peak, ten of ten times as much, ten of half of it.
    let multiples: Vec<f64> = [1.0, 10.0, 0.5].iter().flat_map(|m| std::iter::repeat_n(*m, 10)).collect();
    let mut seen = run(&multiples, true);
    let (at_peak, over) = (goodput(&seen[3..10]), goodput(&seen[12..20]));
    let p99_peak = seen[3..10].iter_mut().map(Seen::p99).fold(0.0, f64::max);
    let p99_over = seen[12..20].iter_mut().map(Seen::p99).fold(0.0, f64::max);
    eprintln!("goodput {at_peak:.0}/s at the peak, {over:.0}/s at ten times; p99 {p99_peak:.1} and {p99_over:.1} ms");
    assert!(over >= 0.9 * at_peak, "{over} of {at_peak}");
    assert!(p99_over <= 2.0 * p99_peak, "{p99_over} against {p99_peak} ms");
    assert!(seen[12..20].iter().all(|second| second.late == 0), "whoever is let in is served in time");
    // What was refused under overload is let in again at once when it is over.
    let refused: u64 = seen[21..25].iter().map(|second| second.refused).sum();
    let served: u64 = seen[21..25].iter().map(|second| second.in_time).sum();
    assert!(refused * 50 < served, "five seconds after it: {refused} refused beside {served}");
}

#[test]
fn without_the_limiter_goodput_is_gone() {
    let mut seen = run(&[1.0, 10.0, 10.0, 10.0, 10.0, 0.5, 0.5], false);
    assert!(goodput(&seen[2..5]) < 0.1 * PEAK, "{:?}", seen.iter().map(|s| s.in_time).collect::<Vec<_>>());
    assert!(seen[6].p99() > 1_000.0, "and the line is there long after");
}

#[test]
fn begun_work_goes_first() {
    let seen = run(&[1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0], true);
    let refused: u64 = seen[4..].iter().map(|second| second.refused - second.high_refused).sum();
    let high: u64 = seen[4..].iter().map(|second| second.high_refused).sum();
    let arrived: f64 = 3.0 * PEAK * 5.0;
    let (normal_share, high_share) = (refused as f64 / (arrived * 0.98), high as f64 / (arrived * 0.02));
    eprintln!("refused: {:.1} % of new work, {:.1} % of begun work", normal_share * 100.0, high_share * 100.0);
    assert!(normal_share > 0.7 && high_share < 0.2, "{normal_share} and {high_share}");
}
