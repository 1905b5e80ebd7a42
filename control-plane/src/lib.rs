//! Heat in, a plan with reasons out; overrides, audit log, push until acknowledged.
