//! SQL providers of the stock store.
