//! What can go wrong inside a transaction, and which of it is one command's own fault.

use rusqlite::ErrorCode;

use crate::stock::store::StoreError;

/// A failure inside a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// SQLite refused.
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    /// A row is not as the schema or an earlier read promised.
    #[error("{0}")]
    Broken(String),
}

impl Fault {
    /// A contradiction in the data.
    pub(super) fn broken(what: impl Into<String>) -> Self {
        Self::Broken(what.into())
    }

    /// Whether it comes from the command itself (a constraint, a value that does not fit), so that its
    /// neighbours in the group may go on without it. All else is the database's trouble and everybody's.
    pub(super) fn is_own(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Sql(rusqlite::Error::SqliteFailure(e, _)) => {
                matches!(e.code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
            }
            Self::Sql(_) => true,
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        let damaged = matches!(
            &fault,
            Fault::Sql(rusqlite::Error::SqliteFailure(e, _))
                if matches!(e.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        );
        if damaged || fault.is_own() { Self::Corrupt(fault.to_string()) } else { Self::Unavailable(fault.to_string()) }
    }
}
