//! Files of the shop, read: CSV text into the rows of an import. Pure: it knows no sale and no store, and it says of
//! every row at once what is wrong with it.

mod catalogue;
mod stock;
mod table;

pub(crate) use catalogue::catalogue;
pub(crate) use stock::stock;

use crate::stock::import::RowErrors;

/// Why a file is no import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// More rows than an import has.
    TooManyRows,
    /// These are wrong.
    Rows(RowErrors),
}

#[cfg(test)]
mod tests;
