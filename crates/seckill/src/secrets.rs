//! Secrets: read from files, or made once for a demo and kept in its data directory. Never printed.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Bytes of a made secret: 256 bits.
const BYTES: usize = 32;
/// Shortest secret that is taken from a file, in bytes.
const SHORTEST: usize = 16;

/// Bytes that must not be seen; `Debug` hides them.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps bytes.
    #[cfg(test)]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
    /// The bytes, for a MAC.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
    /// The secret as text (made secrets are hexadecimal).
    pub fn text(&self) -> anyhow::Result<String> {
        String::from_utf8(self.0.clone()).context("the secret is not text")
    }
    /// Compares in constant time.
    pub fn equals(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where the secrets are. Unset: made once under `<data_dir>/secrets`, except in production.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretFiles {
    /// Signs the built-in issuer's tokens; in production there is none, and this is not read.
    pub issuer_file: Option<PathBuf>,
    /// Seals the sessions of dashboards; in production it is only needed where they log in (`identity.login`).
    pub session_file: Option<PathBuf>,
    /// Signs tickets.
    pub ticket_file: Option<PathBuf>,
    /// Keys the visitors' hashes.
    pub visitor_file: Option<PathBuf>,
    /// The control plane's token at the cores.
    pub control_file: Option<PathBuf>,
    /// The edges' token at the cores.
    pub edge_file: Option<PathBuf>,
    /// Signs payment callbacks.
    pub payment_file: Option<PathBuf>,
    /// Signed payment callbacks before it: still believed while the provider changes its key. Unset: none.
    pub previous_payment_file: Option<PathBuf>,
}

/// All secrets of one installation.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Signs the built-in issuer's tokens. In production made up anew by each process, so that none is good.
    pub issuer: Secret,
    /// Seals the sessions of dashboards; none in production without a file.
    pub session: Option<Secret>,
    /// Signs tickets.
    pub ticket: Secret,
    /// Keys the visitors' hashes.
    pub visitor: Secret,
    /// The control plane's token at the cores.
    pub control: Secret,
    /// The edges' token at the cores.
    pub edge: Secret,
    /// Signs payment callbacks.
    pub payment: Secret,
    /// Signed payment callbacks before it.
    pub previous_payment: Option<Secret>,
}

impl Secrets {
    /// Reads the configured files; makes what is not configured if that is allowed (never in production).
    pub fn load(files: &SecretFiles, data_dir: &Path, may_make: bool) -> anyhow::Result<Self> {
        let one = |name: &str, file: &Option<PathBuf>| match file {
            Some(path) => read(path).with_context(|| format!("secrets.{name}_file")),
            None if !may_make => {
                bail!("secrets.{name}_file is not set; in production each secret comes from a file of its own")
            }
            None => made_once(&data_dir.join("secrets").join(name)),
        };
        let issuer = if may_make { one("issuer", &files.issuer_file)? } else { Secret(made().into_bytes()) };
        let session = match &files.session_file {
            None if !may_make => None,
            file => Some(one("session", file)?),
        };
        Ok(Self {
            issuer,
            session,
            ticket: one("ticket", &files.ticket_file)?,
            visitor: one("visitor", &files.visitor_file)?,
            control: one("control", &files.control_file)?,
            edge: one("edge", &files.edge_file)?,
            payment: one("payment", &files.payment_file)?,
            previous_payment: match &files.previous_payment_file {
                Some(path) => Some(read(path).context("secrets.previous_payment_file")?),
                None => None,
            },
        })
    }
}

/// The secret in this file.
pub fn read(path: &Path) -> anyhow::Result<Secret> {
    let text = fs::read(path).with_context(|| format!("cannot read the secret file {}", path.display()))?;
    let bytes = text.trim_ascii().to_vec();
    if bytes.len() < SHORTEST {
        bail!("the secret file {} holds {} bytes; at least {SHORTEST} are needed", path.display(), bytes.len());
    }
    Ok(Secret(bytes))
}

fn made() -> String {
    rand::random::<[u8; BYTES]>().iter().map(|b| format!("{b:02x}")).collect()
}

fn made_once(path: &Path) -> anyhow::Result<Secret> {
    if path.exists() {
        return read(path);
    }
    let dir = path.parent().context("a secret lies in a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let text = made();
    // Written aside and then given its name, so that a kill in between never leaves half a secret; by a link, which
    // refuses a name that is taken, since several services may start on one directory at once.
    let aside = path.with_extension(format!("new-{}-{:08x}", std::process::id(), rand::random::<u32>()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .with_context(|| format!("cannot write {}", aside.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return read(path),
        other => other.with_context(|| format!("cannot write {}", path.display()))?,
    }
    Ok(Secret(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_makes_its_secrets_once_and_production_never() {
        let dir = tempfile::tempdir().expect("a place");
        let first = Secrets::load(&SecretFiles::default(), dir.path(), true).expect("made");
        let again = Secrets::load(&SecretFiles::default(), dir.path(), true).expect("read");
        assert_eq!(first.ticket.bytes(), again.ticket.bytes());
        assert_ne!(first.ticket.bytes(), first.issuer.bytes());
        assert_eq!(format!("{:?}", first.ticket), "Secret(…)");
        let refused = Secrets::load(&SecretFiles::default(), dir.path(), false).expect_err("refused");
        assert!(refused.to_string().contains("secrets.ticket_file"), "{refused}");
    }

    #[test]
    fn services_that_start_at_once_agree_on_the_secrets() {
        let dir = tempfile::tempdir().expect("a place");
        let made: Vec<_> = std::thread::scope(|scope| {
            let start = || Secrets::load(&SecretFiles::default(), dir.path(), true).expect("made or read");
            let all: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            all.into_iter().map(|one| one.join().expect("no panic").control.bytes().to_vec()).collect()
        });
        assert!(made.windows(2).all(|pair| pair[0] == pair[1]), "all use the secret that lies there");
    }

    #[test]
    fn a_short_or_missing_secret_file_is_named() {
        let dir = tempfile::tempdir().expect("a place");
        let path = dir.path().join("short");
        fs::write(&path, "abc").expect("written");
        let files = SecretFiles { issuer_file: Some(path), ..SecretFiles::default() };
        let refused = Secrets::load(&files, dir.path(), true).expect_err("refused");
        assert!(format!("{refused:#}").contains("at least 16"), "{refused:#}");
    }
}
