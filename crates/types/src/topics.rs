//! The names of the event log's topics: the whole list of what services say to each other that way.

/// Raw lines from Filebeat.
pub const ACCESS_LOG: &str = "access-log";
/// Decoded product events, in batches, partitioned by page.
pub const PRODUCT_EVENTS: &str = "product-events";
/// The same events one by one as flat JSON objects, for Druid and others, where the collector is told to write them.
pub const PRODUCT_EVENTS_JSON: &str = "product-events-json";
/// Lines that could not be decoded, with reason.
pub const DEAD_LETTERS: &str = "dead-letters";
/// What is hot, from the analyzer, each tick.
pub const HEAT_REPORTS: &str = "heat-reports";
/// What analyzers keep of each partition's shard (compacted by partition): where to read to have its counts again.
pub const ANALYZER_SHARDS: &str = "analyzer-shards";
/// What analyzers of one group tell each other: histograms of counts, and the lines drawn over all of them.
pub const ANALYZER_BOARD: &str = "analyzer-board";
/// Each product's tier, phase and epoch after a move (compacted by product).
pub const PRODUCT_STATE: &str = "product-state";
/// Grants made by a lease store, to be turned into orders; keyed by product.
pub const PURCHASE_GRANTS: &str = "purchase-grants";
/// Purchase attempts of the queue tier; keyed by product.
pub const PURCHASE_QUEUE: &str = "purchase-queue";
/// Every step of every order, from the outbox; keyed by order.
pub const ORDER_EVENTS: &str = "order-events";
