//! Writes: what is acknowledged is true, what is repeated is written once, what is refused leaves nothing.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use herdbook_model::{
    request::Must,
    value::{Scalar, Value},
};
use herdbook_proto::{
    ack::{Level, Wait},
    document::{At, Name, Place},
    edit::{Precondition, Write},
    read::Get,
    status::Kind,
};
use tokio::time::timeout;

use crate::server::{Server, city, create, delete, int, no_version, put, run, text, update, write};

#[test]
fn a_write_is_durable_and_read_back_as_written() {
    run(async {
        let server = Server::start().await;
        let ack = server.client.commit(write(vec![create("berlin", [("name", text("Berlin")), ("population", int(3_426_354))])])).await;
        let ack = ack.expect("it commits");
        assert_eq!((ack.local, ack.accepted, ack.repeated), (Level::Durable, None, false));
        assert_eq!(ack.copies, [server.repository().replica()]);
        let document = server.get_at("berlin", At::State(ack.state)).await.expect("it is there");
        assert_eq!((&document.fields["name"], &document.fields["population"]), (&text("Berlin"), &int(3_426_354)));
        assert_eq!(server.get("berlin").await, Some(document));
    });
}

#[test]
fn levels_are_told_as_they_are_reached() {
    run(async {
        let server = Server::start().await;
        for (at, level) in [Level::Memory, Level::Process, Level::Durable].into_iter().enumerate() {
            let wait = Wait { local: level, ..Wait::DURABLE };
            let ack = server.client.commit(Write { wait, ..write(vec![put(&format!("city-{at}"), [])]) }).await.expect("it commits");
            assert!(ack.local >= level, "{level:?} was asked, {:?} reached", ack.local);
            assert_eq!(ack.copies.is_empty(), ack.local < Level::Durable);
        }
    });
}

#[test]
fn a_repeated_request_is_answered_as_the_first_and_writes_nothing() {
    run(async {
        let server = Server::start().await;
        let request = write(vec![create("berlin", [("name", text("Berlin"))])]);
        let first = server.client.commit(request.clone()).await.expect("it commits");
        let before = server.digest();
        let again = server.client.commit(request.clone()).await.expect("it is known");
        assert_eq!((again.commit, again.request, again.repeated), (first.commit, first.request, true));
        assert_eq!(server.digest(), before);
        let other = Write { edits: vec![create("paris", [])], ..request };
        let failed = server.client.commit(other).await.expect_err("the key is taken");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "REQUEST_ID_REUSED"));
    });
}

#[test]
fn a_precondition_that_does_not_hold_refuses_the_whole_request() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("berlin", [("name", text("Berlin"))])]).await;
        let version = server.get("berlin").await.expect("it is there").version;
        let with = |name: &str, must| Write {
            preconditions: vec![Precondition { name: city(name), must }],
            ..write(vec![put("bonn", []), update("berlin", [("population", int(1))])])
        };
        let before = server.digest();
        for (name, must) in
            [("berlin", Must::BeAt(no_version())), ("berlin", Must::BeAbsent), ("bonn", Must::Exist), ("bonn", Must::BeAt(version))]
        {
            let failed = server.client.commit(with(name, must)).await.expect_err("it does not hold");
            assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Precondition, "PRECONDITION_FAILED"), "{must:?}");
            assert_eq!(failed.metadata["key"], name);
            assert_eq!(server.digest(), before);
        }
        server.client.commit(with("berlin", Must::BeAt(version))).await.expect("it holds");
        assert!(server.get("bonn").await.is_some());
    });
}

#[test]
fn a_request_is_written_whole_or_not_at_all() {
    run(async {
        let server = Server::start().await;
        let before = server.digest();
        let failed = server.client.commit(write(vec![create("berlin", []), delete("paris")])).await.expect_err("there is no paris");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::NotFound, "DOCUMENT_NOT_FOUND"));
        assert_eq!(server.digest(), before);
        assert_eq!(server.get("berlin").await, None);
    });
}

#[test]
fn a_later_edit_of_a_request_sees_the_earlier_ones() {
    run(async {
        let server = Server::start().await;
        let edits = vec![create("berlin", [("name", text("Berlin"))]), update("berlin", [("population", int(7))])];
        server.commit(edits).await;
        let document = server.get("berlin").await.expect("it is there");
        assert_eq!((&document.fields["name"], &document.fields["population"]), (&text("Berlin"), &int(7)));
    });
}

#[test]
fn a_write_that_waits_for_the_authority_learns_the_entry_that_accepted_it() {
    run(async {
        let server = Server::start().await;
        let wait = Wait { accepted: true, timeout: Some(Duration::from_secs(20)), ..Wait::DURABLE };
        let waiting = server.client.commit(Write { wait, ..write(vec![create("berlin", [])]) });
        let accepting = async {
            // An entry that does not cover it must not end the wait.
            while server.repository().view().state(None).expect("the branch").frontier().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            server.authority.accept(server.repository(), Vec::new())
        };
        let (ack, entry) = tokio::join!(waiting, accepting);
        let accepted = ack.expect("it is accepted").accepted.expect("the entry is known");
        assert_eq!((accepted.seq, accepted.id), (entry.seq, entry.id()));
    });
}

