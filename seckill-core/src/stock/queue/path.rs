//! The queue path: the attempt goes to the topic `purchase-queue`, behind those of its product, or is refused at
//! once when too many stand there. Nothing is decided here.

use eventlog::EventLogError;

use super::backlog::{Entered, Room};
use super::record::{AttemptRecord, PurchaseRecord};
use crate::shared::Shared;
use crate::stock::store::ProductRow;

/// Queues an attempt, if the backlog allows. An attempt whose record failed to be appended counts no longer.
pub(crate) async fn send(shared: &Shared, row: &ProductRow, attempt: AttemptRecord) -> Result<Entered, EventLogError> {
    let room = Room { sellable: row.state.sellable, time: shared.options.deadline, rate: shared.queue_rate.get() };
    let entered = shared.backlog.enter(&attempt, room);
    if matches!(entered, Entered::At { .. }) {
        append(shared, attempt).await?;
    }
    Ok(entered)
}

/// Appends an attempt without asking for room: it has a ticket already.
pub(crate) async fn append(shared: &Shared, attempt: AttemptRecord) -> Result<(), EventLogError> {
    let (product, name) = (attempt.product.clone(), attempt.name());
    let appended = match PurchaseRecord::Attempt(attempt).encode(shared.now()) {
        Ok(record) => shared.append_purchase(&shared.topics.queue, record).await,
        Err(error) => Err(EventLogError::Refused(error.to_string())),
    };
    match appended {
        Ok(at) => {
            if let Some(at) = at {
                shared.backlog.lies_at(&product, &name, at);
            }
            Ok(())
        }
        Err(error) => {
            shared.backlog.leave(&product, &name);
            Err(error)
        }
    }
}
