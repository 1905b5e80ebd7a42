//! `seckill ctl replay`: a recorded sale under the policy that it was planned by and under a changed one, side by side.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use control_plane::Policy;
use control_plane::record::read::read;
use control_plane::record::replay::{Moved, Outcome, recorded_policy, replay};
use serde_json::{Value, json};

use super::args::Output;
use super::table::table;
use crate::commands::say;

/// Moves of each side that are shown to people; all are in the JSON.
const SHOWN: usize = 40;

pub(super) fn run(file: &Path, policy: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(policy).with_context(|| format!("cannot read {}", policy.display()))?;
    let changed: Policy = toml::from_str(&text).with_context(|| policy.display().to_string())?;
    changed.check().with_context(|| policy.display().to_string())?;
    let (rows, whole) = read(file).with_context(|| file.display().to_string())?;
    let recorded = replay(&rows, &recorded_policy(&rows)?)?;
    let tried = replay(&rows, &changed)?;
    let of = |outcome: &Outcome| outcome.moves.iter().cloned().map(key).collect::<BTreeSet<_>>();
    let (before, after) = (of(&recorded), of(&tried));
    let shown = |moves: Vec<&Key>| moves.into_iter().map(row).collect::<Vec<_>>();
    let only_recorded = shown(before.difference(&after).collect());
    let only_tried = shown(after.difference(&before).collect());
    if output == Output::Json {
        let both = json!({ "whole": whole, "rows": rows.len(), "recorded": recorded, "tried": tried,
            "only_recorded": only_recorded, "only_tried": only_tried });
        say(serde_json::to_string_pretty(&both)?);
        return Ok(ExitCode::SUCCESS);
    }
    if !whole {
        say("the record was cut off; this is what there is of it");
    }
    let figure =
        |name: &str, of: fn(&Outcome) -> u64| json!({ "figure": name, "recorded": of(&recorded), "tried": of(&tried) });
    let figures = [
        figure("moves", |o| o.moves.len() as u64),
        figure("became hot", |o| o.reactions_ms.len() as u64),
        figure("mean time to react, ms", Outcome::mean_reaction_ms),
        figure("longest time to react, ms", Outcome::longest_reaction_ms),
        figure("attempts decided in SQL (db)", Outcome::sql_attempts),
        figure("attempts on redis", |o| o.attempts[1]),
        figure("attempts on queue", |o| o.attempts[2]),
        figure("attempts with nothing to sell", |o| o.refused),
    ];
    say(table(&figures, &[("FIGURE", "figure"), ("RECORDED", "recorded"), ("TRIED", "tried")]));
    let columns = &[("AT", "at"), ("PRODUCT", "product"), ("FROM", "from"), ("TO", "to"), ("REASON", "reason")];
    for (title, moves) in [("only as recorded", only_recorded), ("only as tried", only_tried)] {
        if !moves.is_empty() {
            say(format!("\n{title} ({} moves)", moves.len()));
            say(table(&moves[..moves.len().min(SHOWN)], columns));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Two moves are one if the same product goes the same way at the same moment.
type Key = (types::Timestamp, types::Sku, types::Tier, types::Tier, &'static str);

fn key(m: Moved) -> Key {
    (m.at, m.product, m.from, m.to, m.reason)
}

fn row((at, product, from, to, reason): &Key) -> Value {
    json!({ "at": at, "product": product, "from": from, "to": to, "reason": reason })
}
