//! `seckill import`: a catalogue or adjustments of stock from a CSV file, through a core's admin listener. The file is
//! sent as it is; what its rows say is the core's to judge.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use sha2::{Digest, Sha256};
use types::{Role, SaleName};

use super::admin::{Admin, show};
use crate::cli::{AdminCall, ImportCommand};
use crate::config::Config;

/// How long an import may take: 10,000 rows are one transaction of a second or two.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest file that is sent: twice what the core takes, so that it is the core that says how long one may be; a longer
/// one would be cut off before the core's answer is read.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Sends the file and prints what came of it; a refusal ends with 1.
pub async fn run(config: &Config, command: ImportCommand) -> anyhow::Result<ExitCode> {
    match command {
        ImportCommand::Catalogue { file, sale, zone, opens, closes, dry_run, call } => {
            let (path, text) = (path_of(&sale, "catalogue")?, read(&file)?);
            let window: Vec<_> = [("zone", zone), ("opens", opens), ("closes", closes)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            send(config, &call, &path, &file, text, dry_run, |request| request.query(&window)).await
        }
        ImportCommand::Stock { file, sale, key, dry_run, call } => {
            let (path, text) = (path_of(&sale, "stock")?, read(&file)?);
            let key = key.unwrap_or_else(|| key_of(&sale, &text));
            send(config, &call, &path, &file, text, dry_run, |request| request.header("Idempotency-Key", key)).await
        }
    }
}

fn path_of(sale: &str, what: &str) -> anyhow::Result<String> {
    Ok(format!("/v1/sales/{}/imports/{what}", SaleName::new(sale)?))
}

/// A name for an import that its caller did not name: the same for the same file of the same sale, so that sending it
/// twice, after an answer that was lost, takes effect once.
fn key_of(sale: &str, text: &[u8]) -> String {
    // No sale's name has a line's end in it.
    let digest = Sha256::new().chain_update(sale).chain_update("\n").chain_update(text).finalize();
    digest.iter().take(16).fold("file-".to_owned(), |key, byte| key + &format!("{byte:02x}"))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let named = || format!("cannot read {}", file.display());
    if file.as_os_str() == "-" {
        std::io::stdin().take(MAX_FILE + 1).read_to_end(&mut text).with_context(named)?;
    } else {
        let opened = std::fs::File::open(file).with_context(named)?;
        opened.take(MAX_FILE + 1).read_to_end(&mut text).with_context(named)?;
    }
    ensure!(text.len() as u64 <= MAX_FILE, "{} is longer than {MAX_FILE} bytes; send it in parts", file.display());
    Ok(text)
}

async fn send(
    config: &Config,
    call: &AdminCall,
    path: &str,
    file: &Path,
    text: Vec<u8>,
    dry_run: bool,
    with: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(config, &call.at, Role::Merchandiser, PATIENCE)?;
    let mut request = with(admin.call(Method::POST, path).header("content-type", "text/csv").body(text));
    if dry_run {
        request = request.query(&[("dry_run", "true")]);
    }
    show(&admin.send(request).await?, call.output, Some(file), done)
}

/// What an import came to, in a few lines.
fn done(body: &Value) -> String {
    let count = |name: &str| body[name].as_u64().unwrap_or(0);
    let flag = |name: &str| body[name].as_bool().unwrap_or(false);
    let mut lines = vec![format!(
        "{}{}: {} rows{}",
        if flag("dry_run") { "dry run, nothing changed; " } else { "" },
        body["sale"].as_str().unwrap_or_default(),
        count("rows"),
        if flag("new_sale") { ", a new sale" } else { "" },
    )];
    let products = ["created", "returned", "changed", "unchanged"];
    if products.iter().any(|name| count(name) > 0) {
        lines.push(format!("products: {}", products.map(|name| format!("{} {name}", count(name))).join(", ")));
    }
    lines.push(format!("units:    {} added, {} removed", count("added"), count("removed")));
    if flag("repeated") {
        lines.push("an earlier import of this name did it; to do it again, name it anew by --key".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_has_the_same_name_and_it_is_short_enough() {
        let key = key_of("friday", b"a,1");
        assert_eq!((key.clone(), key.len()), (key_of("friday", b"a,1"), 37));
        assert!(key != key_of("friday", b"a,2") && key != key_of("monday", b"a,1"));
    }

    #[test]
    fn what_was_done_is_told_in_words() {
        let body = serde_json::json!({"sale": "friday", "dry_run": true, "new_sale": true, "repeated": false, "rows": 3,
            "created": 3, "returned": 0, "changed": 0, "unchanged": 0, "added": 1700, "removed": 0});
        insta::assert_snapshot!(done(&body), @r"
        dry run, nothing changed; friday: 3 rows, a new sale
        products: 3 created, 0 returned, 0 changed, 0 unchanged
        units:    1700 added, 0 removed
        ");
    }
}
