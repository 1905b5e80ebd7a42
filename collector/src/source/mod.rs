//! Lines out of the event log: the records that a shipper (Filebeat) put into topic `access-log`. Each record is
//! one line, or a list of them; its place in the log is what names a line downstream, its place in its file is what
//! tells a repeat.

mod files;
mod reading;
mod resume;
mod topic;

pub(crate) use files::{Files, Key as FileKey};
pub use reading::LINES_PER_RECORD;
pub use topic::PartitionStatus;
pub(crate) use topic::TopicSource;
