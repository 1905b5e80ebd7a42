//! Lines out of the event log: the records that a shipper (Filebeat) put into topic `access-log`. Each record is
//! one line; its place in the log is what names it downstream, its place in its file is what tells a repeat.

mod files;
mod reading;
mod resume;
mod topic;

pub use topic::PartitionStatus;
pub(crate) use topic::TopicSource;
