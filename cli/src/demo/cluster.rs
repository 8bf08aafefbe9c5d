//! The demo's processes: started from this very program, each with a folder of its own, stopped by their own process ids.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use herdbook_model::id::{BranchName, StateRoot};
use herdbook_proto::{
    client::Client,
    cluster::{CreateToken, Head, Phase, Status},
};

use super::{PATIENCE, insist, ledger::Ledger, say};
use crate::errors::Error;

/// How many replicas there are.
pub(super) const REPLICAS: usize = 3;

/// Node 0 is the coordinator, 1 to 3 are the replicas.
pub(super) struct Cluster {
    binary: PathBuf,
    folder: PathBuf,
    schema: PathBuf,
    ports: Vec<u16>,
    nodes: Vec<Option<Child>>,
    pub(super) ledger: Ledger,
}

impl Cluster {
    /// Returns a cluster in an empty folder, of which no node is started yet.
    pub(super) fn new(folder: &Path, schema: &Path) -> Result<Self, Error> {
        let binary = std::env::current_exe().map_err(|source| super::file("this program", source))?;
        let ports = free_ports(1 + REPLICAS)?;
        let nodes = (0..=REPLICAS).map(|_| None).collect();
        let ledger = Ledger::create(&folder.join("acknowledged.jsonl"))?;
        Ok(Self { binary, folder: folder.to_owned(), schema: schema.to_owned(), ports, nodes, ledger })
    }

    /// Starts a coordinator and the replicas, and waits until all serve.
    pub(super) async fn start(&mut self) -> Result<(), Error> {
        println!("== start a coordinator and {REPLICAS} replicas, each a process with a folder of its own");
        self.launch(0, None)?;
        let client = self.client(0).await?;
        for replica in 1..=REPLICAS {
            let create = CreateToken { role: herdbook_model::authority::Role::Replica, lifetime: CreateToken::LIFETIME };
            let token = client.create_token(create).await?.token;
            self.launch(replica, Some(&token))?;
        }
        for node in 0..=REPLICAS {
            self.serving(node).await?;
        }
        self.level("all nodes are up").await?;
        Ok(())
    }

