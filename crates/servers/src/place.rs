//! Where programs lie and where script/setup-servers puts what Debian does not have. Never installs anything.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ServerError;
use crate::error::at;

/// The program of this name on the path or where Debian keeps servers.
pub(crate) fn program(name: &str) -> Result<PathBuf, ServerError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| ServerError::Missing(name.to_owned()))
}

/// `${XDG_CACHE_HOME:-$HOME/.cache}/seckill/servers`, as script/setup.sh has it.
pub(crate) fn cache() -> Result<PathBuf, ServerError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let cache = cache.ok_or_else(|| ServerError::Missing("a home directory".to_owned()))?;
    Ok(cache.join("seckill/servers"))
}

/// A server's own directory, made if it is not there, as an absolute path without links.
pub(crate) fn own(dir: &Path) -> Result<PathBuf, ServerError> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    dir.canonicalize().map_err(at(dir))
}

/// Writes a file of the server's directory.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), ServerError> {
    fs::write(path, text).map_err(at(path))
}

/// Whether this process may do everything: several servers then want to be told under which name to run.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
