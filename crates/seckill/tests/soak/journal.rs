//! What the shoppers of a soak were told, in the auditor's format, written by one thread. Whatever a shopper learned
//! is noted before he goes on.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use audit::journal::Entry;

/// Entries on their way to the file; shoppers wait when it is full.
const QUEUE: usize = 65_536;

/// The sending half.
#[derive(Clone)]
pub struct Journal(SyncSender<Entry>);

impl Journal {
    /// Notes one answer.
    pub fn note(&self, entry: Entry) {
        self.0.send(entry).expect("the journal's thread lives as long as this");
    }
}

/// The thread that writes; ends when the last [`Journal`] is gone.
pub struct Writer(JoinHandle<u64>);

impl Writer {
    /// Waits until everything is in the file; answers how many entries.
    pub fn close(self) -> u64 {
        self.0.join().unwrap()
    }
}

/// A new journal where `seckill audit` finds it.
pub fn open(data: &Path) -> (Journal, Writer) {
    let folder = data.join("journals");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("shoppers-{}.jsonl", jiff::Timestamp::now().as_millisecond()));
    let mut file = BufWriter::new(File::create_new(path).unwrap());
    let (sender, entries) = sync_channel::<Entry>(QUEUE);
    let writer = std::thread::spawn(move || {
        let mut count = 0;
        for entry in entries {
            serde_json::to_writer(&mut file, &entry).unwrap();
            file.write_all(b"\n").unwrap();
            count += 1;
        }
        file.flush().unwrap();
        count
    });
    (Journal(sender), Writer(writer))
}
