//! Every route there is: from the checked-in OpenAPI documents, which are held to their routers elsewhere, and, of
//! listeners without a document, from the sources that make their routers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::table::At;

pub type Route = (At, String, String);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The listener of a document by its file's name.
fn listener(file: &str) -> At {
    for (prefix, at) in [
        ("core-public", At::CorePublic),
        ("core-admin", At::CoreAdmin),
        ("core-private", At::CorePrivate),
        ("control", At::Control),
        ("analyzer", At::Analyzer),
        ("collector", At::Collector),
    ] {
        if file.starts_with(prefix) {
            return at;
        }
    }
    panic!("docs/openapi/{file}: say here which listener it is of");
}

/// Every document with its listener.
pub fn documents() -> Vec<(At, Value)> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        name.ends_with(".json")
            .then(|| (listener(&name), serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap()))
    };
    fs::read_dir(root().join("docs/openapi")).unwrap().filter_map(read).collect()
}

/// `(method, path)` of every `.route("path", get(…).put(…))` in a text.
fn in_source(text: &str) -> Vec<(String, String)> {
    let production = text.split("#[cfg(test)]").next().unwrap();
    let mut found = Vec::new();
    for part in production.split(".route(").skip(1) {
        let literal = part.trim_start().strip_prefix('"').expect("a route's path is written out where it is made");
        let (path, rest) = literal.split_once('"').unwrap();
        let mut depth = 1;
        let end = rest.find(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let handlers = &rest[..end.unwrap()];
        let before = found.len();
        for method in ["get", "put", "post", "delete", "patch"] {
            let called = handlers
                .match_indices(&format!("{method}("))
                .any(|(at, _)| !handlers[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
            if called {
                found.push((method.to_owned(), path.to_owned()));
            }
        }
        assert!(found.len() > before, "{path} has a method");
    }
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            all.push(path);
        }
    }
    all
}

/// Routes of the listeners, and those that stand beside them.
pub fn all() -> (BTreeSet<Route>, BTreeSet<(String, String)>) {
    let mut routes = BTreeSet::new();
    for (at, document) in documents() {
        for (path, item) in document["paths"].as_object().unwrap() {
            routes.extend(item.as_object().unwrap().keys().map(|method| (at, method.clone(), path.clone())));
        }
    }
    let rooms: [(&str, &[At]); 4] = [
        ("control-plane/src", &[At::Control]),
        ("analyzer/src", &[At::Analyzer]),
        ("collector/src", &[At::Collector]),
        // Wherever dashboards are served.
        ("crates/identity/src", &[At::Control, At::Analyzer]),
    ];
    for (room, listeners) in rooms {
        for file in sources(&root().join(room)) {
            for (method, path) in in_source(&fs::read_to_string(file).unwrap()) {
                routes.extend(listeners.iter().map(|at| (*at, method.clone(), path.clone())));
            }
        }
    }
    let binary = sources(&root().join("crates/seckill/src"));
    let beside = binary.into_iter().flat_map(|file| in_source(&fs::read_to_string(file).unwrap())).collect();
    (routes, beside)
}

#[test]
fn a_route_is_found_in_a_source() {
    let text = r#"Router::new().route("/a", get(x).put(y)).route(
        "/b/{c}", post(|| async { budget(1) })) #[cfg(test)] .route("/t", get(z))"#;
    let found: Vec<_> = in_source(text);
    let expected = [("get", "/a"), ("put", "/a"), ("post", "/b/{c}")];
    assert_eq!(found, expected.map(|(m, p)| (m.to_owned(), p.to_owned())));
}
