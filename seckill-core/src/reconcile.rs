//! Compares the shop's own book of orders with ours: pure, order by order, in the memory of one small row for each of
//! the shop's. It reads no database and changes nothing.

use std::io::Read;

use csv::{ReaderBuilder, StringRecord};
use types::order_event::OrderEventKind;
use types::{Currency, Money, OrderId};

use crate::stock::store::OrderRow;

/// Wrong rows that are told; whoever has more mends these first.
const MAX_ERRORS: usize = 20;
/// The columns that a book must have; others are left alone.
pub(crate) const COLUMNS: [&str; 4] = ["order", "state", "amount", "currency"];

/// A row of the shop's book.
#[derive(Debug, Clone, Copy)]
struct Theirs {
    order: OrderId,
    state: OrderEventKind,
    amount: u64,
    currency: Currency,
    /// Whether we have it too.
    met: bool,
}

/// The shop's book, by order.
#[derive(Debug)]
pub(crate) struct Book(Vec<Theirs>);

/// In what an order differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) order: OrderId,
    /// `missing-here`, `missing-there`, `state` or `amount`.
    pub(crate) what: &'static str,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

fn money(amount: u64, currency: impl std::fmt::Display) -> String {
    format!("{amount} {currency}")
}

fn describe(state: OrderEventKind, amount: u64, currency: impl std::fmt::Display) -> String {
    format!("{} {}", state.as_str(), money(amount, currency))
}

impl Book {
    /// Reads a CSV with a header line; errors name their lines, as an editor counts them.
    pub(crate) fn read(text: impl Read) -> Result<Self, Vec<String>> {
        let mut reader = ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let header = reader.headers().map_err(|e| vec![format!("line 1: {e}")])?.clone();
        let place = |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
        let mut places = [0; 4];
        for (place_of, name) in places.iter_mut().zip(COLUMNS) {
            *place_of = place(name).ok_or_else(|| vec![format!("line 1: there is no column `{name}`")])?;
        }
        let (mut rows, mut errors, mut record) = (Vec::new(), Vec::new(), StringRecord::new());
        loop {
            let line = reader.position().line();
            let row = match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => row(&record, places).map_err(|why| format!("line {line}: {why}")),
                Err(e) => Err(format!("line {line}: {e}")),
            };
            match row {
                Ok(row) => rows.push(row),
                Err(why) => errors.push(why),
            }
            if errors.len() == MAX_ERRORS {
                return Err(errors);
            }
        }
        rows.sort_unstable_by_key(|row: &Theirs| row.order);
        for pair in rows.windows(2) {
            if pair[0].order == pair[1].order && errors.len() < MAX_ERRORS {
                errors.push(format!("order {} stands there twice", pair[0].order));
            }
        }
        if errors.is_empty() { Ok(Self(rows)) } else { Err(errors) }
    }

    /// Holds one of our orders against the book.
    pub(crate) fn compare(&mut self, ours: &OrderRow) -> Vec<Difference> {
        let (order, state) = (ours.order, OrderEventKind::from(ours.state));
        let (amount, currency) = (ours.amount.minor(), ours.amount.currency());
        let differs = |what, ours: String, theirs: String| Difference { order, what, ours, theirs };
        let Ok(at) = self.0.binary_search_by_key(&order, |row| row.order) else {
            return vec![differs("missing-there", describe(state, amount, currency), String::new())];
        };
        let theirs = &mut self.0[at];
        theirs.met = true;
        let mut found = Vec::new();
        if theirs.state != state {
            found.push(differs("state", state.as_str().into(), theirs.state.as_str().into()));
        }
        if (theirs.amount, theirs.currency) != (amount, currency) {
            found.push(differs("amount", money(amount, currency), money(theirs.amount, theirs.currency)));
        }
        found
    }

    /// What the shop has and we have not, once all of ours were compared.
    pub(crate) fn rest(self) -> impl Iterator<Item = Difference> {
        self.0.into_iter().filter(|row| !row.met).map(|row| Difference {
            order: row.order,
            what: "missing-here",
            ours: String::new(),
            theirs: describe(row.state, row.amount, row.currency),
        })
    }
}

