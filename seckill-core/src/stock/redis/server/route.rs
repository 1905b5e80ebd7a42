//! Which server has which product: hash slots, the cluster's slot table, redirections. Pure.

use redis::Value;
use types::Sku;

use super::options::NodeAddress;

/// Hash slots of a Redis Cluster; its protocol fixes them.
pub(super) const SLOTS: u16 = 16_384;
/// Most ranges of a slot table that are believed: one per slot.
const MAX_RANGES: usize = SLOTS as usize;

/// The slot of a product's keys: CRC16 (XMODEM) of what stands in the key's braces.
pub(super) fn slot(product: &Sku) -> u16 {
    let crc = product.as_str().bytes().fold(0u16, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    });
    crc % SLOTS
}

/// Who owns which slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SlotTable {
    /// First and last slot with their owner, by rising first slot.
    ranges: Vec<(u16, u16, NodeAddress)>,
}

impl SlotTable {
    /// Everything in one place.
    pub fn single(node: NodeAddress) -> Self {
        Self { ranges: vec![(0, SLOTS - 1, node)] }
    }
    /// From the answer to `CLUSTER SLOTS` that `asked` gave; `None` if it is not one.
    pub fn parse(answer: &Value, asked: &NodeAddress) -> Option<Self> {
        let Value::Array(rows) = answer else { return None };
        if rows.len() > MAX_RANGES {
            return None;
        }
        let mut ranges = rows.iter().map(|row| range(row, asked)).collect::<Option<Vec<_>>>()?;
        ranges.sort();
        Some(Self { ranges })
    }
    /// The owner of a slot; `None` if the table has none.
    pub fn owner(&self, slot: u16) -> Option<&NodeAddress> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, node) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then_some(node)
    }
    /// Every owner, some more than once.
    pub fn owners(&self) -> impl Iterator<Item = &NodeAddress> {
        self.ranges.iter().map(|(_, _, node)| node)
    }
    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

fn range(row: &Value, asked: &NodeAddress) -> Option<(u16, u16, NodeAddress)> {
    let Value::Array(parts) = row else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else { return None };
    let [host, Value::Int(port), ..] = &master[..] else { return None };
    let host = match host {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::SimpleString(text) => text,
        Value::Nil => "",
        _ => return None,
    };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    if first > last || last >= SLOTS {
        return None;
    }
    // A node that does not know its own name says nothing, or "?": it is where it was asked.
    let host = if host.is_empty() || host == "?" { asked.host() } else { host };
    Some((first, last, NodeAddress::new(host, u16::try_from(*port).ok().filter(|p| *p != 0)?)))
}

/// The address in a redirection, `SLOT HOST:PORT` (an IPv6 address without brackets), from `asked`.
pub(super) fn redirected(detail: &str, asked: &NodeAddress) -> Option<NodeAddress> {
    let address = detail.split_ascii_whitespace().nth(1)?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() || host == "?" { asked.host() } else { host };
    Some(NodeAddress::new(host, port.parse().ok().filter(|p| *p != 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> NodeAddress {
        NodeAddress::new("10.0.0.1", port)
    }
    fn row(first: i64, last: i64, host: &str, port: i64) -> Value {
        let master = vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString(b"id".to_vec())];
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(master)])
    }

    #[test]
    fn the_slot_is_redis_own() {
        // The reference value of the cluster specification: CRC16 of "123456789" is 0x31C3.
        assert_eq!(slot(&Sku::new("123456789").expect("sku")), 0x31C3);
        assert_eq!(slot(&Sku::new("foo").expect("sku")), 12_182);
    }

    #[test]
    fn a_table_knows_its_owners_and_its_gaps() {
        let answer = Value::Array(vec![row(100, 200, "10.0.0.1", 2), row(0, 50, "", 1), row(201, 16_383, "?", 3)]);
        let table = SlotTable::parse(&answer, &node(9)).expect("a table");
        assert_eq!(table.owner(0), Some(&node(1)));
        assert_eq!(table.owner(50), Some(&node(1)));
        assert_eq!(table.owner(51), None);
        assert_eq!(table.owner(150), Some(&node(2)));
        assert_eq!(table.owner(16_383), Some(&node(3)));
        assert_eq!(SlotTable::default().owner(1), None);
        assert_eq!(SlotTable::single(node(4)).owner(16_383), Some(&node(4)));
    }

    #[test]
    fn what_is_no_table_is_not_believed() {
        for bad in [row(5, 4, "h", 1), row(0, 16_384, "h", 1), row(-1, 4, "h", 1), row(0, 4, "h", 0), Value::Nil] {
            assert_eq!(SlotTable::parse(&Value::Array(vec![bad.clone()]), &node(1)), None, "{bad:?}");
        }
        assert_eq!(SlotTable::parse(&Value::Okay, &node(1)), None);
    }

    #[test]
    fn a_redirection_names_its_target() {
        assert_eq!(redirected("3999 10.0.0.1:6381", &node(9)), Some(node(6381)));
        assert_eq!(redirected("3999 :6381", &node(9)), Some(node(6381)));
        assert_eq!(redirected("3999 ::1:6381", &node(9)), Some(NodeAddress::new("::1", 6381)));
        for bad in ["", "3999", "3999 host", "3999 host:0", "3999 host:x"] {
            assert_eq!(redirected(bad, &node(9)), None, "{bad:?}");
        }
    }
}
