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
    /// Address of a running server; may be repeated. Without one, a cluster is started
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
            return Ok(Servers { cluster: None, nodes: self.target.clone() });
        }
        let binary = cluster::binary(self.own.binary.clone())?;
        let settings = cluster::Settings { binary, replicas: self.replicas, is_meshed, folder: self.own.folder.clone() };
        let cluster = Cluster::start(&settings).await?;
        let nodes = cluster.nodes();
        Ok(Servers { cluster: Some(cluster), nodes })
    }
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
