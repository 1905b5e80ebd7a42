//! The OpenAPI document of a listener: completes what the handlers' annotations say with what is true of every call
//! (refusals, credentials), and serves it. It knows no route but `/openapi.json`.
//!
//! How a route joins: `#[utoipa::path(…)]` on its handler, the handler named in `routes!(…)` of its listener. An
//! annotation says the method, the path, its parameters, the body, what a *good* answer is, who may call
//! (`security(("bearer" = ["operator"]))`) and, by name, which refusals beyond the common ones it has
//! (`extensions(("x-problems" = json!(["sold-out", "limit"])))`); statuses, titles and the refusals that follow from
//! credentials, a body or a path are added here.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::ProblemKind;

/// What a listener's document is called and which refusals its calls name.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Title of the document.
    pub title: &'static str,
    /// What the listener is for, in a sentence or two.
    pub description: &'static str,
    /// The refusals that annotations name, beyond those of [`ProblemKind`] itself.
    pub problems: &'static [ProblemKind],
}

/// Of an operation: the refusals that it names. Removed when they have become answers.
const NAMED: &str = "x-problems";
/// Left in a document for names that no [`ProblemKind`] has: a mistake that `testkit::openapi` reports.
pub const UNKNOWN: &str = "x-unknown-problems";

/// Statuses whose refusals may say when to try again.
const MAY_WAIT: [u16; 5] = [402, 409, 425, 429, 503];

/// A router and its document, which it serves at `/openapi.json` to anybody.
pub fn documented<S: Clone + Send + Sync + 'static>(router: OpenApiRouter<S>, about: &About) -> (Router<S>, Value) {
    let (router, mut api) = router.split_for_parts();
    api.merge(OpenApiRouter::<S>::new().routes(routes!(openapi_json)).into_openapi());
    let document = complete(serde_json::to_value(&api).unwrap_or_default(), about);
    let text = Bytes::from(document.to_string());
    let serve = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], text));
    (router.route("/openapi.json", get(serve)), document)
}

// Stands for the route in the document; its text is served beside it.
/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "about", responses((status = 200, description = "OpenAPI 3.1")))]
async fn openapi_json() {}

/// Puts into an operation's answers what follows from its form and its names.
fn complete(mut document: Value, about: &About) -> Value {
    document["info"] = json!({
        "title": about.title,
        "description": about.description,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let kinds: BTreeMap<&str, ProblemKind> =
        ProblemKind::COMMON.iter().chain(about.problems).map(|kind| (kind.name, *kind)).collect();
    let mut unknown = BTreeSet::new();
    let empty = &mut Map::new();
    for (path, item) in document["paths"].as_object_mut().unwrap_or(empty) {
        let own_path = path.contains('{');
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
            let named = operation.remove(NAMED).unwrap_or_default();
            let mut names: BTreeSet<String> =
                named.as_array().into_iter().flatten().filter_map(|n| n.as_str().map(str::to_owned)).collect();
            names.extend(common(operation, own_path).map(str::to_owned));
            let known = names.iter().filter_map(|name| kinds.get(name.as_str()).copied());
            refuse(operation, known.collect());
            unknown.extend(names.into_iter().filter(|name| !kinds.contains_key(name.as_str())));
        }
    }
    if !unknown.is_empty() {
        document[UNKNOWN] = json!(unknown);
    }
    let parts = &mut document["components"];
    parts["schemas"]["Problem"] = problem_schema();
    parts["securitySchemes"]["bearer"] = json!({
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "A token of a configured issuer (or of the demo's own); a service has its own token. Each \
            call lists the roles of which the caller needs one; `admin` has every human role.",
    });
    document
}

/// What every call of this form can be refused with.
fn common(operation: &Map<String, Value>, own_path: bool) -> impl Iterator<Item = &'static str> + use<> {
    let secured = operation.contains_key("security");
    let body = operation.contains_key("requestBody");
    let some = |holds: bool, names: &'static [&'static str]| names.iter().filter(move |_| holds).copied();
    some(true, &["overloaded", "timeout"])
        .chain(some(secured, &["unauthenticated", "forbidden"]))
        .chain(some(own_path, &["not-found"]))
        .chain(some(body, &["malformed", "invalid-field", "unsupported-media-type", "body-too-large"]))
}

/// One answer per status, with the types that it can have.
fn refuse(operation: &mut Map<String, Value>, kinds: Vec<ProblemKind>) {
    let mut by_status: BTreeMap<u16, Vec<ProblemKind>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status.as_u16()).or_default().push(kind);
    }
    for (status, kinds) in by_status {
        let types: Vec<_> = kinds.iter().map(|kind| format!("/problems/{}", kind.name)).collect();
        let titles: Vec<_> = kinds.iter().map(|kind| kind.title).collect();
        let mut answer = json!({
            "description": titles.join(" · "),
            "content": {"application/problem+json": {"schema": {"allOf": [
                {"$ref": "#/components/schemas/Problem"},
                {"type": "object", "properties": {"type": {"enum": types}, "status": {"const": status}}},
            ]}}},
        });
        if MAY_WAIT.contains(&status) {
            answer["headers"] = json!({"Retry-After": {
                "description": "Seconds until a new try makes sense; present where waiting helps.",
                "schema": {"type": "integer", "minimum": 1},
            }});
        }
        operation["responses"][status.to_string()] = answer;
    }
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "A refusal (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "description": "`/problems/<name>`; stable, to be decided by."},
            "title": {"type": "string", "description": "For people."},
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What is wrong and what to do, for people."},
            "field": {"type": "string", "description": "The field at fault, where there is one."},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows one.
    #[utoipa::path(get, path = "/v1/things/{thing}", tag = "things", params(("thing" = String, Path)),
        security(("bearer" = ["viewer"])), responses((status = 200, description = "It")),
        extensions(("x-problems" = json!(["gone-away", "no-such-name"]))))]
    async fn thing() {}

    #[test]
    fn an_operation_gets_the_refusals_that_it_names_and_those_of_its_form() {
        const GONE: ProblemKind = ProblemKind::new("gone-away", "Gone", axum::http::StatusCode::GONE);
        let about = About { title: "Things", description: "Shows things.", problems: &[GONE] };
        let (_, document) = documented(OpenApiRouter::<()>::new().routes(routes!(thing)), &about);
        let answers = &document["paths"]["/v1/things/{thing}"]["get"]["responses"];
        let statuses: Vec<_> = answers.as_object().expect("answers").keys().map(String::as_str).collect();
        assert_eq!(statuses, ["200", "401", "403", "404", "408", "410", "503"]);
        let gone = &answers["410"]["content"]["application/problem+json"]["schema"]["allOf"][1];
        assert_eq!(gone["properties"]["type"]["enum"], json!(["/problems/gone-away"]));
        assert_eq!(document[UNKNOWN], json!(["no-such-name"]), "a misspelt name is not lost");
        assert!(document["paths"]["/openapi.json"]["get"].is_object());
        assert!(document["paths"]["/v1/things/{thing}"]["get"].get(NAMED).is_none());
    }
}