fn row(record: &StringRecord, [order, state, amount, currency]: [usize; 4]) -> Result<Theirs, String> {
    let cell = |at: usize| record.get(at).unwrap_or_default();
    let order = cell(order).parse().map_err(|e: types::Invalid| e.to_string())?;
    let name = cell(state);
    let kinds = crate::stock::webhook_store::ALL_KINDS;
    let state = kinds.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| format!("{name:?} is no state"))?;
    let number = cell(amount);
    let amount = number.parse().map_err(|_| format!("amount {number:?} is not whole minor units"))?;
    let currency: Currency = cell(currency).parse().map_err(|e: types::Invalid| e.to_string())?;
    Money::new(amount, currency).map_err(|e| e.to_string())?;
    Ok(Theirs { order, state, amount, currency, met: false })
}

#[cfg(test)]
mod tests {
    use types::{Tier, Timestamp};

    use super::*;
    use crate::stock::store::OrderState;

    fn ours(order: u128, state: OrderState, amount: u64) -> OrderRow {
        OrderRow {
            order: OrderId::from_bits(order),
            buyer: "ann".parse().expect("a buyer"),
            sale: "friday".parse().expect("a sale"),
            product: "a".parse().expect("a product"),
            quantity: 1,
            amount: Money::new(amount, "EUR".parse().expect("a currency")).expect("money"),
            tier: Tier::Db,
            state,
            accepted_at: Timestamp::from_seconds(0),
            expires_at: Timestamp::from_seconds(1),
        }
    }

    #[test]
    fn every_kind_of_difference_is_found_and_what_is_equal_is_not_told() {
        let id = |n: u128| format!("{n:032x}");
        let text = format!(
            "\u{feff}currency,note,order,amount,state\nEUR,x,{},100,paid\nEUR,\"a, b\",{},100,paid\nEUR,,{},90,paid\nEUR,,{},5,expired\n",
            id(3),
            id(1),
            id(2),
            id(9)
        );
        let mut book = Book::read(text.as_bytes()).expect("a good book");
        assert_eq!(book.compare(&ours(1, OrderState::Paid, 100)), []);
        let mut told: Vec<_> = [(2, OrderState::Cancelled, 100), (3, OrderState::Paid, 100), (4, OrderState::Paid, 7)]
            .into_iter()
            .flat_map(|(n, state, amount)| book.compare(&ours(n, state, amount)))
            .collect();
        told.extend(book.rest());
        let told: Vec<_> = told.iter().map(|d| (d.order.bits(), d.what, d.ours.as_str(), d.theirs.as_str())).collect();
        assert_eq!(
            told,
            [
                (2, "state", "cancelled", "paid"),
                (2, "amount", "100 EUR", "90 EUR"),
                (4, "missing-there", "paid 7 EUR", ""),
                (9, "missing-here", "", "expired 5 EUR"),
            ]
        );
    }

    #[test]
    fn what_is_wrong_with_a_book_is_told_by_line() {
        let refused = |text: &str| Book::read(text.as_bytes()).expect_err("must be refused").join("; ");
        assert_eq!(refused("order,state,amount\n"), "line 1: there is no column `currency`");
        assert_eq!(refused(""), "line 1: there is no column `order`");
        let id = "0".repeat(32);
        let text =
            format!("order,state,amount,currency\nx,paid,1,EUR\n{id},lost,1,EUR\n{id},paid,-1,EUR\n{id},paid,1\n");
        let told = refused(&text);
        for line in ["line 2:", "line 3: \"lost\"", "line 4: amount", "line 5:"] {
            assert!(told.contains(line), "{told}");
        }
        let twice = format!("order,state,amount,currency\n{id},paid,1,EUR\n{id},paid,1,EUR\n");
        assert!(refused(&twice).contains("twice"));
        let many = format!("order,state,amount,currency\n{}", "x,paid,1,EUR\n".repeat(1_000));
        assert_eq!(Book::read(many.as_bytes()).expect_err("refused").len(), MAX_ERRORS);
    }
}
