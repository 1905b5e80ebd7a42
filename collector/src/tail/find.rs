//! Looks through folders for the files that patterns name. It must never follow a link out of a tree, nor look
//! through more than it can in a moment.

use std::fs;
use std::path::PathBuf;

use super::names::Patterns;

/// Most entries that one look takes: some 200 ms.
const MAX_ENTRIES: usize = 200_000;
/// Deepest folder below a pattern's root for `**`.
const MAX_DEPTH: usize = 16;

/// What a look found.
#[derive(Debug, Default)]
pub(crate) struct Harvest {
    /// Files that a pattern names, sorted.
    pub files: Vec<PathBuf>,
    /// Folders in which such files may appear.
    pub folders: Vec<PathBuf>,
    /// Whether there was more than may be looked through.
    pub cut_short: bool,
}

/// Looks through every root of the patterns. What cannot be read is passed over: it is looked at again next time.
pub(crate) fn look(patterns: &Patterns) -> Harvest {
    let mut harvest = Harvest::default();
    let mut left = MAX_ENTRIES;
    for (root, depth) in &patterns.roots {
        let mut open = vec![(root.clone(), depth.unwrap_or(MAX_DEPTH))];
        while let Some((folder, depth)) = open.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                if left == 0 {
                    harvest.cut_short = true;
                    break;
                }
                left -= 1;
                let Ok(kind) = entry.file_type() else { continue };
                let path = entry.path();
                if kind.is_dir() {
                    if depth > 0 {
                        open.push((path, depth - 1));
                    }
                } else if (kind.is_file() || path.is_file()) && patterns.name(&path) {
                    harvest.files.push(path);
                }
            }
            harvest.folders.push(folder);
        }
    }
    harvest.files.sort();
    harvest.files.dedup();
    harvest.folders.sort();
    harvest.folders.dedup();
    harvest
}
