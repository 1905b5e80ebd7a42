//! Following a log through all that happens to logs: half lines, rotation, truncation, restarts.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::sync::Arc;

use collector::{DeadReason, Error, LINGER, MAX_DEAD_BYTES, StoreError};
use common::{Shop, expected, line, lines, until};
use types::{ManualClock, Timestamp};

#[tokio::test]
async fn what_is_appended_is_counted_and_half_a_line_waits_for_its_end() {
    let shop = Shop::new();
    let running = shop.start().await;
    shop.append("access.log", &lines(0..100));
    until("100 lines are counted", || running.handle.accounting().events == 100).await;

    let last = line(100 % 7, 100);
    let (half, rest) = last.split_at(50);
    shop.append("access.log", half);
    until("the half line was read", || running.handle.caught_up()).await;
    assert_eq!(running.handle.accounting().lines, 100, "half a line is no line");
    let file = &running.handle.files()[0];
    assert_eq!(file.read, file.position + 50);

    shop.append("access.log", &format!("{rest}\r\n"));
    until("the whole line is counted", || running.handle.accounting().events == 101).await;
    assert!(running.handle.accounting().adds_up());
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..101), 0));
}

#[tokio::test]
async fn a_log_is_followed_from_its_end_unless_told_otherwise() {
    let mut shop = Shop::new();
    shop.options.from_start = false;
    shop.append("access.log", &lines(0..50));
    // The writer is in the middle of line 50: that line is whole or it is nothing.
    let being_written = line(1, 50);
    let (half, rest) = being_written.split_at(30);
    shop.append("access.log", half);
    let running = shop.start().await;
    until("nothing is left to read", || running.handle.caught_up()).await;
    shop.append("access.log", &format!("{rest}\n{}", lines(51..60)));
    until("the new lines are counted", || running.handle.accounting().lines == 10).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(50..60), 0));

    // Stopped, written on, started again: it goes on where it was.
    shop.append("access.log", &lines(60..70));
    let running = shop.start().await;
    until("the rest is counted", || running.handle.accounting().lines == 20).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(50..70), 0));
}

#[tokio::test]
async fn rotation_by_rename_finishes_the_old_file_before_the_new() {
    let shop = Shop::new();
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_794_355_260)));
    shop.append("access.log", &lines(0..10));
    let running = shop.start_with(Arc::new(shop.log.clone()), clock.clone()).await;
    until("the old file is read", || running.handle.accounting().lines == 10).await;

    shop.rename("access.log", "access.log.1");
    // The writer has not been told yet, and when it is told it leaves half a line behind.
    shop.append("access.log.1", &lines(10..20));
    until("the moved file is still followed", || running.handle.accounting().lines == 20).await;
    shop.append("access.log", &lines(20..30));
    until("the new file is read", || running.handle.accounting().lines == 30).await;
    shop.append("access.log.1", &lines(30..35));
    shop.append("access.log.1", line(0, 35).as_str());
    until("stragglers are read", || running.handle.accounting().lines == 35).await;
    assert_eq!(running.handle.files()[0].rotated, 1);
    clock.advance(LINGER);
    until("the last line counts without its end", || running.handle.accounting().lines == 36).await;
    until("the old file is done with", || running.handle.caught_up()).await;
    assert!(running.handle.accounting().adds_up());
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..36), 0));
}

#[tokio::test]
async fn truncation_begins_again_and_a_copy_gives_up_what_was_not_read() {
    let shop = Shop::new();
    shop.append("access.log", &lines(0..10));
    let running = shop.start().await;
    until("ten lines are counted", || running.handle.accounting().lines == 10).await;
    running.stop().await;

    // While nobody looked: more lines, then copytruncate, then a new beginning that is longer than before.
    shop.append("access.log", &lines(10..20));
    fs::copy(shop.path("access.log"), shop.path("access.log.1")).unwrap();
    File::options().write(true).open(shop.path("access.log")).unwrap().set_len(0).unwrap();
    shop.append("access.log", &lines(20..60));
    let running = shop.start().await;
    until("copy and new file are counted", || running.handle.accounting().lines == 60).await;

    // While it runs, without a copy: the half line that was read is still a line, a dead one.
    shop.append("access.log", "half a li");
    until("the half line was read", || running.handle.files()[0].read > running.handle.files()[0].position).await;
    File::options().write(true).open(shop.path("access.log")).unwrap().set_len(0).unwrap();
    shop.append("access.log", &lines(60..65));
    until("the new generation is counted", || running.handle.accounting().lines == 66).await;
    let books = running.handle.accounting();
    assert!(books.adds_up());
    assert_eq!(books.dead[&DeadReason::MissingField], 1);
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..65), 0));
}

