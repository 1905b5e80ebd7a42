//! Whether a soak was kept: the auditor's report and the soak's own counts. It only reads.

use std::fmt;
use std::path::{Path, PathBuf};

use audit::Report;
use audit::stock::{Options, Sampler};

use crate::books::Books;
use crate::crowd::LIMIT;

/// What is wrong, in words; empty if all is well. And what it was read from.
pub struct Verdict {
    pub wrong: Vec<String>,
    pub report: Report,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.report)?;
        self.wrong.iter().try_for_each(|why| write!(f, "\nWRONG: {why}"))
    }
}

/// Every journal of this data directory.
pub fn journals(data: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(data.join("journals")).unwrap().map(|file| file.unwrap().path()).collect();
    all.sort();
    all
}

/// Judges books at rest against what the shoppers saw.
pub fn judge(books: &Books<'_>, journals: &[PathBuf], units: u64, samples: Option<&Sampler>) -> Verdict {
    let options = Options::at_rest(jiff::Timestamp::now().as_millisecond());
    let report = audit::stock::audit_store(&books.store(), journals, &options, samples).unwrap();
    let stock = books.stock();
    let mut wrong = Vec::new();
    let mut hold = |holds: bool, why: String| {
        if !holds {
            wrong.push(why);
        }
    };
    for broken in report.invariants.iter().filter(|i| i.violated > 0) {
        hold(false, format!("invariant {}: {} violations", broken.number, broken.violated));
    }
    for missing in report.invariants.iter().filter(|i| [1, 2, 3, 4, 8, 9].contains(&i.number)) {
        hold(missing.not_examined.is_none(), format!("invariant {} was not examined", missing.number));
    }
    hold(report.oversold == 0, format!("{} units oversold", report.oversold));
    hold(report.journal_torn == 0, "a journal has a torn end".to_owned());
    hold(stock.total == units, format!("the product came with {units} units and has {}", stock.total));
    let gone = stock.reserved + stock.sold;
    hold(gone == units, format!("{gone} of {units} units are sold"));
    let living = books.living_units();
    hold(living == units, format!("{units} units are sold, living orders hold {living}"));
    let above = books.above_limit(LIMIT);
    hold(above == 0, format!("{above} buyers hold more than {LIMIT}"));
    Verdict { wrong, report }
}
