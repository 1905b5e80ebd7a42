//! Settings of the MariaDB store: where the server is, and every bound. The password is read from its file for each
//! connection, so that it can be changed without a restart, and is shown nowhere.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use types::Invalid;

use super::fault::Fault;

/// Settings of the store on MariaDB or MySQL. Either `url`, or host, port, user and database.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MariaStoreOptions {
    /// `mysql://user@host:port/database`, in place of the next four. A password in it works, and is never shown;
    /// better is `password_file`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "masked")]
    pub url: Option<String>,
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account; it needs all rights on the one database, and none beside.
    pub user: String,
    /// The database; it must exist, and hold nothing of anybody else.
    pub database: String,
    /// A file that holds the password (a line end is cut off). None: no password.
    pub password_file: Option<PathBuf>,
    /// Commands that may wait for the writer; one more is refused (`Overloaded`), which is a quick 503.
    pub queue: usize,
    /// Attempts and other commands in one transaction. All of them share one flush to disk and some 15 statements.
    pub group: usize,
    /// How long at most a group waits for callers that the last one answered; a lone caller never waits.
    #[serde(with = "types::time::duration_text")]
    pub linger: Duration,
    /// Connections for reads.
    pub readers: usize,
    /// How long a connection may take to be made and set up.
    #[serde(with = "types::time::duration_text")]
    pub connect_limit: Duration,
    /// How long a read may take.
    #[serde(with = "types::time::duration_text")]
    pub read_limit: Duration,
    /// How long one round trip of a transaction may take. Above `lock_wait`, or a wait for a lock looks like a
    /// dead server.
    #[serde(with = "types::time::duration_text")]
    pub statement_limit: Duration,
    /// How long a transaction waits for a row that another core has locked; whole seconds.
    #[serde(with = "types::time::duration_text")]
    pub lock_wait: Duration,
    /// How long a group is tried again, and a caller waits for the writer at most, before it is `Unavailable`:
    /// below what a shopper waits.
    #[serde(with = "types::time::duration_text")]
    pub patience: Duration,
}

/// Most commands that may wait: at 20,000 a second the last of these has waited for longer than any client.
const MAX_QUEUE: usize = 1_000_000;
/// Largest group: with the longest ids some 3 MB of SQL, below any server's `max_allowed_packet`.
const MAX_GROUP: usize = 2_000;
/// Longest linger: well below what a caller notices.
const MAX_LINGER: Duration = Duration::from_millis(2);
/// Most readers: a server has 151 connections unless it was told otherwise, and there are several cores.
const MAX_READERS: usize = 64;
/// No limit may be longer: a shopper's ticket lives for 10 s.
const MAX_LIMIT: Duration = Duration::from_secs(60);
/// No limit may be shorter: a flush to a busy disk takes this long.
const MIN_LIMIT: Duration = Duration::from_millis(50);

impl Default for MariaStoreOptions {
    fn default() -> Self {
        Self {
            url: None,
            host: "127.0.0.1".into(),
            port: 3306,
            user: "seckill".into(),
            database: "seckill".into(),
            password_file: None,
            queue: 8_192,
            group: 500,
            linger: Duration::from_millis(1),
            readers: 4,
            connect_limit: Duration::from_secs(2),
            read_limit: Duration::from_secs(2),
            statement_limit: Duration::from_secs(3),
            lock_wait: Duration::from_secs(1),
            patience: Duration::from_secs(5),
        }
    }
}

/// The URL without what may be secret in it.
fn without_password(url: &str) -> String {
    match url.parse::<MySqlConnectOptions>() {
        Ok(o) => format!(
            "mysql://{}:***@{}:{}/{}",
            o.get_username(),
            o.get_host(),
            o.get_port(),
            o.get_database().unwrap_or_default()
        ),
        Err(_) => "***".to_owned(),
    }
}

/// What is printed of the configuration must not hold a password either.
fn masked<S: serde::Serializer>(url: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(without_password).serialize(to)
}

impl fmt::Debug for MariaStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MariaStoreOptions")
            .field("url", &self.url.as_deref().map(without_password))
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("password_file", &self.password_file)
            .field("queue", &self.queue)
            .field("group", &self.group)
            .field("linger", &self.linger)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

