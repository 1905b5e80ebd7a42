//! One token for the whole process: Ctrl-C or SIGTERM cancels it, a second one ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Longest drain: a service that has not finished by then is named in the log and left behind.
pub const DRAIN: Duration = Duration::from_secs(20);

/// Cancels `token` on the first signal; exits with 130 on the second.
pub fn on_signal(token: CancellationToken) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(130);
            }
            tracing::info!("shutting down; a second signal ends the process at once");
            token.cancel();
        }
    });
    Ok(())
}
