//! A Redis Cluster that loses a node or moves its slots: the other products go on, no grant is wrong.

use std::collections::BTreeSet;

use seckill_core::stock::redis::{GrantReply, LeaseLoad, LeaseStore, LeaseStoreError};

use crate::contract::{ask, load};
use crate::place::{Cluster, until_ready};

/// One product on each of the three nodes.
fn one_each(place: &Cluster) -> Vec<LeaseLoad> {
    let mut found: Vec<Option<LeaseLoad>> = vec![None; 3];
    for n in 0..200 {
        let product = format!("p{n}");
        let node = place.cluster.node_of(&product).unwrap();
        found[node].get_or_insert_with(|| load(&product, 1, 10, 2));
    }
    found.into_iter().map(Option::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn products_lie_on_the_nodes_that_own_their_slots() {
    let place = Cluster::start();
    let leases = place.leases().await;
    for n in 0..60 {
        assert!(leases.load(load(&format!("p{n}"), 1, 10, 2)).await.unwrap());
    }
    let sizes: Vec<u32> = place.cluster.nodes().iter().map(|n| n.ask("DBSIZE").unwrap().parse().unwrap()).collect();
    assert_eq!(sizes.iter().sum::<u32>(), 60);
    assert!(sizes.iter().all(|n| *n > 0), "{sizes:?}");
    for (node, size) in sizes.iter().enumerate() {
        let of_node = (0..60).filter(|n| place.cluster.node_of(&format!("seckill:lease:{{p{n}}}")).unwrap() == node);
        assert_eq!(of_node.count() as u32, *size);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_takes_only_its_own_products_with_it() {
    let mut place = Cluster::start();
    let leases = place.leases().await;
    let products = one_each(&place);
    for lease in &products {
        assert!(leases.load(lease.clone()).await.unwrap());
        assert!(matches!(leases.grant(ask(lease, "anna", "k", 1)).await, Ok(GrantReply::Granted { seq: 0, .. })));
    }
    // Node 0 is the only one that was named: the others are known without it.
    for dead in [0, 2] {
        place.cluster.kill_node(dead);
        for (node, lease) in products.iter().enumerate() {
            let reply = leases.grant(ask(lease, "anna", "k", 1)).await;
            match &reply {
                Err(LeaseStoreError::Away(_) | LeaseStoreError::Late(_)) if node == dead => {}
                Ok(GrantReply::Granted { seq: 0, .. }) if node != dead => {}
                // Came back without its data.
                Ok(GrantReply::NotOwner) if node < dead => {}
                _ => panic!("node {node}, dead {dead}: {reply:?}"),
            }
        }
        place.cluster.restart_node(dead).unwrap();
        until_ready(&leases).await;
        let lease = &products[dead];
        assert_eq!(leases.grant(ask(lease, "anna", "k", 1)).await.unwrap(), GrantReply::NotOwner);
        assert_eq!(leases.left(&lease.product, lease.lease).await.unwrap(), None);
    }
    let newer = load(products[0].product.as_str(), 2, 10, 2);
    assert!(leases.load(newer.clone()).await.unwrap());
    assert!(matches!(leases.grant(ask(&newer, "anna", "k", 1)).await, Ok(GrantReply::Granted { seq: 0, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_is_followed_and_its_lease_is_not_trusted() {
    let place = Cluster::start();
    let leases = place.leases().await;
    let lease = one_each(&place).swap_remove(0);
    assert!(leases.load(lease.clone()).await.unwrap());
    assert!(matches!(leases.grant(ask(&lease, "anna", "k", 1)).await, Ok(GrantReply::Granted { .. })));
    let key = format!("seckill:lease:{{{}}}", lease.product);
    let (from, to) = (&place.cluster.nodes()[0], &place.cluster.nodes()[1]);
    let slot = from.ask(&format!("CLUSTER KEYSLOT {key}")).unwrap();
    let (from_id, to_id) = (from.ask("CLUSTER MYID").unwrap(), to.ask("CLUSTER MYID").unwrap());
    to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).unwrap();
    from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).unwrap();
    // Still here: the old owner grants.
    assert_eq!(
        leases.grant(ask(&lease, "ben", "k", 1)).await.unwrap(),
        GrantReply::Granted { seq: 1, quantity: 1, left: 8 }
    );
    // The key has gone over, the slot has not: asked there, which is another process.
    from.ask(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port())).unwrap();
    assert_eq!(to.ask("DBSIZE").unwrap(), "1");
    for _ in 0..10 {
        assert_eq!(leases.grant(ask(&lease, "ben", "k", 1)).await.unwrap(), GrantReply::NotOwner);
    }
    let newer = load(lease.product.as_str(), 2, 5, 2);
    assert!(leases.load(newer.clone()).await.unwrap());
    let reply = leases.grant(ask(&newer, "ben", "k", 1)).await.unwrap();
    assert_eq!(reply, GrantReply::Granted { seq: 0, quantity: 1, left: 4 });
    // The slot follows; the lease there goes on, as it was loaded there.
    for node in [to, from] {
        node.ask(&format!("CLUSTER SETSLOT {slot} NODE {to_id}")).unwrap();
    }
    let mut numbers = BTreeSet::new();
    for buyer in ["ben", "cleo", "dora"] {
        match leases.grant(ask(&newer, buyer, "k", 1)).await.unwrap() {
            GrantReply::Granted { seq, .. } => numbers.insert(seq),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(numbers, BTreeSet::from([0, 1, 2]));
    until_ready(&leases).await;
    assert_eq!(leases.left(&newer.product, newer.lease).await.unwrap(), Some(2));
    assert!(leases.top_up(&newer.product, newer.lease, 7).await.unwrap());
    assert_eq!(leases.left(&newer.product, newer.lease).await.unwrap(), Some(4));
    assert!(!leases.top_up(&lease.product, lease.lease, 70).await.unwrap(), "the old one is nowhere");
}
