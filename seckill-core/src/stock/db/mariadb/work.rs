//! One transaction from begin to commit on the writer's connection, and the question what became of a commit whose
//! answer was lost.
//!
//! Each transaction writes its number into the writer's own row of `writer_mark`. When the answer to a commit is
//! lost, a new connection ends the old one and reads that row with a lock: the read waits until the old transaction
//! is over, whatever its end, and then says which end it was. So every answer, also of what cannot be asked by key,
//! is given exactly as it was committed, and nothing is run twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Answer, Command};
use super::fault::Fault;
use super::flush::{self, Mark};
use super::options::MariaStoreOptions;
use super::session::{Role, Session};
use super::text::Script;
use super::{adjust, admin, load, moves, rows, sales};
use crate::stock::db::metrics::UNKNOWN_COMMITS;

/// How long a writer's mark is kept after it was last heard of: far longer than any commit is in doubt.
const KEEP_MARKS_MS: i64 = 7 * 24 * 3_600 * 1_000;
/// Wait between attempts to find out about a commit.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How a transaction's work ended.
enum Worked {
    /// Something is to be committed.
    Changed(Vec<Answer>),
    /// Nothing was changed: the answers stand as they are.
    Read(Vec<Answer>),
}

/// The writer's connection and its numbers.
#[derive(Debug)]
pub(super) struct Desk {
    options: Arc<MariaStoreOptions>,
    /// This writer's name in `writer_mark`: random, one for each start.
    writer: String,
    /// The number of the last transaction that was begun.
    number: i64,
    /// `None` after a failure that left the connection useless.
    session: Option<Session>,
    /// The name of the connection that was given up last: it may still hold locks.
    abandoned: Option<String>,
}

impl Desk {
    /// Connects, and makes the writer's mark.
    pub(super) async fn open(options: Arc<MariaStoreOptions>) -> Result<Self, Fault> {
        let writer = format!("{:016x}", rand::random::<u64>());
        let mut session = Session::open(&options, Role::Writer).await?;
        let now = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";
        let mut script = Script::default();
        script.add("forget marks", "DELETE FROM writer_mark WHERE at < ").sql(now).sql(" - ").int(KEEP_MARKS_MS);
        script.add("make mark", "INSERT INTO writer_mark (writer, last, at) VALUES (").text(&writer);
        script.sql(", 0, ").sql(now).sql(")");
        session.run(&script).await?;
        Ok(Self { options, writer, number: 0, session: Some(session), abandoned: None })
    }

    /// A wait of about `pause`, different for each writer: two that ran into each other must not do so again.
    pub(super) fn jitter(&self, pause: Duration) -> Duration {
        let bytes = self.writer.as_bytes();
        let salt = bytes.get(usize::try_from(self.number).unwrap_or(0) % bytes.len().max(1)).copied().unwrap_or(0);
        pause.mul_f64(0.5 + f64::from(salt % 16) / 16.0)
    }

    /// Runs the commands as one transaction. `Ok` means committed (or nothing to commit); any error means that
    /// nothing was, except [`Fault::Unknown`].
    pub(super) async fn transact(&mut self, commands: &[&Command]) -> Result<Vec<Answer>, Fault> {
        let mut session = self.connected().await?;
        self.number += 1;
        let mark = Mark { writer: &self.writer, number: self.number };
        match work(&mut session, commands, mark).await {
            Ok(Worked::Read(answers)) => {
                self.roll_back(session).await;
                Ok(answers)
            }
            Ok(Worked::Changed(answers)) => match session.say("commit", "COMMIT").await {
                Ok(_) => {
                    self.session = Some(session);
                    Ok(answers)
                }
                Err(fault) => self.resolve(session, fault).await.map(|()| answers),
            },
            Err(fault) => {
                if fault.loses_connection() {
                    self.abandoned = Some(session.name().to_owned());
                } else {
                    self.roll_back(session).await;
                }
                Err(fault)
            }
        }
    }

