//! Events in, exact rolling heat reports and SQL out.
