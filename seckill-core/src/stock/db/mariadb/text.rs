//! Builds the SQL text of a script: several statements that cross the wire together. Values enter it only as
//! typed literals that cannot end themselves; nothing else may put text of the outside into a statement.
//!
//! Why text and not prepared statements: a group's statements have as many rows as the group has attempts, so each
//! would be prepared for one use; and one round trip for all reads of a group, and one for all its writes, is what
//! makes a group cheap on one connection.

use std::fmt::Write as _;

use types::Timestamp;

use super::fault::Fault;

/// Rows in one statement. More go into a further statement: MariaDB gives up on an index once an `IN` list makes
/// more than 16,000 range arguments (`optimizer_max_sel_args`), some 3 for each pair.
pub(super) const ROWS: usize = 1_000;

/// Statements that are sent together and run in order until the first that fails. Each has a label, by which its
/// answer is found and its failure is told.
#[derive(Debug, Default)]
pub(super) struct Script {
    text: String,
    labels: Vec<&'static str>,
}

impl Script {
    /// Begins a statement with text of this program.
    pub(super) fn add(&mut self, label: &'static str, sql: &'static str) -> &mut Self {
        if !self.labels.is_empty() {
            self.text.push_str(";\n");
        }
        self.labels.push(label);
        self.sql(sql)
    }
    /// Goes on with text of this program.
    pub(super) fn sql(&mut self, sql: &'static str) -> &mut Self {
        self.text.push_str(sql);
        self
    }
    /// A text value: quoted if every byte of it is harmless whatever the server's modes are, else in hexadecimal.
    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        let harmless =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-' | b'@' | b':' | b'/' | b' ');
        if value.bytes().all(harmless) {
            self.text.push('\'');
            self.text.push_str(value);
            self.text.push('\'');
        } else {
            self.text.push_str("_utf8mb4 X'");
            for byte in value.bytes() {
                let _infallible = write!(self.text, "{byte:02x}");
            }
            self.text.push_str("' COLLATE utf8mb4_bin");
        }
        self
    }
    /// A text value or NULL.
    pub(super) fn text_if_any(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.sql("NULL"),
        }
    }
    /// A number.
    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        let _infallible = write!(self.text, "{value}");
        self
    }
    /// A count; what does not fit a column is a fault of the command.
    pub(super) fn count(&mut self, value: u64) -> Result<&mut Self, Fault> {
        let value = i64::try_from(value).map_err(|_| Fault::broken(format!("{value} does not fit a column")))?;
        Ok(self.int(value))
    }
    /// A moment.
    pub(super) fn time(&mut self, value: Timestamp) -> &mut Self {
        self.int(value.millis())
    }
    /// Something that prints as hexadecimal digits.
    pub(super) fn id(&mut self, value: impl std::fmt::Display) -> &mut Self {
        let text = value.to_string();
        self.text(&text)
    }
    /// `(a, b, …)`: each item written by `write`, which must write at least one.
    pub(super) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.sql("(");
        self.row(items, &mut write);
        self.sql(")")
    }
    /// `a, b, …`, as [`Self::list`] without the brackets.
    pub(super) fn row<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.sql(", ");
            }
            write(self, item);
        }
        self
    }
    /// As [`Self::row`] for what may fail.
    pub(super) fn try_row<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Fault>,
    ) -> Result<&mut Self, Fault> {
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.sql(", ");
            }
            write(self, item)?;
        }
        Ok(self)
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
    /// The statements' labels, in order.
    pub(super) fn labels(&self) -> &[&'static str] {
        &self.labels
    }
    /// The text to send.
    pub(super) fn as_text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_script_is_its_statements_in_order() {
        let mut script = Script::default();
        script.add("first", "SELECT ").text("a-1").sql(", ").text_if_any(None);
        script.add("second", "SELECT * FROM t WHERE (a, b) IN ").list([("x", 1), ("y'; DROP", -2)], |s, (a, b)| {
            s.sql("(").text(a).sql(", ").int(b).sql(")");
        });
        insta::assert_snapshot!(script.as_text(), @r"
        SELECT 'a-1', NULL;
        SELECT * FROM t WHERE (a, b) IN (('x', 1), (_utf8mb4 X'79273b2044524f50' COLLATE utf8mb4_bin, -2))
        ");
        assert_eq!(script.labels(), ["first", "second"]);
        assert!(script.count(u64::MAX).is_err());
    }

    proptest! {
        /// Whatever the text is, the literal has no quote, backslash or control character but its own quotes.
        #[test]
        fn no_text_leaves_its_literal(value in any::<String>()) {
            let mut script = Script::default();
            script.text(&value);
            let inner = script.as_text().replace("_utf8mb4 X", "").replace(" COLLATE utf8mb4_bin", "");
            let inner = inner.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap();
            prop_assert!(inner.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
            prop_assert!(!inner.contains(['\'', '"', '\\', '`', ';']));
        }
    }
}
