//! Bots by behaviour: who opens pages faster than people do is left out, by the log's own time, whichever way the lines
//! come; people behind one address and whoever tries to buy are not.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::sync::Arc;

use collector::{ClassifierOptions, Decoder, Fate, FilterReason, Reader};
use common::{Shop, until};

fn line(second: u64, method: &str, path: &str, visitor: &str) -> String {
    format!(
        r#"{{"time":"2026-11-11T00:{:02}:{:02}.000Z","remote_addr":"10.0.0.1","method":"{method}","uri":"{path}","status":200,"visitor":"{visitor}","user_agent":"Firefox"}}"#,
        second / 60,
        second % 60
    ) + "\n"
}

/// A minute in which a robot opens 30 pages a second and tries to buy, and 300 people behind its address open one each.
fn minute() -> String {
    let mut log = String::new();
    for second in 0..60 {
        for page in 0..30 {
            log += &line(second, "GET", &format!("/product/{page}"), "robot");
        }
        log += &line(second, "POST", "/v1/sales/eleven/products/7/purchases", "robot");
        for person in 0..5 {
            log += &line(second, "GET", "/product/7", &format!("person {}", second * 5 + person));
        }
    }
    log
}

#[tokio::test]
async fn a_robots_views_are_left_out_and_its_attempts_and_its_neighbours_are_not() {
    let shop = Shop::new();
    shop.append("access.log", &minute());
    let running = shop.start().await;
    until("the log is read", || running.handle.accounting().lines == 60 * 36).await;
    let books = running.handle.accounting();
    running.stop().await;
    assert!(books.adds_up());
    assert_eq!(books.filtered[&FilterReason::BotRate], 60 * 30 - 100);
    assert_eq!(books.events, 100 + 60 + 300);
    assert_eq!(shop.counted().await.0.values().sum::<u64>(), books.events);
}

#[test]
fn a_log_read_again_is_judged_the_same_and_each_limit_can_be_switched_off() {
    let log = minute();
    let fates = |options: ClassifierOptions| {
        let mut reader = Reader::new(Arc::new(Decoder::new(options).unwrap()));
        reader.begin("access.log");
        log.lines().map(|line| reader.fate(line.as_bytes(), 0)).collect::<Vec<_>>()
    };
    let robots = |fates: &[Fate]| fates.iter().filter(|f| **f == Fate::Filtered(FilterReason::BotRate)).count();
    let first = fates(ClassifierOptions::default());
    assert_eq!(first, fates(ClassifierOptions::default()));
    assert_eq!(robots(&first), 1_700);
    assert_eq!(robots(&fates(ClassifierOptions { views_of_visitor: 0, ..ClassifierOptions::default() })), 0);
    assert_eq!(robots(&fates(ClassifierOptions::raw())), 0);
    // Nobody is named: one address and agent has 350 views in ten seconds, people and robot together.
    let bare = log.replace(r#""visitor""#, r#""nobody""#);
    let by_address = |most| {
        let options = ClassifierOptions { views_of_address: most, ..ClassifierOptions::default() };
        let mut reader = Reader::new(Arc::new(Decoder::new(options).unwrap()));
        robots(&bare.lines().map(|line| reader.fate(line.as_bytes(), 0)).collect::<Vec<_>>())
    };
    assert_eq!(by_address(1_000), 0);
    assert!(by_address(300) > 0);
    assert_eq!(by_address(0), 0);
    let wrong = ClassifierOptions { views_of_address: 1_000_000, ..ClassifierOptions::default() };
    assert_eq!(wrong.check().unwrap_err().what, "classifier.views_of_address");
}

#[test]
fn nobody_in_the_real_log_is_faster_than_a_person() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/shop_access.log");
    let Ok(text) = std::fs::read_to_string(path) else { return println!("skipped: {path} is not there") };
    for (most, expected) in [(1_000, 0..=0), (100, 0..=0), (20, 0..=0), (5, 1..=100)] {
        let options = ClassifierOptions { views_of_address: most, ..ClassifierOptions::default() };
        let mut reader = Reader::new(Arc::new(Decoder::new(options).unwrap()));
        let fates: Vec<_> = text.lines().map(|line| reader.fate(line.as_bytes(), 0)).collect();
        let by = |reason| fates.iter().filter(|fate| **fate == Fate::Filtered(reason)).count();
        println!("most {most}: bot {}, bot_rate {}", by(FilterReason::Bot), by(FilterReason::BotRate));
        assert!(expected.contains(&by(FilterReason::BotRate)));
    }
}
