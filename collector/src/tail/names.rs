//! What a file's name says: whether it is a pattern, which log a rotated file belonged to, what a pattern names.
//! Pure.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use types::Invalid;

/// What compressed files end with. Only the first kind is read.
const COMPRESSED: [&str; 5] = [".gz", ".bz2", ".xz", ".zst", ".lz4"];
/// Most digits of a rotation's number: `access.log.365`. A longer one is a date.
const MAX_NUMBER: usize = 3;

/// Whether a path in the configuration is a pattern.
pub(crate) fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(['*', '?', '[', '{']))
}

/// Whether a file of this name holds gzip'd lines.
pub(crate) fn is_gzip(name: &str) -> bool {
    name.ends_with(COMPRESSED[0])
}

/// Whether a file of this name is compressed in a way that is not read.
pub(crate) fn is_opaque(name: &str) -> bool {
    COMPRESSED[1..].iter().any(|end| name.ends_with(end))
}

/// The name of the log that a rotated file was: `access.log` of `access.log.1`, `access.log.2.gz`,
/// `access.log-20261123`, `access.log.2026-11-23`, `access.log.old`. `None` if the name is not one that rotation
/// leaves; `app-1.log` and `worker-2` are logs of their own.
pub(crate) fn log_of(name: &str) -> Option<&str> {
    let plain = COMPRESSED.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    for (at, mark) in plain.char_indices().filter(|(_, c)| matches!(c, '.' | '-')) {
        let (log, end) = (&plain[..at], &plain[at + 1..]);
        if log.is_empty() {
            continue;
        }
        let digits = end.bytes().filter(u8::is_ascii_digit).count();
        let number = mark == '.' && digits == end.len() && (1..=MAX_NUMBER).contains(&digits);
        let begins_with_digit = end.bytes().next().is_some_and(|b| b.is_ascii_digit());
        let date = begins_with_digit
            && digits >= 6
            && end.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b':' | b'T' | b'Z'));
        if number || date || (mark == '.' && matches!(end, "old" | "bak")) {
            return Some(log);
        }
    }
    // `access.log.gz`, compressed in place.
    (plain.len() < name.len()).then_some(plain)
}

/// The patterns of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patterns {
    named: GlobSet,
    excluded: GlobSet,
    /// Folders to look in, each with how many folders deep; `None` for any depth.
    pub roots: Vec<(PathBuf, Option<usize>)>,
}

impl Patterns {
    /// From absolute patterns of logs and the patterns of what is never one.
    pub fn new(named: &[PathBuf], excluded: &[PathBuf]) -> Result<Self, Invalid> {
        let mut roots: Vec<(PathBuf, Option<usize>)> = Vec::new();
        for pattern in named {
            let root = root(pattern);
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        Ok(Self { named: set("paths", named)?, excluded: set("exclude", excluded)?, roots })
    }
    /// Whether a pattern names this path and none excludes it.
    pub fn name(&self, path: &Path) -> bool {
        self.named.is_match(path) && !self.exclude(path)
    }
    /// Whether a pattern excludes this path.
    pub fn exclude(&self, path: &Path) -> bool {
        self.excluded.is_match(path)
    }
    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
}

fn set(what: &'static str, patterns: &[PathBuf]) -> Result<GlobSet, Invalid> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let text = pattern.to_str().ok_or_else(|| Invalid::new(what, "a pattern is not UTF-8"))?;
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map_err(|e| Invalid::new(what, format!("{text} is no pattern: {}", e.kind())))?;
        set.add(glob);
    }
    set.build().map_err(|e| Invalid::new(what, format!("the patterns are too large together: {e}")))
}

/// Where the files of a pattern lie: the folder before its first wildcard, and how deep below.
fn root(pattern: &Path) -> (PathBuf, Option<usize>) {
    let mut root = PathBuf::new();
    let mut rest = pattern.components();
    for part in rest.by_ref() {
        if is_pattern(Path::new(part.as_os_str())) {
            let wild: Vec<Component<'_>> = std::iter::once(part).chain(rest.clone()).collect();
            let any = wild.iter().any(|c| c.as_os_str().to_str().is_some_and(|c| c.contains("**")));
            return (root, (!any).then_some(wild.len() - 1));
        }
        root.push(part);
    }
    (root, Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_lead_to_their_log() {
        for (name, log) in [
            ("access.log.1", Some("access.log")),
            ("access.log.12.gz", Some("access.log")),
            ("access.log-20261123", Some("access.log")),
            ("access.log-20261123-1300.gz", Some("access.log")),
            ("access.log.2026-11-23T10:00:00Z", Some("access.log")),
            ("access.log.old", Some("access.log")),
            ("access.log.gz", Some("access.log")),
            ("access.log.1.zst", Some("access.log")),
            ("access.log", None),
            ("access-2026-11-23.log", None),
            ("app-1.log", None),
            ("worker-2", None),
            ("error.log.txt", None),
            (".1", None),
            ("10.0.0.1.log", None),
            ("", None),
        ] {
            assert_eq!(log_of(name), log, "{name}");
        }
    }

    #[test]
    fn a_pattern_names_files_in_its_folders_only() {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        let patterns = Patterns::new(&paths(&["/logs/*/access.log*", "/all/**/*.log"]), &paths(&["**/*debug*"]))
            .expect("patterns");
        assert_eq!(patterns.roots, [(PathBuf::from("/logs"), Some(1)), (PathBuf::from("/all"), None)]);
        for (path, named) in [
            ("/logs/a/access.log", true),
            ("/logs/a/access.log.1.gz", true),
            ("/logs/a/b/access.log", false),
            ("/all/x.log", true),
            ("/all/deep/er/x.log", true),
            ("/all/deep/debug.log", false),
        ] {
            assert_eq!(patterns.name(Path::new(path)), named, "{path}");
        }
        assert!(Patterns::new(&paths(&["/logs/[a"]), &[]).is_err());
    }
}
