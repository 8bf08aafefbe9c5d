//! A coordinator and a replica that meet over a link whose bytes are counted, and nowhere else.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use herdbook_loadtest::{
    chaos::switch::Link,
    cluster::{Cluster, Settings},
    load,
    node::{RequestKeys, connect, connect_many},
    workload::Content,
};
use herdbook_model::authority::Role;
use herdbook_proto::{
    ack::Wait,
    client::Client,
    cluster::CreateToken,
    edit::{Edit, Write},
};
use herdbook_replica::Replica;
use tokio::runtime::Handle;

use super::failed;
use crate::error::Error;

/// How long two members may take to come to the same state.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_micros(500);

/// A coordinator in a process of its own and a replica in this one, which holds all of its documents and reaches it over a link only.
pub(super) struct Pair {
    cluster: Cluster,
    client: Client,
    requests: RequestKeys,
    pub(super) replica: Replica,
    link: Link,
    /// Bytes and milliseconds that the replica's first copy took.
    pub(super) cloned: (f64, f64),
}

impl Pair {
    /// Starts both, and waits until the replica holds what the coordinator does.
    pub(super) fn start(binary: &Path, folder: &Path, documents: u64) -> Result<Self, Error> {
        let settings = Settings { binary: binary.to_owned(), replicas: 0, is_meshed: false, folder: Some(folder.to_owned()) };
        let (cluster, client, link, token) = Handle::current().block_on(async {
            let cluster = Cluster::start(&settings).await?;
            let address = cluster.coordinator();
            let connections = connect_many(std::slice::from_ref(&address), 1, Content::Record, Wait::DURABLE).await?;
            load::fill(&connections, documents).await?;
            let client = connect(&address).await?;
            let create = CreateToken { role: Role::Replica, lifetime: CreateToken::LIFETIME };
            let token = client.create_token(create).await.map_err(failed)?.token;
            let link = Link::new(0).await?;
            link.lead(Some(address.parse::<std::net::SocketAddr>().map_err(failed)?.into()));
            Ok::<_, Error>((cluster, client, link, token))
        })?;
        let begun = Instant::now();
        let replica = Replica::builder(folder.join("replica")).join(format!("http://{}", link.address()), token).capture(Duration::ZERO);
        // Told to nobody, its own address is no way around the link.
        let replica = replica.listen(([127, 0, 0, 1], 0).into(), Some(String::new())).open().map_err(failed)?;
        let mut pair = Self { cluster, client, requests: RequestKeys::new()?, replica, link, cloned: (0.0, 0.0) };
        pair.level()?;
        pair.cloned = (pair.link.count().bytes as f64, begun.elapsed().as_secs_f64() * 1000.0);
        Ok(pair)
    }

    /// Takes the replica off the network.
    pub(super) fn part(&self) -> Result<(), Error> {
        self.replica.set_online(false).map_err(failed)?;
        // What is under way comes to its end.
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    /// Puts it back, and waits until both are at the same state.
    pub(super) fn meet(&self) -> Result<(), Error> {
        self.go_online()?;
        self.level()
    }

    /// Puts it back.
    pub(super) fn go_online(&self) -> Result<(), Error> {
        self.replica.set_online(true).map_err(failed)
    }

    /// Returns the bytes that passed between the two, both ways.
    pub(super) fn bytes(&self) -> u64 {
        self.link.count().bytes
    }

    /// Waits until more bytes passed than `before`.
    pub(super) fn first_byte(&self, before: u64) -> Result<(), Error> {
        let begun = Instant::now();
        while self.bytes() == before {
            if begun.elapsed() >= PATIENCE {
                return Err(failed("the two do not talk to each other"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Kills the coordinator, removes its data, and starts it with nothing but its keys.
    pub(super) fn lose_coordinator(&mut self) -> Result<(), Error> {
        let address = Handle::current().block_on(self.cluster.lose_coordinator())?;
        self.link.lead(Some(address.parse::<std::net::SocketAddr>().map_err(failed)?.into()));
        self.link.break_off();
        self.client = Handle::current().block_on(connect(&address))?;
        Ok(())
    }

    /// Waits until both are at the same state.
    pub(super) fn level(&self) -> Result<(), Error> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            // One that is restored tells nothing yet.
            let heads = Handle::current().block_on(self.client.heads_at_hand()).unwrap_or_default();
            // It may not know any branch yet.
            let own = self.replica.state().ok();
            if own.is_some() && heads.first().map(|head| head.state) == own {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Err(failed("the two did not come to the same state"))
    }

    /// Commits at the coordinator.
    pub(super) fn write(&self, edits: Vec<Edit>) -> Result<(), Error> {
        let write = Write { wait: Wait::DURABLE, ..Write::new(self.requests.draw(), edits) };
        Handle::current().block_on(self.client.commit(write)).map(drop).map_err(failed)
    }

    pub(super) fn stop(self) -> Result<(), Error> {
        self.replica.close().map_err(failed)?;
        Handle::current().block_on(self.cluster.stop());
        Ok(())
    }
}
