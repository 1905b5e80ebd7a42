//! What the OpenAPI documents of the three listeners are called. Each is served at `/openapi.json`, stands in
//! `docs/openapi/`, and names exactly the routes that the listener has; how a route joins says `http_kit::openapi`.

use http_kit::openapi::About;

use super::problems;

/// Shoppers' listener.
pub(super) const PUBLIC: About = About {
    title: "seckill-core, public",
    description: "Sales, purchases, orders and payment, for shoppers.",
    problems: problems::ALL,
};
/// The admin listener.
pub(super) const ADMIN: About = About {
    title: "seckill-core, admin",
    description: "Sales and stock, for the shop's staff and systems.",
    problems: problems::ALL,
};
/// The private listener.
pub(super) const PRIVATE: About = About {
    title: "seckill-core, private",
    description: "Plans, edges' credits, the core's state and its health, inside the installation.",
    problems: problems::ALL,
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http_kit::openapi::documented;
    use testkit::openapi::{is_checked_in, operations, routes};

    use super::super::{admin_routes, edge_routes, health_routes, plan_routes, provider_routes, public_routes};
    use super::*;

    #[test]
    fn the_documents_are_checked_in_and_name_every_route_and_no_other() {
        let private = plan_routes().merge(edge_routes()).merge(health_routes());
        let public = public_routes().merge(provider_routes());
        let listeners = [("public", public, PUBLIC), ("admin", admin_routes(), ADMIN), ("private", private, PRIVATE)];
        for (name, router, about) in listeners {
            let (router, document) = documented(router, &about);
            assert_eq!(routes(&format!("{router:?}")), operations(&document), "{name}: router and document differ");
            let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi");
            is_checked_in(&document, &docs.join(format!("core-{name}.json")));
        }
    }
}
