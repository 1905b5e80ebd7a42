//! The event log port (topics, partitions, consumer groups, offsets) and its providers.
