//! The input: a real access log, and the records that Filebeat 8.1.3 makes of it. Go's maps have no order: of 402 real
//! records the outer members stood in 64 orders (here: any), `agent` in 5, each a rotation of the others (here: the
//! same), `log` in both. Made once and kept in the cache.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::area::Settings;

/// Files of one run; each holds the same lines.
pub struct Input {
    /// What the lines are.
    pub origin: String,
    /// How many lines each file has.
    pub lines: u64,
    /// As Filebeat writes it by default.
    pub whole: PathBuf,
    /// As Filebeat writes it without `agent` and `ecs`, which many drop: about 600 bytes a line.
    pub lean: PathBuf,
    /// The lines themselves.
    pub plain: PathBuf,
}

/// Makes the files, unless they are there.
pub fn make(settings: &Settings, lines: u64) -> anyhow::Result<Input> {
    let real = settings.data.join("shop_access.log");
    let (origin, source) = if real.exists() {
        ("the real shop's log of ../shared/data".to_owned(), real)
    } else {
        ("examples/access.log (../shared/data is absent)".to_owned(), PathBuf::from("examples/access.log"))
    };
    let bytes = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let mut log: Vec<String> = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
    if !origin.starts_with("the real") {
        // The example has lines that are broken on purpose, of which a peer that judges no times would count one, and
        // lines of the edge's own JSON, which the peer's query cannot read.
        log.retain(|line| !line.starts_with('{') && collector::decode::decode(line.as_bytes()).is_ok());
    }
    let name = |kind: &str| {
        let shop = if origin.starts_with("the real") { "shop" } else { "combined-example" };
        settings.cache.join(format!("ingest-{shop}-{lines}-{}-{kind}", settings.seed))
    };
    let input =
        Input { lines, whole: name("whole.ndjson"), lean: name("lean.ndjson"), plain: name("plain.log"), origin };
    let each = |file: &Path, write: &mut WriteLine<'_>| {
        if file.exists() {
            return anyhow::Ok(());
        }
        settings.say(&format!("making {}", file.display()));
        let draft = file.with_extension("draft");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&draft)?);
        let mut offset = 0;
        for line in log.iter().cycle().take(usize::try_from(lines)?) {
            write(&mut out, line, offset)?;
            offset += line.len() as u64 + 1;
        }
        out.into_inner()?.sync_all()?;
        Ok(fs::rename(draft, file)?)
    };
    let mut whole = ChaCha8Rng::seed_from_u64(settings.seed);
    each(&input.whole, &mut |out, line, offset| writeln!(out, "{}", record(line, offset, true, &mut whole)))?;
    let mut lean = ChaCha8Rng::seed_from_u64(settings.seed);
    each(&input.lean, &mut |out, line, offset| writeln!(out, "{}", record(line, offset, false, &mut lean)))?;
    each(&input.plain, &mut |out, line, _| writeln!(out, "{line}"))?;
    Ok(input)
}

/// Writes one line of the log, which stands at an offset, in some form.
type WriteLine<'a> = dyn FnMut(&mut BufWriter<File>, &str, u64) -> std::io::Result<()> + 'a;

/// One record. Filebeat writes time and metadata first, then everything else in any order, maps within maps too.
fn record(line: &str, offset: u64, whole: bool, random: &mut ChaCha8Rng) -> String {
    let first = random.random_range(0..5);
    let mut object = |members: Vec<String>| {
        let mut members = members;
        members.shuffle(random);
        format!("{{{}}}", members.join(","))
    };
    let log = object(vec![format!("\"offset\":{offset}"), r#""file":{"path":"/var/log/nginx/access.log"}"#.to_owned()]);
    let mut agent = [
        r#""ephemeral_id":"d6c7f968-b30d-45c7-a82f-2198a6c8c446""#,
        r#""id":"bfedc93c-58a2-42f3-b5d4-8f182644cad8""#,
        r#""name":"web-1""#,
        r#""type":"filebeat""#,
        r#""version":"8.1.3""#,
    ];
    agent.rotate_left(first);
    let mut members = vec![
        format!("\"log\":{log}"),
        format!("\"message\":{}", Value::from(line)),
        r#""input":{"type":"filestream"}"#.to_owned(),
        r#""fields":{"log_topic":"ngx"}"#.to_owned(),
        r#""host":{"name":"web-1"}"#.to_owned(),
    ];
    if whole {
        members.push(format!("\"agent\":{{{}}}", agent.join(",")));
        members.push(r#""ecs":{"version":"8.0.0"}"#.to_owned());
    }
    let rest = object(members);
    let (seconds, millis) = (offset / 300_000 % 3600, offset / 300 % 1000);
    format!(
        r#"{{"@timestamp":"2026-11-23T21:{:02}:{:02}.{millis:03}Z","@metadata":{{"beat":"filebeat","type":"_doc","version":"8.1.3"}},{}"#,
        seconds / 60,
        seconds % 60,
        &rest[1..]
    )
}
