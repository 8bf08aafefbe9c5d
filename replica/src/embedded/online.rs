//! The part of an embedded replica that talks to others: a node on a thread of its own, with its own actor system and runtime.

use std::{future::Future, net::SocketAddr, sync::mpsc, thread};

use actix_rt::System;
use herdbook_proto::{client::Client, cluster::Peer, status::Failed};
use tokio::{runtime::Handle, sync::oneshot};

use super::builder::Error;
use crate::{node, repository::Repository};

/// Threads of the runtime. One replica's exchanges need no more.
const THREADS: usize = 2;

/// A node that runs until this is dropped.
pub(super) struct Online {
    address: SocketAddr,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the node's thread tells when it runs.
type Running = (Repository, SocketAddr, Handle);

impl Online {
    /// Runs a node, and returns its repository when it is open.
    pub(super) fn start(settings: node::Settings) -> Result<(Repository, Self), Error> {
        let (told, hears) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread =
            thread::Builder::new().name("herdbook-node".to_owned()).spawn(move || run(settings, &told, stopped)).map_err(Error::Thread)?;
        let (repository, address, runtime) = hears.recv().map_err(|_| crate::Error::Stopped)??;
        Ok((repository, Self { address, runtime, stop: Some(stop), thread: Some(thread) }))
    }

    /// Returns the members of the repository as the node knows them.
    pub(super) fn peers(&self) -> Result<Vec<Peer>, crate::Error> {
        self.ask(|client| async move { client.peers().await })
    }

    /// Takes the node off the network or back.
    pub(super) fn set_online(&self, online: bool) -> Result<(), crate::Error> {
        self.ask(move |client| async move { client.set_online(online).await.map(drop) })
    }

    /// Asks the node as any client does. The caller may itself be within a runtime, which must not be entered twice: hence the channel.
    fn ask<T, Answer>(&self, question: impl FnOnce(Client) -> Answer + Send + 'static) -> Result<T, crate::Error>
    where
        T: Send + 'static,
        Answer: Future<Output = Result<T, Failed>> + Send,
    {
        let (told, hears) = mpsc::channel();
        let address = self.address.to_string();
        self.runtime.spawn(async move {
            let answer = match Client::connect(&[&address]).await {
                Ok(client) => question(client).await,
                Err(failure) => Err(failure),
            };
            let _ = told.send(answer);
        });
        hears.recv().map_err(|_| crate::Error::Stopped)?.map_err(|failure| {
            tracing::warn!(error = %failure.message, "the node of this replica does not answer");
            crate::Error::Stopped
        })
    }
}

impl Drop for Online {
    /// Ends exchanges and waits until the store is closed. Whoever holds the repository lets go of it before.
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the node panicked");
        }
    }
}

fn run(settings: node::Settings, told: &mpsc::Sender<Result<Running, Error>>, stopped: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = told.send(Err(Error::Thread(error)));
            return;
        }
    };
    let handle = runtime.handle().clone();
    System::with_tokio_rt(move || runtime).block_on(async move {
        match node::start(settings).await {
            Ok(node) => {
                // Who does not hear this has stopped the node, too.
                let _ = told.send(Ok((node.repository().clone(), node.listen(), handle)));
                let _ = stopped.await;
                node.stop().await;
            }
            Err(error) => {
                let _ = told.send(Err(error.into()));
            }
        }
    });
}
