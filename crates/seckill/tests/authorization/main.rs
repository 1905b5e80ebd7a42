//! Tries every route of every listener as everybody there is, over real HTTP, and holds the answers to the table.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod house;
mod routes;
mod table;

use std::collections::BTreeSet;

use types::Role;

use house::{CALLERS, House, OWNER, Said};
use table::{At, BESIDE, COMING, Row, TABLE, Who};

fn route(row: &Row) -> routes::Route {
    (row.0, row.1.to_owned(), row.2.to_owned())
}

/// The rows whose routes are there, each once.
fn rows() -> Vec<Row> {
    let (routes, _) = routes::all();
    let listed: BTreeSet<_> = TABLE.iter().map(route).collect();
    let come = |row: &&Row| routes.contains(&route(row)) && !listed.contains(&route(row));
    TABLE.iter().chain(COMING.iter().filter(come)).copied().collect()
}

#[test]
fn the_table_has_every_route_and_no_other() {
    let (routes, beside) = routes::all();
    let rows = rows();
    let table: BTreeSet<_> = rows.iter().map(route).collect();
    assert_eq!(table.len(), rows.len(), "a row appears twice");
    let missing: Vec<_> = routes.difference(&table).collect();
    assert!(missing.is_empty(), "say in tests/authorization/table.rs who may call {missing:?}");
    let gone: Vec<_> = table.difference(&routes).collect();
    assert!(gone.is_empty(), "there is no such route any more: {gone:?}");
    for (method, path) in beside {
        let known = BESIDE.contains(&(method.as_str(), path.as_str()));
        assert!(known, "{method} {path} is served beside the listeners: does it need a caller?");
    }
}

#[test]
fn the_documents_name_the_roles_of_the_table() {
    for (at, document) in routes::documents() {
        for (listener, method, path, who) in rows().iter().filter(|row| row.0 == at) {
            let operation = &document["paths"][path][method];
            if operation.is_null() {
                continue;
            }
            let named = operation["security"][0]["bearer"].as_array().cloned().unwrap_or_default();
            let mut said: BTreeSet<Role> = named.iter().map(|role| role.as_str().unwrap().parse().unwrap()).collect();
            let expected: BTreeSet<Role> = match who {
                Who::Everybody | Who::Signed | Who::Session => BTreeSet::new(),
                Who::Owner => BTreeSet::from([Role::Shopper, Role::Admin]),
                Who::Roles(roles) => roles.iter().copied().collect(),
            };
            // That admin has every human role is said once, in the document's head.
            if said.iter().any(|role| !matches!(role, Role::Core | Role::Edge | Role::Control)) {
                said.insert(Role::Admin);
            }
            assert_eq!(said, expected, "{listener:?} {method} {path}");
        }
    }
}

/// What a caller is to be told.
fn expected(who: Who, caller: Option<(Role, &str)>) -> &'static [Said] {
    match (who, caller) {
        (Who::Everybody, _) => &[Said::Served],
        (Who::Signed, _) => &[Said::Unsigned],
        (Who::Session, _) | (_, None) => &[Said::WhoAreYou],
        (Who::Roles(roles), Some((role, _))) => {
            if roles.contains(&role) {
                &[Said::Served]
            } else {
                &[Said::NotAllowed]
            }
        }
        (Who::Owner, Some((Role::Shopper, OWNER))) => &[Said::Served],
        // To another it does not exist, whoever he is.
        (Who::Owner, Some((Role::Shopper | Role::Admin, _))) => &[Said::NotFound],
        (Who::Owner, Some(_)) => &[Said::NotAllowed],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_what_the_table_says_on_every_route() {
    let house = House::open().await;
    let (mut wrong, mut calls) = (Vec::new(), 0);
    let rows = rows();
    for (at, method, path, who) in &rows {
        // The owner last: what he does to his order is done.
        let mut callers: Vec<_> = std::iter::once(None).chain(CALLERS.iter().copied().map(Some)).collect();
        callers.sort_by_key(|caller| *caller == Some((Role::Shopper, OWNER)));
        for caller in callers {
            let said = house.call(*at, method, path, caller).await;
            calls += 1;
            let expected = expected(*who, caller);
            if !expected.contains(&said.0) {
                wrong.push(format!("{at:?} {method} {path} as {caller:?}: {said:?}, expected {expected:?}"));
            }
        }
    }
    println!("{calls} calls on {} routes", rows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A table in which the admin listener is forgotten would pass all of the above.
    for at in [At::CorePublic, At::CoreAdmin, At::CorePrivate, At::Control, At::Analyzer, At::Collector] {
        assert!(TABLE.iter().any(|row| row.0 == at), "{at:?}");
    }
    house.close().await;
}
