//! What can go wrong in a transaction, and what is to be done about it: which of it is one command's own fault,
//! which is over on the next try, and which leaves the connection useless. Texts never hold a row's values.

use crate::stock::store::StoreError;

/// A failure of a script or of what was read.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Fault {
    /// A row is not as the schema or an earlier read promised.
    #[error("{0}")]
    Broken(String),
    /// The server refused a statement. Its message is left out where it would quote a row.
    #[error("{statement}: error {number} {message}")]
    Refused {
        /// The statement's label.
        statement: &'static str,
        /// The server's number for it.
        number: u16,
        /// The class of the condition: the first two characters of its SQLSTATE.
        class: [u8; 2],
        /// What the server said, or nothing.
        message: String,
    },
    /// The connection is gone, or was never made.
    #[error("the connection to the database failed: {0}")]
    Lost(String),
    /// No answer within the time limit. The connection may still work for the server, but not for us.
    #[error("no answer from the database within {0:?}")]
    Slow(std::time::Duration),
    /// The commit was sent and its answer never came, nor could it be found out.
    #[error("whether the transaction was committed is unknown: {0}")]
    Unknown(String),
}

/// What to do about a [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It comes from the command itself: its neighbours go on without it.
    LeaveOut,
    /// The same again, at once, may succeed: the label says why (a metric's label).
    Retry(&'static str),
    /// The database cannot serve: everybody is told so.
    GiveUp,
}

/// Statements in which a duplicate key means that another core was first with the same key: what it wrote can be
/// read now.
pub(super) const DECISIONS: &str = "insert decisions";
/// As [`DECISIONS`].
pub(super) const TOKENS: &str = "insert tokens";
/// As [`DECISIONS`].
pub(super) const PAYMENTS: &str = "insert payments";
/// As [`DECISIONS`], for an adjustment's id.
pub(super) const CHANGES: &str = "insert stock changes";

const DUPLICATE: u16 = 1062;

impl Fault {
    /// A contradiction in the data.
    pub(super) fn broken(what: impl Into<String>) -> Self {
        Self::Broken(what.into())
    }

    /// From what sqlx says of `statement`.
    pub(super) fn from_sqlx(error: sqlx::Error, statement: &'static str) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let class = match error.code().as_deref().map(str::as_bytes) {
                    Some([a, b, ..]) => [*a, *b],
                    _ => *b"HY",
                };
                let number = error
                    .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
                    .map_or(0, sqlx::mysql::MySqlDatabaseError::number);
                // Classes 22 and 23 are about values and keys: the message quotes them, and they are buyers'.
                let message = if matches!(&class, b"22" | b"23") { String::new() } else { error.message().to_owned() };
                Self::Refused { statement, number, class, message }
            }
            sqlx::Error::Decode(e) => Self::Broken(format!("{statement}: {e}")),
            sqlx::Error::ColumnDecode { index, source } => {
                Self::Broken(format!("{statement}: column {index}: {source}"))
            }
            other => Self::Lost(other.to_string()),
        }
    }

    /// What is to be done.
    pub(super) fn remedy(&self) -> Remedy {
        match self {
            Self::Broken(_) => Remedy::LeaveOut,
            Self::Lost(_) => Remedy::Retry("lost"),
            Self::Slow(_) => Remedy::Retry("slow"),
            Self::Unknown(_) => Remedy::GiveUp,
            Self::Refused { number, statement, class, .. } => match *number {
                // Deadlock; a row that changed since the snapshot (MariaDB with innodb_snapshot_isolation).
                1213 | 1020 => Remedy::Retry("deadlock"),
                1205 => Remedy::Retry("lock_wait"),
                // Too many connections, of all or of this user.
                1040 | 1203 | 1226 => Remedy::Retry("busy"),
                // Shutting down, killed, interrupted, idle for too long: gone, and another one may be had.
                1053 | 1079 | 1152..=1161 | 1317 | 1927 | 4031 => Remedy::Retry("lost"),
                DUPLICATE if matches!(*statement, DECISIONS | TOKENS | PAYMENTS | CHANGES) => Remedy::Retry("race"),
                _ if matches!(class, b"22" | b"23") => Remedy::LeaveOut,
                _ => Remedy::GiveUp,
            },
        }
    }

    /// Whether the connection must not be used again.
    pub(super) fn loses_connection(&self) -> bool {
        match self {
            Self::Broken(_) => false,
            Self::Lost(_) | Self::Slow(_) | Self::Unknown(_) => true,
            Self::Refused { .. } => matches!(self.remedy(), Remedy::Retry("lost" | "busy") | Remedy::GiveUp),
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault.remedy() {
            Remedy::LeaveOut => Self::Corrupt(fault.to_string()),
            Remedy::Retry(_) | Remedy::GiveUp => Self::Unavailable(fault.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(number: u16, class: &[u8; 2], statement: &'static str) -> Fault {
        Fault::Refused { statement, number, class: *class, message: String::new() }
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        for (fault, remedy, loses) in [
            (refused(1213, b"40", "stock"), Remedy::Retry("deadlock"), false),
            (refused(1205, b"HY", "stock"), Remedy::Retry("lock_wait"), false),
            (refused(1040, b"08", "connect"), Remedy::Retry("busy"), true),
            (refused(1927, b"70", "stock"), Remedy::Retry("lost"), true),
            (refused(1062, b"23", DECISIONS), Remedy::Retry("race"), false),
            (refused(1062, b"23", "insert orders"), Remedy::LeaveOut, false),
            (refused(1406, b"22", "insert orders"), Remedy::LeaveOut, false),
            (refused(4025, b"23", "update stock"), Remedy::LeaveOut, false),
            (refused(1290, b"HY", "insert orders"), Remedy::GiveUp, true),
            (Fault::Lost("reset".into()), Remedy::Retry("lost"), true),
            (Fault::broken("odd"), Remedy::LeaveOut, false),
        ] {
            assert_eq!((fault.remedy(), fault.loses_connection()), (remedy, loses), "{fault}");
        }
        assert!(!StoreError::from(refused(1062, b"23", "insert orders")).retryable());
        assert!(StoreError::from(refused(1290, b"HY", "insert orders")).retryable(), "a replica may be promoted");
    }
}
