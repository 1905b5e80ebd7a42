//! The names that Druid and JDBC have for Arrow's types. It converts no values.

use datafusion::arrow::datatypes::DataType;

/// One type by its three names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TypeNames {
    /// Druid's run-time type, as `typesHeader` shows it.
    pub druid: String,
    /// SQL type, as `sqlTypesHeader` and `INFORMATION_SCHEMA` show it.
    pub sql: &'static str,
    /// `java.sql.Types`, as `INFORMATION_SCHEMA` shows it.
    pub jdbc: i64,
}

impl TypeNames {
    /// The names of an Arrow type.
    pub(super) fn of(kind: &DataType) -> Self {
        let (druid, sql, jdbc) = match kind {
            DataType::Timestamp(..) => ("LONG", "TIMESTAMP", 93),
            DataType::Date32 | DataType::Date64 => ("LONG", "DATE", 91),
            DataType::Boolean => ("LONG", "BOOLEAN", 16),
            k if k.is_integer() => ("LONG", "BIGINT", -5),
            DataType::Float16 | DataType::Float32 => ("FLOAT", "FLOAT", 6),
            DataType::Float64 => ("DOUBLE", "DOUBLE", 8),
            k if k.is_decimal() => ("DOUBLE", "DECIMAL", 3),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => ("STRING", "VARCHAR", 12),
            DataType::Dictionary(_, value) => return Self::of(value),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let druid = format!("ARRAY<{}>", Self::of(item.data_type()).druid);
                return Self { druid, sql: "ARRAY", jdbc: 2003 };
            }
            _ => ("COMPLEX", "OTHER", 1111),
        };
        Self { druid: druid.to_owned(), sql, jdbc }
    }
}
