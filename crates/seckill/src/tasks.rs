//! The services of one process as tasks: the first that ends stops all, and the first failure is the result.

use std::convert::Infallible;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::shutdown;

/// Running services.
pub struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl Tasks {
    /// None yet; `stop` is cancelled when one of them ends.
    pub fn new(stop: CancellationToken) -> Self {
        Self { set: JoinSet::new(), stop }
    }

    /// Runs a service.
    pub fn spawn<E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        service: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.set.spawn(async move {
            let end = service.await;
            if let Err(error) = &end {
                tracing::error!(service = name, %error, "service failed; the process ends");
            }
            // No service may be missing while the others go on as if it were there.
            stop.cancel();
            (name, end.map_err(anyhow::Error::from))
        });
    }

    /// Runs what cannot fail and only ends when it is told to.
    pub fn spawn_endless(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            work.await;
            Ok::<_, Infallible>(())
        });
    }

    /// Asks all to end and waits for them, within [`shutdown::DRAIN`]; the first failure is the result.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let mut first = Ok(());
        let drained = tokio::time::timeout(shutdown::DRAIN, async {
            while let Some(joined) = self.set.join_next().await {
                let (name, end) = joined.context("a service panicked")?;
                if let (Err(error), Ok(())) = (end, &first) {
                    first = Err(error.context(name));
                }
            }
            Ok::<_, anyhow::Error>(())
        })
        .await;
        match drained {
            Err(_) => bail!("{} services did not end within {:?}", self.set.len(), shutdown::DRAIN),
            Ok(joined) => joined.and(first),
        }
    }
}