    /// Starts one node on its folder; a token only for the first time.
    pub(super) fn launch(&mut self, node: usize, token: Option<&str>) -> Result<(), Error> {
        let name = self.name(node);
        let log = File::create(self.log(node)).map_err(|source| super::file(self.log(node), source))?;
        let mut command = Command::new(&self.binary);
        command.arg(if node == 0 { "coordinator" } else { "replica" });
        command.arg("--data").arg(self.data(node)).arg("--listen").arg(format!("127.0.0.1:{}", self.ports[node])).arg("--name").arg(&name);
        if node == 0 {
            command.arg("--keys").arg(self.folder.join("keys")).arg("--schema").arg(&self.schema).args(["--repository-name", "cities"]);
        } else {
            command.arg("--coordinator").arg(self.address(0));
            if let Some(token) = token {
                command.arg("--token").arg(token);
            }
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.nodes[node] = Some(spawned.map_err(|source| super::file(&self.binary, source))?);
        Ok(())
    }

    /// Kills one node without a word (SIGKILL) and waits until it is gone.
    pub(super) fn kill(&mut self, node: usize) -> Result<(), Error> {
        if let Some(mut child) = self.nodes[node].take() {
            child.kill().and_then(|()| child.wait()).map_err(|source| super::file(self.name(node), source))?;
        }
        Ok(())
    }

    /// Deletes a node's data folder.
    pub(super) fn delete_data(&self, node: usize) -> Result<(), Error> {
        let folder = self.data(node);
        std::fs::remove_dir_all(&folder).map_err(|source| super::file(&folder, source))
    }

    pub(super) fn name(&self, node: usize) -> String {
        if node == 0 { "coordinator".to_owned() } else { format!("replica-{node}") }
    }

    pub(super) fn data(&self, node: usize) -> PathBuf {
        self.folder.join(self.name(node))
    }

    fn log(&self, node: usize) -> PathBuf {
        self.folder.join(format!("{}.log", self.name(node)))
    }

    pub(super) fn address(&self, node: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[node])
    }

    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Returns a client of one node, waiting until it answers. Who waits for a process that has ended waits in vain, and is told so.
    pub(super) async fn client(&mut self, node: usize) -> Result<Client, Error> {
        let began = Instant::now();
        loop {
            match Client::connect(&[self.address(node)]).await {
                Ok(client) => return Ok(client),
                Err(failure) if began.elapsed() > PATIENCE => return Err(failure.into()),
                Err(_) => self.insist_running(node)?,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn insist_running(&mut self, node: usize) -> Result<(), Error> {
        let name = self.name(node);
        let Some(child) = &mut self.nodes[node] else { return Err(Error::Demo { what: format!("{name} is not running") }) };
        let ended = child.try_wait().map_err(|source| super::file(&name, source))?;
        insist(ended.is_none(), || format!("{name} has ended by itself: {}", ended.unwrap_or_default()))
    }

    /// Waits until a node serves (and is not recovering).
    pub(super) async fn serving(&mut self, node: usize) -> Result<Status, Error> {
        let began = Instant::now();
        loop {
            let status = self.client(node).await?.status().await?;
            if status.phase == Phase::Serving {
                return Ok(status);
            }
            insist(began.elapsed() < PATIENCE, || format!("{} does not serve: it is {:?}", self.name(node), status.phase))?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all nodes are at one head and one root of the branch, and says so.
    pub(super) async fn level(&mut self, what: &str) -> Result<Head, Error> {
        self.level_among(&[0, 1, 2, 3], what).await
    }

    /// Waits until `nodes` are at one head and one root of every branch, and says so.
    pub(super) async fn level_among(&mut self, nodes: &[usize], what: &str) -> Result<Head, Error> {
        let began = Instant::now();
        let branch = BranchName::new("main@1").expect("well formed");
        loop {
            let mut heads = Vec::with_capacity(nodes.len());
            for node in nodes {
                let of_node = self.client(*node).await?.heads().await?;
                heads.push(of_node.into_iter().find(|head| head.branch == branch));
            }
            let first = heads[0].clone();
            let same = |head: &Option<Head>| match (head, &first) {
                (Some(head), Some(first)) => head.state == first.state && head.root == first.root,
                _ => false,
            };
            if let Some(first) = first.clone().filter(|_| heads.iter().all(same)) {
                let root = first.root.map(|root: StateRoot| root.to_string()).unwrap_or_default();
                let count = nodes.len();
                say(format!(
                    "{what}: {count} nodes at state {:.12}, root {:.12}, {} documents, after {:.2} s",
                    first.state.to_string(),
                    root,
                    first.documents,
                    began.elapsed().as_secs_f64()
                ));
                return Ok(first);
            }
            if began.elapsed() > PATIENCE {
                let states: Vec<_> = heads.iter().map(|head| head.as_ref().map(|head| (head.state, head.root, head.commits))).collect();
                return Err(Error::Demo { what: format!("{what}: the nodes do not agree: {states:?}") });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends every node, each by its own process id.
    pub(super) async fn stop(&mut self) {
        for node in (0..self.nodes.len()).rev() {
            if let Err(error) = self.kill(node) {
                eprintln!("{error}");
            }
        }
    }

    /// Leaves the nodes running, and returns their process ids.
    pub(super) fn let_go(&mut self) -> Vec<u32> {
        self.nodes.iter_mut().filter_map(|node| node.take().map(|child| child.id())).collect()
    }

    /// Writes down which heads each node has, so that one can tell whether a loss took any.
    pub(super) async fn note_heads(&mut self) -> Result<(), Error> {
        for node in 0..=REPLICAS {
            let heads = self.client(node).await?.heads_at_hand().await?;
            self.ledger.note_heads(&self.name(node), &heads)?;
        }
        Ok(())
    }

    /// Shows the last lines of each node's log.
    pub(super) fn tell_logs(&self) {
        for node in 0..=REPLICAS {
            // Nodes that were never started have none.
            let Ok(text) = std::fs::read_to_string(self.log(node)) else { continue };
            let lines: Vec<_> = text.lines().rev().take(15).collect();
            eprintln!("-- last lines of {}", self.name(node));
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            // The demo failed half-way; nothing of it stays.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    let taken = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>();
    let ports = taken.and_then(|listeners| listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect());
    ports.map_err(|source: std::io::Error| super::file("a free port on loopback", source))
}
