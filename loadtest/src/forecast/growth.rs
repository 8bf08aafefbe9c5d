//! How a cluster grows: where processor time, bytes, memory and round trips go with ever more clients, and which resource is used up first.
//!
//! Rules: each client commits at a steady rate at its replica; every member takes in every commit; the coordinator passes each on to all
//! replicas but the one it came from, and signs an entry every 20 ms while commits come.

use serde::{Deserialize, Serialize};

use super::Costs;

/// Entries of the head log that the authority signs in a second, at most.
const ENTRIES: f64 = 50.0;

/// Bytes of one, about.
const ENTRY_BYTES: f64 = 320.0;

/// Bytes of memory of an open exchange and its connection, without what it holds of chains.
const EXCHANGE_BYTES: f64 = 256.0 * 1024.0;

/// Bytes that a chain takes in a version vector.
const CHAIN_BYTES: f64 = 24.0;

/// What a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores.
    pub cores: f64,
    /// Bytes a second of its link.
    pub link_bytes: f64,
    /// Bytes of memory.
    pub memory_bytes: f64,
}

/// How it is used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Commits a second of a client.
    pub per_client: f64,
    /// Clients of a replica.
    pub at_replica: f64,
}

/// A cluster of a size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Clients.
    pub clients: f64,
    /// Replicas beside the coordinator.
    pub replicas: f64,
    /// Commits a second.
    pub commits: f64,
    /// Cores that the coordinator needs.
    pub hub_cores: f64,
    /// Cores that a replica needs.
    pub replica_cores: f64,
    /// Bytes a second that leave the coordinator.
    pub hub_bytes: f64,
    /// Bytes of memory that its exchanges take.
    pub hub_memory: f64,
    /// Messages between members for each commit.
    pub messages: f64,
    /// Round trips until a commit is seen at another replica.
    pub round_trips: f64,
    /// Which resource is used most, and which part of it.
    pub fullest: (String, f64),
}

/// Returns what a cluster of so many clients needs.
pub fn size(costs: &Costs, machine: &Machine, usage: &Usage, clients: f64) -> Size {
    let Costs { sign, verify, take, encode, decode, parcel_bytes, .. } = *costs;
    let (request, commit) = (costs.request(), costs.commit());
    let replicas = (clients / usage.at_replica).ceil().max(1.0);
    let commits = clients * usage.per_client;
    let entries = ENTRIES.min(commits);
    let taking = verify + take + decode;
    let others = (replicas - 1.0).max(0.0);
    let hub_cores = (commits * (taking + commit + others * encode) + entries * sign) / 1e6;
    let own = commits / replicas;
    let replica_cores = (own * (request + commit + encode) + (commits - own) * (taking + commit) + entries * verify) / 1e6;
    let hub_bytes = commits * parcel_bytes * others + entries * ENTRY_BYTES * replicas;
    let hub_memory = replicas * (EXCHANGE_BYTES + CHAIN_BYTES * (replicas + 1.0));
    let parts = [
        ("cores of the coordinator", hub_cores / machine.cores),
        ("cores of a replica", replica_cores / machine.cores),
        ("link of the coordinator", hub_bytes / machine.link_bytes),
        ("memory of the coordinator", hub_memory / machine.memory_bytes),
    ];
    let fullest = parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are four");
    Size {
        clients,
        replicas,
        commits,
        hub_cores,
        replica_cores,
        hub_bytes,
        hub_memory,
        // In, out to all others, and a receipt for each.
        messages: 2.0 * (1.0 + others),
        round_trips: 1.0,
        fullest: (fullest.0.to_owned(), fullest.1),
    }
}

/// Returns the cluster in which a resource is just used up.
pub fn first_wall(costs: &Costs, machine: &Machine, usage: &Usage) -> Size {
    let (mut low, mut high) = (1.0, 1e9);
    // A billion clients halved so often are known to the client.
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if size(costs, machine, usage, middle).fullest.1 < 1.0 { low = middle } else { high = middle }
    }
    size(costs, machine, usage, low.floor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Share;

    const MACHINE: Machine = Machine { cores: 2.0, link_bytes: 125e6, memory_bytes: 8e9 };

    fn costs() -> Costs {
        Costs {
            sign: 15.0,
            verify: 40.0,
            take: 10.0,
            encode: 2.0,
            decode: 3.0,
            parcel_bytes: 150.0,
            sync: 200.0,
            network: Share { request: 50.0, commit: 5.0 },
            maker: Share { request: 10.0, commit: 20.0 },
            writer: Share::default(),
            wait: 0.0,
        }
    }

    #[test]
    fn more_clients_need_more_of_everything() {
        let usage = Usage { per_client: 0.1, at_replica: 100.0 };
        let sizes = [10.0, 100.0, 1e3, 1e4, 1e5].map(|clients| size(&costs(), &MACHINE, &usage, clients));
        assert!(sizes.windows(2).all(|pair| pair[0].hub_cores < pair[1].hub_cores && pair[0].hub_memory <= pair[1].hub_memory));
        assert_eq!(sizes.map(|size| size.replicas), [1.0, 1.0, 10.0, 100.0, 1000.0]);
    }

    #[test]
    fn at_the_first_wall_one_resource_is_just_used_up() {
        let usage = Usage { per_client: 0.1, at_replica: 100.0 };
        let wall = first_wall(&costs(), &MACHINE, &usage);
        assert!((0.99..=1.0).contains(&wall.fullest.1), "{wall:?}");
        let slower = first_wall(&costs(), &MACHINE, &Usage { per_client: 0.01, ..usage });
        assert!(slower.clients > wall.clients);
    }
}
