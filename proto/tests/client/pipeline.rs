//! Writes that share a stream: each gets its own answer, whatever becomes of the others.

use std::{task::Poll, time::Duration};

use futures::{future::join_all, poll};
use herdbook_model::id::CommitId;
use herdbook_proto::{
    client::Client,
    document::{Name, Place},
    edit::Write,
    limits,
    read::Get,
    status::{Failed, Kind},
    transport,
};
use proptest::prelude::*;

use super::{client, echo::document, name, write};

/// What becomes of a write.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// The server refuses it.
    Refused,
    /// The server takes its time.
    Slow,
    /// Who wrote it goes away before the answer.
    Dropped,
}

fn fated(key: u8, fate: Fate) -> Write {
    match fate {
        Fate::Answered | Fate::Dropped => write(key),
        Fate::Refused => Write { request: None, ..write(key) },
        Fate::Slow => Write { message: "sleep".to_owned(), ..write(key) },
    }
}

fn told(message: &str, key: u8) -> Write {
    Write { message: message.to_owned(), ..write(key) }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts").block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_write_gets_its_own_answer_whatever_becomes_of_the_others(
        fates in proptest::collection::vec(
            prop_oneof![8 => Just(Fate::Answered), 2 => Just(Fate::Refused), 1 => Just(Fate::Slow), 3 => Just(Fate::Dropped)], 1..60),
    ) {
        let ends = run(async {
            let pipeline = client().await.pipeline();
            pipeline.commit(write(0)).await.expect("it opens");
            let writes = fates.iter().enumerate().map(|(at, fate)| {
                let (pipeline, key) = (pipeline.clone(), u8::try_from(at).expect("few"));
                async move {
                    let commit = pipeline.commit(fated(key, *fate));
                    if matches!(fate, Fate::Dropped) {
                        let mut commit = Box::pin(commit);
                        // Sent, if there is room, and given up.
                        let first = poll!(commit.as_mut());
                        return first.map(|answer| answer.map(|ack| ack.commit).map_err(|failed| failed.kind));
                    }
                    Poll::Ready(commit.await.map(|ack| ack.commit).map_err(|failed| failed.kind))
                }
            });
            join_all(writes).await
        });
        for (at, (fate, end)) in fates.iter().zip(ends).enumerate() {
            let own = Ok(CommitId([u8::try_from(at).expect("few"); 32]));
            match fate {
                Fate::Answered | Fate::Slow => prop_assert_eq!(end, Poll::Ready(own)),
                Fate::Refused => prop_assert_eq!(end, Poll::Ready(Err(Kind::Invalid))),
                Fate::Dropped => prop_assert!(end.is_pending()),
            }
        }
    }
}

#[test]
fn a_stream_that_breaks_tells_all_who_wait_and_the_next_write_opens_another() {
    run(async {
        let pipeline = client().await.pipeline();
        pipeline.commit(write(1)).await.expect("it goes through");
        let ends = join_all([told("sleep", 2), told("break", 3), write(4)].map(|write| pipeline.commit(write))).await;
        let [slow, broken, behind] = ends.try_into().expect("three");
        assert_eq!(slow.expect("it was answered before").commit, CommitId([2; 32]));
        for failed in [broken, behind] {
            let failed = failed.expect_err("nobody answered");
            assert_eq!((failed.kind, failed.message.as_str()), (Kind::Unknown, "the server goes down"));
        }
        assert_eq!(pipeline.commit(write(5)).await.expect("another stream").commit, CommitId([5; 32]));
    });
}

#[test]
fn a_write_whose_deadline_passes_takes_nobody_elses_answer() {
    run(async {
        let pipeline = client().await.pipeline();
        pipeline.commit(write(1)).await.expect("it opens");
        // The slow one is given up; the one behind it is answered after it, with its own.
        let slow = tokio::time::timeout(Duration::from_millis(10), pipeline.commit(told("sleep", 2)));
        let (slow, behind) = futures::join!(slow, pipeline.commit(write(3)));
        assert!(slow.is_err());
        assert_eq!(behind.expect("in time").commit, CommitId([3; 32]));
    });
    run(async {
        let pipeline = client().await.with_deadline(Duration::from_secs(2)).pipeline();
        pipeline.commit(write(1)).await.expect("it opens");
        let failed = pipeline.commit(told("doze", 2)).await.expect_err("it sleeps for longer");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unknown, "NO_ANSWER"));
    });
}

#[test]
fn a_write_longer_than_a_message_fails_alone_and_is_not_sent() {
    run(async {
        let pipeline = client().await.pipeline();
        let long = Write { message: "x".repeat(limits::MESSAGE), ..write(2) };
        let [before, long, behind] = [write(1), long, write(3)].map(|write| pipeline.commit(write));
        let (before, long, behind) = futures::join!(before, long, behind);
        assert_eq!([before, behind].map(|end| end.expect("short").commit), [CommitId([1; 32]), CommitId([3; 32])]);
        let failed = long.expect_err("too long");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "MESSAGE_TOO_LARGE"));
    });
}

#[test]
fn a_writer_that_goes_away_while_the_stream_is_opened_holds_nobody_up() {
    run(async {
        let pipeline = client().await.pipeline();
        {
            let mut opening = Box::pin(pipeline.commit(write(1)));
            assert!(poll!(opening.as_mut()).is_pending());
        }
        assert_eq!(pipeline.commit(write(2)).await.expect("it opens another").commit, CommitId([2; 32]));
    });
}

#[test]
fn readers_get_their_own_documents_and_learn_what_is_not_there() {
    run(async {
        let pipeline = client().await.pipeline();
        let names = ["a", "nowhere", "b", "c"].map(|key| name("cities", key));
        let read = |name: &Name| pipeline.get(Get { place: Place::NEWEST, name: name.clone() });
        let found = join_all(names.iter().map(read)).await;
        assert_eq!(found, [0, 1, 2, 3].map(|at| Ok((at != 1).then(|| document(names[at].clone())))));
        let failed = read(&name("towns", "a")).await.expect_err("no such collection");
        assert_eq!((failed.kind, failed.hint.as_deref()), (Kind::NotFound, Some("known: cities")));
        // A read whose stream broke did nothing: it is worth another try.
        let (broken, behind) = futures::join!(read(&name("broken", "a")), read(&names[0]));
        assert_eq!([broken, behind].map(|end| end.expect_err("nobody answered").kind), [Kind::Unavailable; 2]);
        assert_eq!(read(&names[2]).await, Ok(Some(document(names[2].clone()))));
    });
}

#[test]
fn a_server_that_is_not_there_is_named_by_the_first_write() {
    run(async {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback").local_addr().expect("bound");
        let channel = transport::endpoint(&free.to_string()).expect("an address").connect_lazy();
        let Failed { kind, .. } = Client::new(channel).pipeline().commit(write(1)).await.expect_err("nobody listens");
        assert_eq!(kind, Kind::Unavailable);
    });
}