#[test]
fn a_wait_that_ends_early_says_what_is_true_and_can_be_repeated() {
    run(async {
        let server = Server::start().await;
        let impatient = Some(Duration::from_secs(1));
        for wait in [Wait { accepted: true, timeout: impatient, ..Wait::DURABLE }, Wait { copies: 2, timeout: impatient, ..Wait::DURABLE }]
        {
            let request = Write { wait, ..write(vec![put("berlin", [("population", int(wait.copies.into()))])]) };
            // Written before, so that the wait has no sync to wait for.
            server.client.commit(Write { wait: Wait::DURABLE, ..request.clone() }).await.expect("it is written");
            let failed = server.client.commit(request.clone()).await.expect_err("nobody accepts or copies");
            assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unknown, "OUTCOME_UNKNOWN"));
            assert_eq!((failed.metadata["copies"].as_str(), failed.metadata["accepted"].as_str()), ("1", "false"));
            assert_eq!(Some(failed.metadata["request_id"].clone()), request.request.map(|key| key.to_string()));
            let again = server.client.commit(Write { wait: Wait::DURABLE, ..request }).await.expect("it was written");
            assert!(again.repeated);
            assert_eq!(failed.metadata["commit"], again.commit.to_string());
        }
    });
}

#[test]
fn a_call_whose_deadline_passes_says_what_is_true_of_it() {
    run(async {
        let server = Server::start().await;
        let client = server.client.clone().with_deadline(Duration::from_secs(3));
        let wait = Wait { accepted: true, ..Wait::DURABLE };
        let failed = client.commit(Write { wait, ..write(vec![put("berlin", [])]) }).await.expect_err("nobody accepts");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unknown, "OUTCOME_UNKNOWN"));
        assert!(failed.metadata.contains_key("commit"), "{failed:?}");
    });
}

#[test]
fn a_stream_of_writes_is_answered_in_order_and_goes_on_after_a_refusal() {
    run(async {
        let server = Server::start().await;
        let writes: Vec<_> = (0..600)
            .map(|at| match at {
                7 => write(vec![update("nowhere", [("population", int(1))])]),
                // Sees the one before it.
                8 => write(vec![update("city-6", [("population", int(8))])]),
                at => write(vec![create(&format!("city-{at}"), [("population", int(at))])]),
            })
            .collect();
        let mut answers = server.client.commit_stream(stream::iter(writes)).await.expect("the stream opens");
        let mut count = 0;
        while let Some(outcome) = answers.next().await.expect("the stream goes on") {
            assert_eq!(outcome.index, count);
            match outcome.result {
                Ok(ack) => assert!(ack.local == Level::Durable && count != 7),
                Err(failed) => assert_eq!((count, failed.reason.as_str()), (7, "DOCUMENT_NOT_FOUND")),
            }
            count += 1;
        }
        assert_eq!(count, 600);
        assert_eq!(server.count("").await, 598);
        assert_eq!(server.get("city-6").await.expect("it is there").fields["population"], int(8));
    });
}

#[test]
fn a_stream_of_writes_that_is_kept_open_ends_with_the_replica() {
    run(async {
        let server = Server::start().await;
        let writes = stream::iter([write(vec![create("berlin", [])])]).chain(stream::pending());
        let mut answers = server.client.commit_stream(writes).await.expect("the stream opens");
        assert!(answers.next().await.expect("it goes on").expect("an answer").result.is_ok());
        server.handle.stop();
        let end = timeout(Duration::from_secs(20), answers.next()).await.expect("it ends");
        assert_eq!(end, Ok(None));
    });
}

#[test]
fn writers_that_share_a_pipeline_get_their_own_answers() {
    run(async {
        let server = Server::start().await;
        let pipeline = server.client.pipeline();
        let each = |at: i64| {
            let (pipeline, name) = (pipeline.clone(), format!("city-{}", at % 50));
            async move {
                let edit = if at % 7 == 3 { update("nowhere", []) } else { put(&name, [("population", int(at))]) };
                (at, pipeline.commit(write(vec![edit])).await)
            }
        };
        let get = |key: &str| pipeline.get(Get { place: Place::NEWEST, name: city(key) });
        for (at, outcome) in futures::future::join_all((0..400).map(each)).await {
            match outcome {
                Ok(ack) => {
                    let held = server.get_at(&format!("city-{}", at % 50), At::State(ack.state)).await.expect("it is there");
                    // Those committed together share a state; none is older than the writer's own.
                    assert!(matches!(&held.fields["population"], Value::Scalar(Scalar::Int(seen)) if *seen >= at && at % 7 != 3));
                }
                Err(failed) => assert_eq!((at % 7, failed.reason.as_str()), (3, "DOCUMENT_NOT_FOUND")),
            }
        }
        // Who was acknowledged reads it, over a stream of its own.
        for (key, found) in [("city-0", true), ("city-49", true), ("city-50", false)] {
            assert_eq!(get(key).await.expect("it reads").is_some(), found, "{key}");
        }
        let failed = pipeline.get(Get { place: Place::NEWEST, name: Name { collection: "towns".into(), ..city("a") } }).await;
        assert_eq!(failed.expect_err("there are none").kind, Kind::NotFound);
    });
}

#[test]
fn messages_stand_with_their_own_commits() {
    run(async {
        let server = Server::start().await;
        let one = Write { message: "first".to_owned(), ..write(vec![put("a", [])]) };
        let two = Write { message: "second".to_owned(), ..write(vec![put("b", [])]) };
        let (one, two) = tokio::join!(server.client.commit(one), server.client.commit(two));
        for (ack, message) in [(one, "first"), (two, "second")] {
            let shown = server.client.show(ack.expect("it commits").commit).await.expect("it is there");
            assert_eq!(shown.commit.message, message);
        }
    });
}
