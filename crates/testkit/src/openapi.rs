//! Whether an OpenAPI document is the one that is checked in, and whether router and document name the same routes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Set to `1` to write the checked-in documents anew.
const UPDATE: &str = "UPDATE_OPENAPI";

/// Fails if `file` does not hold `document`; with `UPDATE_OPENAPI=1` in the environment it writes it.
pub fn is_checked_in(document: &Value, file: &Path) {
    assert!(document.get("x-unknown-problems").is_none(), "no such problems: {}", document["x-unknown-problems"]);
    let text = format!("{document:#}\n");
    for reference in between(&text, "\"#/components/schemas/", "\"") {
        let schema = &document["components"]["schemas"][reference];
        assert!(schema.is_object(), "{reference} is named and not in the document: name it in a body or an answer too");
    }
    if std::env::var(UPDATE).is_ok_and(|v| v == "1") {
        fs::create_dir_all(file.parent().expect("a file lies in a folder")).expect("the folder can be made");
        fs::write(file, text).expect("it can be written");
        return;
    }
    let held = fs::read_to_string(file).unwrap_or_default();
    assert!(
        held == text,
        "{} is stale: run this test again with {UPDATE}=1 and look at what changed (first difference: {})",
        file.display(),
        held.lines().zip(text.lines()).find(|(a, b)| a != b).map_or("its length", |(_, b)| b.trim())
    );
}

fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).map(move |rest| rest.split(after).next().unwrap_or_default())
}

/// `(method, path)` of every route of a router, read from its `Debug` text: axum shows them nowhere else. The text
/// gives the methods and, apart from them, the path of each route's number; if a later axum writes it differently,
/// this fails.
pub fn routes(router: &str) -> BTreeSet<(String, String)> {
    let router = router.split("fallback_router").next().unwrap_or_default();
    let (mut methods, mut paths) = (BTreeMap::new(), BTreeMap::new());
    for entry in router.split("RouteId(").skip(1) {
        let (number, rest) = entry.split_once("): ").expect("RouteId(n): …");
        if let Some(path) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
            paths.insert(number, path);
        } else {
            let allowed = rest.split_once("allow_header: Bytes(b\"").expect("a route has its methods").1;
            methods.insert(number, allowed.split('"').next().unwrap_or_default());
        }
    }
    assert!(!paths.is_empty() && paths.keys().eq(methods.keys()), "each route has its path: {router}");
    // HEAD is answered wherever GET is.
    let of = |(number, path): (&&str, &&str)| {
        let methods = methods[number].split(',').filter(|method| *method != "HEAD");
        methods.map(|method| (method.to_lowercase(), (*path).to_owned())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

/// `(method, path)` of every operation of a document.
pub fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().expect("an OpenAPI document has paths");
    let item = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("a path has operations").keys().cloned();
        methods.map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(item).collect()
}
