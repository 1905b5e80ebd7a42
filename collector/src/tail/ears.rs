//! Hears from the system which files changed, so that a line is seen in milliseconds. It is only ever a hint: what
//! it misses, the regular look at every log finds, and a folder that it is found to be deaf to is polled.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, CreateKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Most changed files that are remembered between two looks; with more, every log is looked at.
const MAX_HEARD: usize = 8_192;
/// Most folders that are watched: the usual limit of a user is 8,192 watches and more, for all programs together.
const MAX_FOLDERS: usize = 4_096;

/// What was heard since the last look.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub paths: HashSet<PathBuf>,
    /// Something was missed: every log is to be looked at.
    pub all: bool,
    /// A folder appeared.
    pub folder: bool,
}

/// How one folder is attended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    /// The system says what changes in it.
    Watched,
    /// It cannot be watched, or changed without a word: a network file system, a limit that was reached.
    Deaf {
        /// Whether there is a watch, so that a word may still come.
        watched: bool,
    },
}

/// The watches.
pub(crate) struct Ears {
    watcher: Option<RecommendedWatcher>,
    heard: Arc<Mutex<Heard>>,
    bell: Arc<Notify>,
    folders: HashMap<PathBuf, Folder>,
}

impl Ears {
    /// Without `watch` every folder is polled.
    pub fn new(watch: bool) -> Self {
        let (heard, bell) = (Arc::new(Mutex::new(Heard::default())), Arc::new(Notify::new()));
        let (put, ring) = (Arc::clone(&heard), Arc::clone(&bell));
        let hear = move |event: notify::Result<Event>| {
            if note(&mut put.lock(), event) {
                ring.notify_one();
            }
        };
        let watcher = watch.then(|| notify::recommended_watcher(hear)).and_then(|made| {
            made.inspect_err(|error| tracing::warn!(%error, "changes of files cannot be watched; logs are polled")).ok()
        });
        Self { watcher, heard, bell, folders: HashMap::new() }
    }

    /// Rings when something was heard.
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Watches a folder, if it is not heard already.
    pub fn attend(&mut self, folder: &Path) {
        let before = self.folders.get(folder).copied();
        if before == Some(Folder::Watched) || (before.is_none() && self.folders.len() >= MAX_FOLDERS) {
            return;
        }
        let known = before.is_some();
        let watched = self.watcher.as_mut().map(|watcher| watcher.watch(folder, RecursiveMode::NonRecursive));
        let now = match watched {
            // Deaf until something is heard: the folder may be another one of the same name by now, or the same.
            Some(Ok(())) if known => Folder::Deaf { watched: true },
            Some(Ok(())) => Folder::Watched,
            Some(Err(error)) => {
                if !known {
                    tracing::warn!(folder = %folder.display(), %error, "folder cannot be watched; its logs are polled");
                }
                Folder::Deaf { watched: false }
            }
            None => Folder::Deaf { watched: false },
        };
        self.folders.insert(folder.to_owned(), now);
    }

    /// What was heard since the last call.
    pub fn take(&mut self) -> Heard {
        let heard = std::mem::take(&mut *self.heard.lock());
        for folder in heard.paths.iter().filter_map(|path| path.parent()) {
            if let Some(state @ Folder::Deaf { watched: true }) = self.folders.get_mut(folder) {
                tracing::info!(folder = %folder.display(), "folder is heard again");
                *state = Folder::Watched;
            }
        }
        heard
    }

    /// A log in this folder changed and nothing was heard of it.
    pub fn missed(&mut self, folder: &Path) {
        if let Some(state @ Folder::Watched) = self.folders.get_mut(folder) {
            tracing::warn!(folder = %folder.display(), "a log changed unheard; its folder is polled");
            *state = Folder::Deaf { watched: true };
        }
    }

    /// Whether changes in this folder are heard.
    pub fn hears(&self, folder: &Path) -> bool {
        self.folders.get(folder) == Some(&Folder::Watched)
    }
}

/// Notes an event; whether it is worth waking for.
fn note(heard: &mut Heard, event: notify::Result<Event>) -> bool {
    let Ok(event) = event else {
        heard.all = true;
        return true;
    };
    if event.need_rescan() {
        heard.all = true;
        return true;
    }
    match event.kind {
        // Our own opening and reading.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        EventKind::Create(CreateKind::Folder) => heard.folder = true,
        _ => {}
    }
    for path in event.paths {
        if heard.paths.len() >= MAX_HEARD {
            heard.all = true;
            heard.paths.clear();
        }
        heard.paths.insert(path);
    }
    true
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, ModifyKind};

    use super::*;

    #[test]
    fn too_much_to_remember_becomes_a_look_at_everything() {
        let mut heard = Heard::default();
        let changed = |n: usize| {
            let kind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
            Ok(Event::new(kind).add_path(PathBuf::from(format!("/logs/{n}"))))
        };
        assert!(!note(&mut heard, Ok(Event::new(EventKind::Access(AccessKind::Open(AccessMode::Read))))));
        for n in 0..MAX_HEARD {
            note(&mut heard, changed(n));
        }
        assert!(!heard.all);
        note(&mut heard, changed(MAX_HEARD));
        assert!(heard.all && heard.paths.len() == 1);
        let mut heard = Heard::default();
        assert!(note(&mut heard, Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan))));
        assert!(heard.all);
    }

    #[test]
    fn a_folder_that_changed_unheard_is_polled_until_it_is_heard_again() {
        let folder = tempfile::tempdir().expect("folder");
        let mut ears = Ears::new(true);
        ears.attend(folder.path());
        assert!(ears.hears(folder.path()));
        ears.missed(folder.path());
        assert!(!ears.hears(folder.path()));
        ears.heard.lock().paths.insert(folder.path().join("access.log"));
        ears.take();
        assert!(ears.hears(folder.path()));
        assert!(!Ears::new(false).hears(folder.path()));
        let mut ears = Ears::new(true);
        ears.attend(Path::new("/no/such/folder"));
        assert!(!ears.hears(Path::new("/no/such/folder")));
    }
}
