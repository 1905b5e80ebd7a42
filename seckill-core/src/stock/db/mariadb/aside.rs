//! Transactions beside purchases: one connection of its own, so that what is not urgent never waits in the writer's
//! queue nor makes it wait. Whoever uses it must be able to do the same again: a lost answer to a commit is told as
//! `Unavailable`, and not found out.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::fault::{Fault, Remedy};
use super::options::MariaStoreOptions;
use super::session::{Replies, Role, Session};
use super::text::Script;
use crate::stock::store::StoreError;

/// The connection, made when it is first needed.
#[derive(Debug)]
pub(super) struct Aside {
    options: Arc<MariaStoreOptions>,
    idle: Mutex<Option<Session>>,
    turn: Semaphore,
}

/// A transaction that has begun. Dropped, also by a fault, it takes its connection with it, and the server rolls back.
pub(super) struct Turn<'a> {
    aside: &'a Aside,
    session: Session,
    _permit: SemaphorePermit<'a>,
}

impl Aside {
    pub(super) fn new(options: Arc<MariaStoreOptions>) -> Self {
        Self { options, idle: Mutex::new(None), turn: Semaphore::new(1) }
    }

    /// Begins a transaction. A connection that turns out to be gone is replaced.
    pub(super) async fn begin(&self) -> Result<Turn<'_>, StoreError> {
        let closed = || StoreError::Unavailable("the store has stopped".into());
        let permit = tokio::time::timeout(self.options.patience, self.turn.acquire())
            .await
            .map_err(|_| StoreError::Overloaded)?
            .map_err(|_| closed())?;
        let kept = self.idle.lock().take();
        if let Some(mut session) = kept {
            match session.say("begin", "START TRANSACTION").await {
                Ok(_) => return Ok(Turn { aside: self, session, _permit: permit }),
                Err(fault) if matches!(fault.remedy(), Remedy::Retry(_)) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        let mut session = Session::open(&self.options, Role::Writer).await?;
        session.say("begin", "START TRANSACTION").await?;
        Ok(Turn { aside: self, session, _permit: permit })
    }
}

impl Turn<'_> {
    pub(super) async fn run(&mut self, script: &Script) -> Result<Replies, Fault> {
        self.session.run(script).await
    }

    /// The connection, within the transaction.
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Commits, then answers.
    pub(super) async fn keep<T>(self, answer: T) -> Result<T, StoreError> {
        self.end("commit", "COMMIT", answer).await
    }

    /// Rolls back, then answers.
    pub(super) async fn back<T>(self, answer: T) -> Result<T, StoreError> {
        self.end("roll back", "ROLLBACK", answer).await
    }

    async fn end<T>(mut self, label: &'static str, sql: &'static str, answer: T) -> Result<T, StoreError> {
        self.session.say(label, sql).await?;
        *self.aside.idle.lock() = Some(self.session);
        Ok(answer)
    }
}