impl MariaStoreOptions {
    /// Refuses what cannot work, naming the field.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |what: &'static str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(Invalid::new(what, format!("{value} is not in 1 to {most}")))
            }
        };
        within("stock.mariadb.queue", self.queue, MAX_QUEUE)?;
        within("stock.mariadb.group", self.group, MAX_GROUP)?;
        within("stock.mariadb.readers", self.readers, MAX_READERS)?;
        if self.linger > MAX_LINGER {
            return Err(Invalid::new("stock.mariadb.linger", format!("is above {MAX_LINGER:?}")));
        }
        for (what, limit) in [
            ("stock.mariadb.connect_limit", self.connect_limit),
            ("stock.mariadb.read_limit", self.read_limit),
            ("stock.mariadb.statement_limit", self.statement_limit),
            ("stock.mariadb.lock_wait", self.lock_wait),
            ("stock.mariadb.patience", self.patience),
        ] {
            if !(MIN_LIMIT..=MAX_LIMIT).contains(&limit) {
                return Err(Invalid::new(what, format!("is not in {MIN_LIMIT:?} to {MAX_LIMIT:?}")));
            }
        }
        if self.lock_wait.subsec_millis() != 0 {
            return Err(Invalid::new("stock.mariadb.lock_wait", "must be whole seconds: the server knows no others"));
        }
        if self.statement_limit <= self.lock_wait {
            return Err(Invalid::new("stock.mariadb.statement_limit", "must be above lock_wait"));
        }
        match &self.url {
            None if self.host.is_empty() => Err(Invalid::new("stock.mariadb.host", "is empty")),
            None if self.database.is_empty() => Err(Invalid::new("stock.mariadb.database", "is empty")),
            Some(url) => match url.parse::<MySqlConnectOptions>() {
                // The parser's own words may quote the URL, and a password with it.
                Err(_) => Err(Invalid::new("stock.mariadb.url", "is not mysql://user@host:port/database")),
                Ok(server) if server.get_database().is_none() => {
                    Err(Invalid::new("stock.mariadb.url", "names no database"))
                }
                Ok(_) => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// What to connect with. Statements are never logged: they hold buyers.
    pub(super) fn server(&self) -> Result<MySqlConnectOptions, Fault> {
        let mut server = match &self.url {
            Some(url) => url.parse().map_err(|_| Fault::broken("stock.mariadb.url does not parse"))?,
            None => MySqlConnectOptions::new()
                .host(&self.host)
                .port(self.port)
                .username(&self.user)
                .database(&self.database),
        };
        if let Some(file) = &self.password_file {
            let text = std::fs::read_to_string(file)
                .map_err(|e| Fault::Lost(format!("stock.mariadb.password_file {}: {e}", file.display())))?;
            server = server.password(text.trim_end_matches(['\r', '\n']));
        }
        Ok(server
            .charset("utf8mb4")
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .disable_statement_logging())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn no_password_is_shown() {
        let url = Some("mysql://shop:s3cret@db.example:3307/stock".to_owned());
        let options = MariaStoreOptions { url, ..MariaStoreOptions::default() };
        options.check().unwrap();
        let shown = format!("{options:?}");
        assert!(shown.contains("mysql://shop:***@db.example:3307/stock") && !shown.contains("s3cret"), "{shown}");
        assert!(!serde_json::to_string(&options).unwrap().contains("s3cret"));
        let odd = MariaStoreOptions { url: Some("s3cret".into()), ..options };
        assert!(!format!("{odd:?} {}", odd.check().unwrap_err()).contains("s3cret"));
    }

    #[test]
    fn what_cannot_work_is_named() {
        let good = MariaStoreOptions::default;
        good().check().unwrap();
        for (bad, field) in [
            (MariaStoreOptions { queue: 0, ..good() }, "queue"),
            (MariaStoreOptions { group: 100_000, ..good() }, "group"),
            (MariaStoreOptions { linger: Duration::from_secs(1), ..good() }, "linger"),
            (MariaStoreOptions { read_limit: Duration::ZERO, ..good() }, "read_limit"),
            (MariaStoreOptions { lock_wait: Duration::from_millis(1_500), ..good() }, "lock_wait"),
            (MariaStoreOptions { lock_wait: Duration::from_secs(9), ..good() }, "statement_limit"),
            (MariaStoreOptions { database: String::new(), ..good() }, "database"),
            (MariaStoreOptions { url: Some("mysql://a@b".into()), ..good() }, "url"),
        ] {
            let why = bad.check().unwrap_err().to_string();
            assert!(why.contains(&format!("stock.mariadb.{field}")), "{why}");
        }
        let text = serde_json::to_string(&good()).unwrap();
        insta::assert_snapshot!(text, @r#"{"host":"127.0.0.1","port":3306,"user":"seckill","database":"seckill","password_file":null,"queue":8192,"group":500,"linger":"1ms","readers":4,"connect_limit":"2s","read_limit":"2s","statement_limit":"3s","lock_wait":"1s","patience":"5s"}"#);
        assert!(serde_json::from_str::<MariaStoreOptions>(r#"{"password":"x"}"#).is_err(), "an unknown field");
    }
}
