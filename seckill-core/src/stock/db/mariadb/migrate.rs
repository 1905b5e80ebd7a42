//! Brings the tables to this program's version, once, whoever starts first; refuses a database that is newer, that
//! was made by other statements than these, or that is somebody else's, and leaves it as it is.

use sha2::{Digest, Sha256};

use super::fault::Fault;
use super::options::MariaStoreOptions;
use super::rows;
use super::session::{Role, Session};
use super::text::Script;
use crate::stock::store::StoreError;

/// A change of the tables. Its statements may be run again: DDL is not transactional here, so one that was cut off
/// is run again from its start.
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// In order. One that was released is never edited: a further one is added.
const MIGRATIONS: [Migration; 8] = [
    Migration { version: 1, name: "stock", sql: include_str!("migrations/0001_stock.sql") },
    Migration { version: 2, name: "stock_change", sql: include_str!("migrations/0002_stock_change.sql") },
    Migration { version: 3, name: "admin_audit", sql: include_str!("migrations/0003_admin_audit.sql") },
    Migration { version: 4, name: "payment_due", sql: include_str!("migrations/0004_payment_due.sql") },
    Migration { version: 5, name: "shop_systems", sql: include_str!("migrations/0005_shop_systems.sql") },
    Migration { version: 6, name: "live_pass", sql: include_str!("migrations/0006_live_pass.sql") },
    Migration { version: 7, name: "stock_import", sql: include_str!("migrations/0007_stock_import.sql") },
    Migration { version: 9, name: "sale_policy", sql: include_str!("migrations/0009_sale_policy.sql") },
];

/// Seconds that one core waits for another's migration. Creating empty tables takes less than one.
const LOCK_SECONDS: i64 = 60;

const HISTORY: &str = "CREATE TABLE IF NOT EXISTS schema_migration (version BIGINT NOT NULL PRIMARY KEY, \
                       name VARCHAR(64) NOT NULL, checksum VARCHAR(64) NOT NULL, finished TINYINT NOT NULL) \
                       ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin";

/// What the database is to this program.
enum Place {
    Empty,
    Ours,
}

/// Migrates under a lock of the server, which ends with the connection at the latest.
pub(super) async fn migrate(options: &MariaStoreOptions) -> Result<(), StoreError> {
    let mut patient = options.clone();
    // The wait for another core's migration happens within one statement.
    patient.statement_limit = std::time::Duration::from_secs(LOCK_SECONDS.unsigned_abs() + 5);
    let mut session = Session::open(&patient, Role::Writer).await?;
    let mut lock = Script::default();
    lock.add("lock", "SELECT GET_LOCK(LEFT(CONCAT('seckill ', DATABASE()), 64), ").int(LOCK_SECONDS).sql(")");
    let got = session.run(&lock).await?.row("lock").map(|row| rows::int(&row, 0)).transpose()?;
    if got != Some(1) {
        return Err(StoreError::Unavailable("another core is still migrating the database".into()));
    }
    let end = run(&mut session).await;
    session.close().await;
    end
}

async fn run(session: &mut Session) -> Result<(), StoreError> {
    if let Place::Empty = look(session).await? {
        session.say("history", HISTORY).await?;
    }
    let done = history(session).await?;
    let newest = MIGRATIONS.last().map_or(0, |last| last.version);
    if let Some((version, ..)) = done.iter().find(|(version, ..)| *version > newest) {
        return Err(StoreError::Corrupt(format!(
            "the database has schema version {version}, this program knows {newest}: start the newer program"
        )));
    }
    for migration in &MIGRATIONS {
        let checksum = checksum(migration.sql);
        match done.iter().find(|(version, ..)| *version == migration.version) {
            Some((version, there, _)) if *there != checksum => {
                return Err(StoreError::Corrupt(format!(
                    "schema version {version} ({}) of the database was made by other statements than this program's",
                    migration.name
                )));
            }
            Some((.., true)) => {}
            _ => apply(session, migration, &checksum).await?,
        }
    }
    Ok(())
}

async fn look(session: &mut Session) -> Result<Place, StoreError> {
    let mut ask = Script::default();
    ask.add(
        "tables",
        "SELECT CAST(COUNT(*) AS SIGNED), CAST(COALESCE(SUM(table_name = 'schema_migration'), 0) AS SIGNED) \
         FROM information_schema.tables WHERE table_schema = DATABASE()",
    );
    let row = session.run(&ask).await?.row("tables").ok_or_else(|| Fault::broken("no count of tables"))?;
    match (rows::int(&row, 0)?, rows::int(&row, 1)?) {
        (0, _) => Ok(Place::Empty),
        (_, 1) => Ok(Place::Ours),
        (n, _) => Err(StoreError::Corrupt(format!("the database holds {n} tables of another program"))),
    }
}

/// `(version, checksum, finished)` of what was begun.
async fn history(session: &mut Session) -> Result<Vec<(i64, String, bool)>, Fault> {
    let mut ask = Script::default();
    ask.add("done", "SELECT version, checksum, finished FROM schema_migration ORDER BY version");
    let rows = session.run(&ask).await?.rows("done");
    rows.map(|row| Ok((rows::int(&row, 0)?, rows::text(&row, 1)?.to_owned(), rows::flag(&row, 2)?))).collect()
}

async fn apply(session: &mut Session, migration: &Migration, checksum: &str) -> Result<(), Fault> {
    tracing::info!(version = migration.version, name = migration.name, "migrating the stock database");
    let mut begin = Script::default();
    begin.add("begin migration", "INSERT INTO schema_migration (version, name, checksum, finished) VALUES (");
    begin.int(migration.version).sql(", ").text(migration.name).sql(", ").text(checksum).sql(", 0)");
    begin.sql(" ON DUPLICATE KEY UPDATE checksum = VALUES(checksum)");
    session.run(&begin).await?;
    session.say("migrate", migration.sql).await?;
    let mut end = Script::default();
    end.add("end migration", "UPDATE schema_migration SET finished = 1 WHERE version = ").int(migration.version);
    session.run(&end).await?;
    Ok(())
}

fn checksum(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_in_order() {
        assert!(MIGRATIONS.windows(2).all(|pair| pair[0].version < pair[1].version));
    }
}
