//! Ports for servers that are killed and come back on the same one: held by a lock file as long as the server's
//! value lives, so that no other test takes the port while the server is down.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::ServerError;
use crate::error::at;

/// Below the range from which Linux takes the near end of outgoing connections (32768 up), so that none of those
/// can sit on the port of a server that is down.
const FIRST: u16 = 20_000;
/// One past the last.
const BEHIND: u16 = 30_000;

/// A loopback port that no other holder of a `Port` on this machine has; free again when dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves one on which nothing listens.
    pub fn reserve() -> Result<Self, ServerError> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = std::env::temp_dir().join(format!("seckill-ports-{}", rustix::process::getuid().as_raw()));
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let count = BEHIND - FIRST;
        // Different processes begin at different places: fewer collisions, nothing depends on it.
        let start = (std::process::id() % 200) as u16 * 50;
        for _ in 0..count {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % count;
            let number = FIRST + (start + step) % count;
            let path = folder.join(number.to_string());
            let lock = File::create(&path).map_err(at(&path))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(ServerError::NoPort(FIRST, BEHIND - 1))
    }

    /// The number.
    pub const fn number(&self) -> u16 {
        self.number
    }
}
