//! Where load is put: servers whose addresses are given, or a cluster that is started for the run.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU32},
};

use clap::Args;

use crate::{
    Error,
    cluster::{self, Cluster},
    sampler::Subject,
};

/// Where load is put.
#[derive(Debug, Clone, Args)]
pub(super) struct Target {
    /// Address of a running server; may be repeated. dns:///NAME:PORT stands for all addresses of a name, as a headless service of
    /// Kubernetes has. Without one, a cluster is started
    #[arg(long, value_name = "URL")]
    pub(super) target: Vec<String>,
    /// Replicas of a cluster that is started
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "target")]
    pub(super) replicas: usize,
    #[command(flatten)]
    pub(super) own: Own,
    /// Seed of all choices
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

/// How a cluster of the run's own is made, and where the report goes.
#[derive(Debug, Clone, Args)]
pub(super) struct Own {
    /// Program that a cluster is started from; left out: HERDBOOK_BIN, or this one
    #[arg(long, value_name = "PATH")]
    pub(super) binary: Option<PathBuf>,
    /// Folder in which a cluster that is started makes its data folders
    #[arg(long, value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Also write it to this file, as a page with plots
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

/// Servers to work on.
pub(super) struct Servers {
    /// The cluster, if it was started here.
    pub(super) cluster: Option<Cluster>,
    /// All members that are known, the coordinator first if it was started here.
    pub(super) nodes: Vec<String>,
}

impl Target {
    /// Returns the servers given, or starts a cluster.
    pub(super) async fn open(&self, is_meshed: bool) -> Result<Servers, Error> {
        if !self.target.is_empty() {
            return Ok(Servers { cluster: None, nodes: addresses(&self.target).await? });
        }
        let binary = cluster::binary(self.own.binary.clone())?;
        let settings = cluster::Settings { binary, replicas: self.replicas, is_meshed, folder: self.own.folder.clone() };
        let cluster = Cluster::start(&settings).await?;
        let nodes = cluster.nodes();
        Ok(Servers { cluster: Some(cluster), nodes })
    }
}

/// How a name begins that stands for all its addresses, as gRPC writes it.
const NAME: &str = "dns:///";

/// Returns the addresses of servers, with those that names stand for in place of these.
async fn addresses(targets: &[String]) -> Result<Vec<String>, Error> {
    let mut addresses = Vec::with_capacity(targets.len());
    for target in targets {
        let Some(name) = target.strip_prefix(NAME) else {
            addresses.push(target.clone());
            continue;
        };
        let no_servers = |source| Error::NoServers { target: target.clone(), source };
        let mut found: Vec<_> = tokio::net::lookup_host(name).await.map_err(no_servers)?.collect();
        if found.is_empty() {
            return Err(no_servers(std::io::ErrorKind::NotFound.into()));
        }
        // A member may have an address of each family.
        if found.iter().any(std::net::SocketAddr::is_ipv4) {
            found.retain(std::net::SocketAddr::is_ipv4);
        }
        // The resolver turns them around from answer to answer; the seed of a run means the same servers each time.
        found.sort_unstable();
        found.dedup();
        addresses.extend(found.iter().map(ToString::to_string));
    }
    Ok(addresses)
}

impl Servers {
    /// Returns those that clients work at: of a cluster of its own the replicas, as its users would.
    pub(super) fn ends(&self) -> Vec<String> {
        let replicas = self.cluster.as_ref().map(Cluster::replicas).filter(|replicas| !replicas.is_empty());
        replicas.unwrap_or_else(|| self.nodes.clone())
    }

    /// Returns them for the sampler.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        match &self.cluster {
            Some(cluster) => cluster.subjects(),
            None => {
                let subject =
                    |address: &String| Subject { name: address.clone(), address: address.clone(), process: Arc::new(AtomicU32::new(0)) };
                self.nodes.iter().map(subject).collect()
            }
        }
    }

    /// Ends what was started.
    pub(super) async fn close(self) {
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses_and_an_address_for_itself() {
        let targets = ["http://127.0.0.1:7710", "dns:///localhost:7711"].map(str::to_owned);
        let found = addresses(&targets).await.expect("localhost has an address");
        assert_eq!(found[0], targets[0]);
        assert_eq!(found[1..], ["127.0.0.1:7711"], "one address of each member");
        let pair = addresses(&["dns:///127.0.0.2:1".to_owned(), "dns:///127.0.0.1:1".to_owned()]).await.expect("they are addresses");
        assert_eq!(pair, ["127.0.0.2:1", "127.0.0.1:1"]);
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_an_error_that_names_it() {
        for wrong in ["dns:///herdbook.invalid:7710", "dns:///localhost"] {
            let error = addresses(&[wrong.to_owned()]).await.expect_err(wrong);
            assert!(error.to_string().starts_with(wrong), "{error}");
        }
    }
}
