//! What members say to each other while nothing happens.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use herdbook_coordinator::{Settings, start};
use herdbook_replica::node;
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream};

use crate::support::{all_equal, coordinator_settings, eventually, loopback, run, settings, token};

/// Leads to `target`; returns its address, and how many connections were made through it.
async fn door(target: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(loopback()).await.expect("a free port");
    let (address, made) = (listener.local_addr().expect("it is bound"), Arc::new(AtomicUsize::new(0)));
    let count = made.clone();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(target).await {
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    (address, made)
}

/// It called every second to ask where the member listens that it was talking to.
#[test]
fn a_member_does_not_ask_for_the_address_of_who_it_talks_to() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        // Its address, and then the replica's, is told to nobody: the two meet at the door alone.
        let told = coordinator_settings(folder.path(), loopback());
        let hides = |node: node::Settings| node::Settings { advertise: Some(String::new()), ..node };
        let server = start(Settings { node: hides(told.node.clone()), ..told }).await.expect("the coordinator starts");
        let (address, made) = door(server.listen()).await;
        let token = Some(token(server.listen()).await);
        let told = node::Settings { coordinator: Some(format!("http://{address}")), token, ..settings(folder.path(), "alice") };
        let alice = node::start(hides(told)).await.expect("it joins");
        eventually("both hold the same", || all_equal(&[&server, &alice])).await;
        // What joining began comes to its end.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = made.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(made.load(Ordering::Relaxed), before, "connections while nothing happens");
        alice.stop().await;
        server.stop().await;
    });
}
