//! The books as rows. It must never read a row as something it was not written as.

use rusqlite::{Connection, Transaction, params};

use super::StoreError;
use crate::account::Accounting;
use crate::classify::FilterReason;
use crate::decode::DeadReason;

pub(super) fn read(connection: &Connection) -> Result<Accounting, StoreError> {
    let mut query = connection.prepare_cached("SELECT class, reason, lines FROM accounting")?;
    let rows = query.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?.cast_unsigned()))
    })?;
    let mut books = Accounting::default();
    for row in rows {
        let (class, reason, lines) = row?;
        let unknown = || StoreError::Damaged(format!("books hold {class}/{reason}"));
        match (class.as_str(), reason.as_str()) {
            ("lines", _) => books.lines = lines,
            ("events", _) => books.events = lines,
            ("repeats", _) => books.repeats = lines,
            ("dropped", _) => books.dead_letters_dropped = lines,
            ("replayed", "events") => books.replayed.events = lines,
            ("replayed", "filtered") => books.replayed.filtered = lines,
            ("pattern", name) => {
                books.patterns.insert(name.into(), lines);
            }
            ("bot", name) => {
                books.bots.insert(name.into(), lines);
            }
            ("filtered", reason) => {
                books.filtered.insert(FilterReason::named(reason).ok_or_else(unknown)?, lines);
            }
            ("dead", reason) => {
                books.dead.insert(DeadReason::named(reason).ok_or_else(unknown)?, lines);
            }
            _ => return Err(unknown()),
        }
    }
    Ok(books)
}

pub(super) fn write(change: &Transaction<'_>, books: &Accounting) -> Result<(), StoreError> {
    let mut write = change.prepare_cached(
        "INSERT INTO accounting (class, reason, lines) VALUES (?1, ?2, ?3)
         ON CONFLICT (class, reason) DO UPDATE SET lines = excluded.lines",
    )?;
    let totals = [
        ("lines", "", books.lines),
        ("events", "", books.events),
        ("repeats", "", books.repeats),
        ("dropped", "", books.dead_letters_dropped),
        ("replayed", "events", books.replayed.events),
        ("replayed", "filtered", books.replayed.filtered),
    ];
    let filtered = books.filtered.iter().map(|(reason, lines)| ("filtered", reason.as_str(), *lines));
    let dead = books.dead.iter().map(|(reason, lines)| ("dead", reason.as_str(), *lines));
    let patterns = books.patterns.iter().map(|(name, lines)| ("pattern", &**name, *lines));
    let bots = books.bots.iter().map(|(name, lines)| ("bot", &**name, *lines));
    for (class, reason, lines) in totals.into_iter().chain(filtered).chain(dead).chain(patterns).chain(bots) {
        write.execute(params![class, reason, lines.cast_signed()])?;
    }
    Ok(())
}
