//! The words of the house as types: ids, money, quantity, time, sale, tier, events and reports. No I/O.
