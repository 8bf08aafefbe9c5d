//! Commits that are asked for, in whatever ranges and order: each comes once, after its ancestors.

use std::collections::BTreeSet;

use herdbook_model::{graph::Graph as _, vector::Range};
use herdbook_sync::message::Message;
use proptest::{collection::vec, prelude::*};

use crate::hostile::{Bob, scene};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn prop_what_is_asked_for_comes_once_and_ancestors_first(asked in vec((any::<prop::sample::Index>(), 1_u64..25, 0_u64..25), 1..40)) {
        let (network, _) = scene();
        let node = &network.nodes[1];
        let chains: Vec<_> = node.frontier.vector().iter().copied().collect();
        let mut bob = Bob::greet(&network);
        // Of each chain one range goes out: from the lowest place asked for to the highest.
        let mut expected = std::collections::BTreeMap::new();
        for (chain, first, more) in asked {
            let (chain, held) = *chain.get(&chains);
            bob.hears(Message::Want(vec![Range { chain, first, last: first + more }]), node);
            if first <= held {
                let (low, high) = expected.entry(chain).or_insert((first, 0));
                (*low, *high) = ((*low).min(first), (*high).max((first + more).min(held)));
            }
        }
        let mut came = Vec::new();
        while let Ok(Some(message)) = bob.exchange.poll_message(node) {
            if let Message::Commits(parcels) = message {
                came.extend(parcels.into_iter().map(|parcel| parcel.commit.id()));
            }
        }
        let mut places = BTreeSet::new();
        for id in &came {
            let Ok(meta) = node.meta(id);
            let meta = meta.expect("it is stored");
            prop_assert!(places.insert((meta.chain, meta.counter)), "it came twice");
            for &(chain, counter) in meta.vector.iter().filter(|(chain, counter)| (*chain, *counter) != (meta.chain, meta.counter)) {
                let is_wanted = expected.get(&chain).is_some_and(|(low, high)| (*low..=*high).contains(&counter));
                prop_assert!(!is_wanted || places.contains(&(chain, counter)), "an ancestor comes later");
            }
        }
        let wanted: BTreeSet<_> = expected.iter().flat_map(|(chain, (low, high))| (*low..=*high).map(move |at| (*chain, at))).collect();
        prop_assert_eq!(places, wanted);
    }
}