#[tokio::test]
async fn rotations_during_an_outage_lose_nothing() {
    let shop = Shop::new();
    shop.append("access.log", &lines(0..10));
    let running = shop.start().await;
    until("ten lines are counted", || running.handle.accounting().lines == 10).await;
    running.stop().await;

    shop.append("access.log", &lines(10..15));
    shop.rename("access.log", "access.log.2");
    shop.append("access.log.1", &lines(15..25));
    fs::write(shop.path("access.log.3.gz"), "not a log").unwrap();
    shop.append("access.log", &lines(25..30));
    let running = shop.start().await;
    until("all three files are counted", || running.handle.accounting().lines == 30).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..30), 0));

    // And a start with everything read adds nothing.
    let running = shop.start().await;
    until("nothing is left to read", || running.handle.files()[0].position > 0 && running.handle.behind_bytes() == 0)
        .await;
    assert_eq!(running.handle.accounting().lines, 30);
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..30), 0));
}

#[tokio::test]
async fn bad_lines_are_kept_with_their_bytes_and_published_without() {
    let shop = Shop::new();
    let long = "x".repeat(3 << 20);
    shop.append("access.log", &format!("{}\n\nbroken\n{long}\n{}\n", line(1, 1), line(2, 2)));
    let running = shop.start().await;
    until("five lines are counted", || running.handle.accounting().lines == 5).await;
    let books = running.handle.accounting();
    assert_eq!((books.events, books.dead_total(), books.adds_up()), (2, 3, true));
    let kept = running.handle.dead_letters(10).await.unwrap();
    assert_eq!(
        kept.iter().map(|d| (d.reason, d.bytes.len())).collect::<Vec<_>>(),
        [(DeadReason::TooLong, MAX_DEAD_BYTES), (DeadReason::MissingField, 6), (DeadReason::Empty, 0)]
    );
    let source = running.handle.files()[0].source.clone().unwrap();
    running.stop().await;
    let first = line(1, 1).len() as u64 + 1;
    let mut published = Vec::new();
    for batch in shop.dead().await {
        assert_eq!(batch.source, source);
        published.extend(batch.letters.into_iter().map(|letter| (letter.offset, letter.reason)));
    }
    assert_eq!(
        published,
        [(first, "empty".to_owned()), (first + 1, "missing_field".to_owned()), (first + 8, "too_long".to_owned())]
    );
}

#[tokio::test]
async fn more_dead_letters_than_are_kept_are_dropped_and_counted() {
    let shop = Shop::new();
    let dead = collector::MAX_DEAD_LETTERS + 500;
    shop.append("access.log", &"\n".repeat(dead as usize));
    let running = shop.start().await;
    until("all are counted", || running.handle.accounting().lines == dead).await;
    let books = running.handle.accounting();
    assert_eq!((books.dead[&DeadReason::Empty], books.dead_letters_dropped), (dead, 500));
    let kept = running.handle.dead_letters(u32::MAX).await.unwrap();
    assert_eq!((kept.len() as u64, kept[0].offset), (collector::MAX_DEAD_LETTERS, dead - 1));
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_comes_later_and_a_folder_in_its_place_are_waited_out() {
    let shop = Shop::new();
    fs::create_dir(shop.path("access.log")).unwrap();
    let running = shop.start().await;
    until("the trouble is shown", || running.handle.files()[0].trouble.is_some()).await;
    assert!(!running.handle.caught_up());
    fs::remove_dir(shop.path("access.log")).unwrap();
    shop.append("access.log", &lines(0..5));
    until("the log is read", || running.handle.accounting().lines == 5).await;
    until("the trouble is over", || running.handle.files()[0].trouble.is_none()).await;
    running.stop().await;
}

#[tokio::test]
async fn two_collectors_never_share_a_folder_and_no_collector_starts_without_its_key() {
    let mut shop = Shop::new();
    let running = shop.start().await;
    let new = |shop: &Shop| {
        let (options, log) = (shop.options.clone(), Arc::new(shop.log.clone()));
        async move { collector::Collector::new(options, log, Arc::new(types::SystemClock::new())).await.err() }
    };
    assert!(matches!(new(&shop).await, Some(Error::Store(StoreError::InUse(_)))));
    running.stop().await;
    shop.options.visitor_key = "".into();
    assert!(matches!(new(&shop).await, Some(Error::Options(e)) if e.what == "visitor_key"));
    shop.options.visitor_key = "a key that only this test knows".into();
    shop.options.partitions = 5;
    assert!(matches!(new(&shop).await, Some(Error::Log(eventlog::EventLogError::Partitions { .. }))));
}