    /// Ends the connection in good order.
    pub(super) async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    async fn connected(&mut self) -> Result<Session, Fault> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let mut session = Session::open(&self.options, Role::Writer).await?;
        if let Some(old) = &self.abandoned {
            session.end_other(old).await?;
            self.abandoned = None;
        }
        Ok(session)
    }

    /// Nothing of the transaction may stay. A connection that cannot even do that is dropped, and the server rolls
    /// back by itself.
    async fn roll_back(&mut self, mut session: Session) {
        if session.say("roll back", "ROLLBACK").await.is_ok() {
            self.session = Some(session);
        } else {
            self.abandoned = Some(session.name().to_owned());
        }
    }

    /// What became of the commit: `Ok` if it is committed, the fault itself if it certainly is not.
    async fn resolve(&mut self, session: Session, fault: Fault) -> Result<(), Fault> {
        let old = session.name().to_owned();
        drop(session);
        let until = Instant::now() + self.options.patience;
        let end = loop {
            match self.ask(&old).await {
                Ok(committed) => break Some(committed),
                Err(_) if Instant::now() + ASK_AGAIN < until => tokio::time::sleep(ASK_AGAIN).await,
                Err(_) => break None,
            }
        };
        let (label, end) = match end {
            Some(true) => ("committed", Ok(())),
            Some(false) => ("rolled_back", Err(Fault::Lost(format!("before the commit: {fault}")))),
            None => {
                self.abandoned = Some(old);
                ("unresolved", Err(Fault::Unknown(fault.to_string())))
            }
        };
        metrics::counter!(UNKNOWN_COMMITS, "end" => label).increment(1);
        tracing::warn!(error = %fault, end = label, "the answer to a commit was lost");
        end
    }

    /// Whether the transaction of the present number was committed. The old connection is ended first, so that the
    /// lock on the mark is free as soon as the server has done with it.
    async fn ask(&mut self, old: &str) -> Result<bool, Fault> {
        let mut session = Session::open(&self.options, Role::Writer).await?;
        session.end_other(old).await?;
        let mut script = Script::default();
        script.add("begin", "START TRANSACTION");
        script.add("mark", "SELECT last FROM writer_mark WHERE writer = ").text(&self.writer).sql(" FOR UPDATE");
        script.add("end", "COMMIT");
        let row = session.run(&script).await?.row("mark").ok_or_else(|| Fault::broken("the writer's mark is gone"))?;
        let last = rows::int(&row, 0)?;
        self.session = Some(session);
        Ok(last == self.number)
    }
}

/// All of a transaction but its end.
async fn work(session: &mut Session, commands: &[&Command], mark: Mark<'_>) -> Result<Worked, Fault> {
    if let [command] = commands
        && command.is_alone()
    {
        session.say("begin", "START TRANSACTION").await?;
        let answer = alone(session, command).await?;
        let mut script = Script::default();
        mark.write(&mut script);
        session.run(&script).await?;
        return Ok(Worked::Changed(vec![answer]));
    }
    let mut book = load::load(session, commands).await?;
    let answers = commands.iter().map(|command| book.run(command)).collect::<Result<Vec<_>, _>>()?;
    if book.changes_nothing() {
        return Ok(Worked::Read(answers));
    }
    flush::flush(session, &book, mark).await?;
    Ok(Worked::Changed(answers))
}

async fn alone(session: &mut Session, command: &Command) -> Result<Answer, Fault> {
    Ok(match command {
        Command::Step { step, now } => Answer::Moved(moves::step(session, step, *now).await?),
        Command::Adjust { adjustment, now } => Answer::Adjusted(adjust::adjust(session, adjustment, *now).await?),
        Command::ApplySale { sale, now } => Answer::Applied(sales::apply(session, sale, *now).await?),
        Command::SetSaleState { sale, state, now } => {
            Answer::State(sales::set_state(session, sale, *state, *now).await?)
        }
        Command::Administer { act, by, now } => Answer::Acted(admin::administer(session, act, by, *now).await?),
        _ => return Err(Fault::broken("a command that shares its transaction")),
    })
}
