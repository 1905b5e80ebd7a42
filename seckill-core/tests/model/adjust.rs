//! Adjustments of stock, in both directions and in any phase, and what becomes of them where a rule is missing.

use super::mutant::Mutant;
use super::state::{Config, Steps, World};

impl Config {
    pub(super) fn adjustments(&self, w: &World, out: &mut Steps) {
        if w.luck.adjusts == 0 {
            return;
        }
        for (name, delta) in [("a unit is added", 1i8), ("a unit is removed", -1), ("two units are removed", -2)] {
            let mut t = *w;
            t.luck.adjusts -= 1;
            if !t.b.adjust(delta, self.mutant) {
                continue;
            }
            t.expected = t.expected.saturating_add_signed(delta);
            out.push(((name, t.b.total, t.b.free), t));
            // Its answer was lost, and it is asked for again under its id: what stands in the books is the answer.
            if self.is(Mutant::AdjustmentTakesEffectTwice) && t.b.adjust(delta, self.mutant) {
                out.push((("an adjustment is asked for again", t.b.total, t.b.free), t));
            }
        }
    }
}
