//! Who leads: holds the lease row by renewing it, or waits until nobody does and takes it. It never decides a tier and
//! pushes nothing; that an old leader can do no harm is the fence of the store and of the cores, not this clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{Clock, Term};

use crate::plan_store::{Leader, PlanStore, StoreError};

/// A lease that stands still for this long is nobody's any more. With the pauses between looks and the load of the
/// plan a fail-over takes some 4 s.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How often a leader renews and a stand-by looks: four tries in each lease.
const EVERY: Duration = Duration::from_millis(750);
/// A lease whose last renewal lies this far back by its holder's clock is taken at the first look after a start: no two
/// clocks of one site differ by as much, and if they did the fence would still hold.
const LONG_AGO: Duration = Duration::from_secs(9);

/// What this control plane is at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// It has not looked yet.
    Unknown,
    /// Another one leads (or nobody can be reached); the lease row as last seen.
    Standby(Leader),
    /// It leads.
    Leading(Term),
}

/// The election's parts.
pub(crate) struct Election {
    pub store: Arc<dyn PlanStore>,
    pub clock: Arc<dyn Clock>,
    /// Our name. A row that holds it at our start was our own former life's.
    pub me: String,
    /// Where our ops REST answers.
    pub url: String,
    /// Cores have heard of this term: ours must rise above it.
    pub raise: mpsc::Receiver<Term>,
    pub out: watch::Sender<Leadership>,
}

/// What a stand-by knows of the lease: as it was seen first, and when.
struct Watched(Leader, Instant);

impl Election {
    /// Takes part until `shutdown`, then gives the lease back.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut watched: Option<Watched> = None;
        let mut renewed = Instant::now();
        let lease = self.clock.real(LEASE);
        let every = self.clock.real(EVERY);
        loop {
            let now = *self.out.borrow() == Leadership::Unknown;
            let led = match &*self.out.borrow() {
                Leadership::Leading(term) => Some(*term),
                _ => None,
            };
            let worked = match led {
                Some(term) => self.renew(term, &mut renewed).await,
                None => self.look(&mut watched, lease).await,
            };
            if let Err(error) = worked {
                if now {
                    tracing::warn!(%error, "the plan store does not answer yet; trying on");
                }
                if led.is_some() && renewed.elapsed() >= lease {
                    tracing::warn!(%error, "the lease could not be renewed; stepping down");
                    watched = None;
                    self.out.send_replace(Leadership::Standby(Leader::default()));
                }
            } else if led.is_none() && matches!(*self.out.borrow(), Leadership::Leading(_)) {
                (renewed, watched) = (Instant::now(), None);
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(above) = self.raise.recv() => self.raise(above).await,
                () = tokio::time::sleep(every) => {}
            }
        }
        let last = self.out.borrow().clone();
        if let Leadership::Leading(term) = last {
            self.out.send_replace(Leadership::Standby(Leader::default()));
            if let Err(error) = self.store.resign(term).await {
                tracing::warn!(%error, "the lease could not be given back; it runs out by itself");
            }
        }
    }

    async fn renew(&self, term: Term, renewed: &mut Instant) -> Result<(), StoreError> {
        let begun = Instant::now();
        if self.store.renew(term, self.clock.now()).await? {
            *renewed = begun;
        } else {
            let leader = self.store.leader().await?;
            tracing::warn!(%term, newer = %leader.term, holder = ?leader.holder, "another control plane leads");
            self.out.send_replace(Leadership::Standby(leader));
        }
        Ok(())
    }

    async fn look(&self, watched: &mut Option<Watched>, lease: Duration) -> Result<(), StoreError> {
        let seen = self.store.leader().await?;
        let first = watched.is_none();
        let same = watched.as_ref().is_some_and(|w| (w.0.term, w.0.beat) == (seen.term, seen.beat));
        if !same {
            *watched = Some(Watched(seen.clone(), Instant::now()));
        }
        let still = watched.as_ref().is_some_and(|w| w.1.elapsed() >= lease);
        let own_past = first && *self.out.borrow() == Leadership::Unknown && seen.holder.as_deref() == Some(&*self.me);
        let long_ago = first && self.clock.now().since(seen.renewed_at) >= LONG_AGO;
        let free = seen.holder.is_none() || still || own_past || long_ago;
        if free && let Some(term) = self.store.campaign(&self.me, &self.url, &seen, self.clock.now()).await? {
            tracing::info!(%term, me = %self.me, before = ?seen.holder, "this control plane leads");
            self.out.send_replace(Leadership::Leading(term));
            return Ok(());
        }
        self.out.send_if_modified(|out| {
            let next = Leadership::Standby(seen);
            let news = *out != next;
            *out = next;
            news
        });
        Ok(())
    }

    async fn raise(&self, above: Term) {
        let last = self.out.borrow().clone();
        let Leadership::Leading(term) = last else { return };
        if above < term {
            return;
        }
        match self.store.raise_term(term, above).await {
            Ok(Some(raised)) => {
                tracing::info!(from = %term, to = %raised, "a core has heard of a later leader; the term is raised");
                self.out.send_replace(Leadership::Leading(raised));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the term could not be raised; trying on"),
        }
    }
}
