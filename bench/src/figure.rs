//! A figure: its rounds, what it is held against, and whether its bar holds.

use std::fmt::Write;

use serde_json::{Value, json};

/// One figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// One value for each round.
    pub rounds: Vec<f64>,
    /// Who it is held against, with his rounds in the same run.
    pub against: Option<(String, Vec<f64>)>,
    /// What it has to reach.
    pub bar: Option<Bar>,
}

/// What a figure has to reach.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// The median, at least.
    AtLeast(f64),
    /// The median, at most.
    AtMost(f64),
    /// The median over the other's median, at least.
    RatioAtLeast(f64),
}

impl Figure {
    /// A figure with nothing beside it.
    pub fn new(name: impl Into<String>, unit: &'static str, rounds: Vec<f64>) -> Self {
        Self { name: name.into(), unit, rounds, against: None, bar: None }
    }
    /// Held against another contestant.
    pub fn against(mut self, name: impl Into<String>, rounds: Vec<f64>) -> Self {
        self.against = Some((name.into(), rounds));
        self
    }
    /// With a bar.
    pub fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }
    /// The median round.
    pub fn value(&self) -> f64 {
        median(&self.rounds)
    }
    fn ratio(&self) -> Option<f64> {
        self.against.as_ref().map(|(_, rounds)| self.value() / median(rounds))
    }
    /// Whether the bar holds; `None` without one, or with nobody to hold it against.
    fn holds(&self) -> Option<bool> {
        match self.bar? {
            Bar::AtLeast(bar) => Some(self.value() >= bar),
            Bar::AtMost(bar) => Some(self.value() <= bar),
            Bar::RatioAtLeast(bar) => Some(self.ratio()? >= bar),
        }
    }
    fn bar_text(&self) -> Option<String> {
        Some(match self.bar? {
            Bar::AtLeast(bar) => format!(">= {bar}"),
            Bar::AtMost(bar) => format!("<= {bar}"),
            Bar::RatioAtLeast(bar) => format!("ratio >= {bar}"),
        })
    }
    /// The line of `--json`.
    pub fn line(&self, area: &str) -> Value {
        json!({
            "area": area,
            "name": self.name,
            "value": round(self.value()),
            "unit": self.unit,
            "against": self.against.as_ref().map(|(name, _)| name),
            "against_value": self.against.as_ref().map(|(_, rounds)| round(median(rounds))),
            "ratio": self.ratio().map(|ratio| (ratio * 1000.0).round() / 1000.0),
            "bar": self.bar_text(),
            "holds": self.holds(),
            "rounds": self.rounds.len(),
            "spread": (spread(&self.rounds) * 1000.0).round() / 1000.0,
        })
    }
    /// The line with every round.
    pub fn raw(&self, area: &str) -> Value {
        let mut line = self.line(area);
        line["each_round"] = json!(self.rounds);
        line["against_each_round"] = json!(self.against.as_ref().map(|(_, rounds)| rounds));
        line
    }
}

/// The figures as a table.
pub fn table(figures: &[Figure]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<44} {:>12} {:<10} {:>7}  {:<28} {:>12} {:>6}  {:<14} holds",
        "figure", "median", "unit", "spread", "against", "its median", "ratio", "bar"
    );
    for figure in figures {
        let (against, value) = match &figure.against {
            Some((name, rounds)) => (name.as_str(), plain(median(rounds))),
            None => ("", String::new()),
        };
        let _ = writeln!(
            out,
            "{:<44} {:>12} {:<10} {:>6.1}%  {:<28} {:>12} {:>6}  {:<14} {}",
            figure.name,
            plain(figure.value()),
            figure.unit,
            spread(&figure.rounds) * 100.0,
            against,
            value,
            figure.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            figure.bar_text().unwrap_or_default(),
            figure.holds().map_or("", |holds| if holds { "yes" } else { "NO" }),
        );
    }
    out
}

/// The middle of the values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Largest less smallest, as a share of the median.
fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    if values.len() < 2 { 0.0 } else { (most - least) / median(values) }
}

fn round(value: f64) -> f64 {
    if value.abs() >= 1000.0 { value.round() } else { (value * 1000.0).round() / 1000.0 }
}

fn plain(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_member_of_the_report() {
        let figure =
            Figure::new("x", "lines/s", vec![3.0, 1.0, 2.0]).against("y", vec![1.0, 1.0]).bar(Bar::RatioAtLeast(2.0));
        let line = figure.line("ingest").to_string();
        assert_eq!(
            line,
            r#"{"against":"y","against_value":1.0,"area":"ingest","bar":"ratio >= 2","holds":true,"name":"x","ratio":2.0,"rounds":3,"spread":1.0,"unit":"lines/s","value":2.0}"#
        );
        assert!(table(&[figure]).contains("yes"));
        assert_eq!(Figure::new("x", "s", vec![1.0]).bar(Bar::AtMost(0.5)).holds(), Some(false));
        assert_eq!(Figure::new("x", "s", vec![1.0]).bar(Bar::RatioAtLeast(0.5)).holds(), None);
    }
}
