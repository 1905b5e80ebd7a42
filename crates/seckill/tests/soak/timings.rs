//! How long shoppers felt a move or a death: computed afterwards from their own journals. Pure.

use audit::journal::{Entry, Told};

/// How far around a move a silence counts as its own, in milliseconds.
const BEFORE: i64 = 500;
const BEHIND: i64 = 1_000;
/// Moves so near to a death are left out: their silence is that of the death, in milliseconds.
const NEAR_A_DEATH: i64 = 2_500;

/// Moments at which a purchase call was served (an order or a ticket), in milliseconds since the epoch, by time.
pub fn served(entries: &[Entry]) -> Vec<i64> {
    let served = entries.iter().filter(|e| !e.bound && matches!(e.outcome, Told::Accepted | Told::Queued));
    let mut all: Vec<i64> = served.map(|e| e.t).collect();
    all.sort_unstable();
    all
}

/// The longest time without a served call around each move that happened while the product sold and nobody had died.
pub fn pauses(served: &[i64], moves: &[i64], deaths: &[i64]) -> Vec<i64> {
    let quiet = |at: i64| deaths.iter().all(|death| !(-BEHIND..NEAR_A_DEATH).contains(&(at - death)));
    let longest = |at: &i64| {
        let from = served.partition_point(|t| *t < at - BEFORE);
        let to = served.partition_point(|t| *t <= at + BEHIND);
        let around = served.get(from.saturating_sub(1)..=to)?;
        around.windows(2).map(|pair| pair[1] - pair[0]).max()
    };
    moves.iter().filter(|at| quiet(**at)).filter_map(longest).collect()
}

/// From each death to the next served call, while the product sold.
pub fn recoveries(served: &[i64], deaths: &[i64]) -> Vec<i64> {
    // Answers on their way when the blow fell may still arrive.
    const LAST_WORDS: i64 = 50;
    let next = |death: &i64| served.get(served.partition_point(|t| *t <= death + LAST_WORDS)).map(|t| t - death);
    deaths.iter().filter_map(next).collect()
}

/// `p50 / p99 / longest`, in milliseconds; `-` of nothing.
pub fn spread(mut values: Vec<i64>) -> String {
    values.sort_unstable();
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).saturating_sub(1)];
    match values.len() {
        0 => "-".to_owned(),
        n => format!("{} / {} / {} ms of {n}", at(50), at(99), values[n - 1]),
    }
}

#[test]
fn the_longest_silence_around_a_move_is_its_pause() {
    let served = [0, 100, 200, 450, 500, 600, 3_000, 3_100, 9_000, 9_010, 30_000];
    assert_eq!(pauses(&served, &[300], &[]), [2_400], "the silence that begins within a second of it");
    assert_eq!(pauses(&served, &[9_005], &[9_000]), Vec::<i64>::new());
    assert_eq!(pauses(&served, &[40_000], &[]), Vec::<i64>::new(), "nothing was sold any more");
    assert_eq!(recoveries(&served, &[610, 3_090]), [2_390, 5_910]);
    assert_eq!(spread(vec![5, 1, 3]), "3 / 5 / 5 ms of 3");
}
