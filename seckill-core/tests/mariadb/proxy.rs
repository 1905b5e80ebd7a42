//! A proxy between a store and its server that loses one commit's answer, or the commit itself, when told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Next {
    Pass = 0,
    /// The server commits; its answer is lost with the connection.
    LoseAnswer = 1,
    /// The commit never reaches the server, and both ends learn that the connection is gone.
    LoseCommit = 2,
    /// The client's connection breaks, and the server believes that it is still there: it holds its locks.
    Freeze = 3,
}

/// A running proxy.
pub struct Proxy {
    pub port: u16,
    next: Arc<AtomicU8>,
    lost: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (next, lost) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicUsize::new(0)));
        let (n, l) = (Arc::clone(&next), Arc::clone(&lost));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, Arc::clone(&n), Arc::clone(&l)));
            }
        });
        Self { port, next, lost }
    }
    pub fn set(&self, next: Next) {
        self.next.store(next as u8, Ordering::SeqCst);
    }
    /// How many commits were interfered with.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

async fn carry(mut client: TcpStream, server: u16, next: Arc<AtomicU8>, lost: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(n @ 1..) = read else { return };
                // A packet of the text "COMMIT": length 7, number 0, command 3.
                if up[..n] == *b"\x07\0\0\0\x03COMMIT" {
                    let what = next.swap(0, Ordering::SeqCst);
                    if what != Next::Pass as u8 {
                        lost.fetch_add(1, Ordering::SeqCst);
                    }
                    if what == Next::LoseCommit as u8 {
                        return;
                    }
                    if what == Next::Freeze as u8 {
                        drop(client);
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        return;
                    }
                    if what == Next::LoseAnswer as u8 {
                        server.write_all(&up[..n]).await.unwrap();
                        let _answer = server.read(&mut down).await;
                        return;
                    }
                }
                if server.write_all(&up[..n]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(n @ 1..) = read else { return };
                if client.write_all(&down[..n]).await.is_err() { return }
            }
        }
    }
}
