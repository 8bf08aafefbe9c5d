//! A member that floods a node over a real connection and reads nothing: the node stays as it was for everybody else.

use std::time::Duration;

use futures::StreamExt as _;
use herdbook_model::{authority::sign, id::ReplicaId};
use herdbook_proto::{client::Client, v1};
use herdbook_replica::repository::DocumentChange;
use herdbook_sync::{
    exchange::{Side, possession},
    message::{Hello, Message, Purpose, Summary, VERSION},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    herd::{Herd, eventually, key_of},
    server::{commit_at, run, text},
};

/// Questions that eve asks; each answer would take some kilobytes.
const QUESTIONS: u64 = 200_000;

/// Most bytes by which the process may grow under them.
const GROWTH: u64 = 96 << 20;

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}

/// Opens an exchange as eve, and returns the way to say something; the answers after the node's hello and proof are kept and not read.
async fn intrude(herd: &Herd, address: &str) -> (mpsc::Sender<Message>, impl Sized + use<>) {
    let key = key_of("eve");
    let eve = ReplicaId(key.verifying_key().to_bytes());
    let (say, said) = mpsc::channel::<Message>(16);
    let frames = ReceiverStream::new(said).map(|message| v1::Frame::try_from(message).expect("it fits a frame"));
    let hello = Hello {
        version: VERSION,
        repository: herd.id(),
        replica: eve,
        nonce: [1; 32],
        purpose: Purpose::Converge,
        enrolment: None,
        summary: Summary { newest: None, digest: [9; 32] },
        commits: 0,
    };
    say.send(Message::Hello(hello)).await.expect("the stream is fresh");
    let client = Client::connect(&[address.to_owned()]).await.expect("it answers");
    let mut answers = client.exchange(frames).await.expect("it opens");
    let Ok(Some(Message::Hello(his))) = answers.next().await else { panic!("the node says hello first") };
    let proof = possession(herd.id(), Side::Caller, Purpose::Converge, (eve, [1; 32]), (his.replica, his.nonce));
    say.send(Message::Proof { signature: sign(&key, &proof) }).await.expect("it listens");
    (say, (client, answers))
}

#[test]
fn who_floods_and_never_reads_costs_the_others_nothing() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        let bob = herd.start("bob", &[alice.address()]).await;
        let put = |name: &str| DocumentChange::Put(vec![("name".into(), text(name))]);
        for number in 0..200 {
            commit_at(alice.repository(), &format!("city-{number}"), put(&"x".repeat(2000)));
        }
        let (say, unread) = intrude(&herd, &alice.address()).await;
        let before = resident();
        let flood = tokio::spawn(async move {
            for number in 0..QUESTIONS {
                let digest = [u8::try_from(number % 251).expect("below"); 32];
                let said = match number % 4 {
                    0 => Message::Summary(Summary { newest: None, digest }),
                    1 => Message::WantStates,
                    _ => Message::WantEntries { first: 0 },
                };
                if say.send(said).await.is_err() {
                    return number;
                }
            }
            QUESTIONS
        });
        // Meanwhile the others go on.
        let mut number = 0;
        while !flood.is_finished() {
            number += 1;
            let committed = commit_at(alice.repository(), "oslo", put(&format!("Oslo {number}")));
            let holds = || bob.repository().view().vector().contains(&committed.chain, committed.counter);
            eventually("bob holds it", holds).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(flood.await.expect("no panic"), QUESTIONS, "a node that is asked too much answers less, and goes on");
        assert!(number > 3, "there was time for others");
        let growth = resident().saturating_sub(before);
        assert!(growth < GROWTH, "{growth} bytes more than before");
        assert!(alice.peers.alarms().is_empty());
        drop(unread);
        alice.node.stop().await;
        bob.node.stop().await;
    });
}
