//! Joining with one-time tokens.
//!
//! The faults: a token was used up before it was looked who asks, so who lost the answer, or joined again, had burned it; and a token for a
//! standby coordinator was made though there are none.

use herdbook_model::{
    SigningKey,
    authority::{Entry, Role},
};
use herdbook_proto::{
    client::Client,
    cluster::{CreateToken, Join},
    status::{Failed, Kind},
};

use crate::support::{client, coordinator, loopback, run, token};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

async fn join(client: &Client, token: &str, seed: u8) -> Result<Entry, Failed> {
    let join = Join::sign(token.to_owned(), format!("replica {seed}"), String::new(), &key(seed));
    client.join(join).await.map(|joined| joined.enrolment)
}

#[test]
fn who_lost_the_answer_asks_again_and_gets_it() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let (client, token) = (client(server.listen()).await, token(server.listen()).await);
        let first = join(&client, &token, 1).await.expect("it joins");
        assert_eq!(join(&client, &token, 1).await.expect("it is known"), first);
        let refused = join(&client, &token, 2).await.expect_err("it let another in");
        assert_eq!((refused.kind, refused.reason.as_str()), (Kind::Denied, "TOKEN_REFUSED"));
        server.stop().await;
    });
}

#[test]
fn a_member_that_joins_again_uses_no_token_up() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let (client, first, second) = (client(server.listen()).await, token(server.listen()).await, token(server.listen()).await);
        let enrolment = join(&client, &first, 1).await.expect("it joins");
        assert_eq!(join(&client, &second, 1).await.expect("it is a member"), enrolment);
        join(&client, &second, 2).await.expect("the second token is as good as new");
        server.stop().await;
    });
}

#[test]
fn no_token_is_made_for_a_standby() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let create = CreateToken { role: Role::Coordinator, lifetime: CreateToken::LIFETIME };
        let refused = client(server.listen()).await.create_token(create).await.expect_err("there are no standbys");
        assert_eq!((refused.kind, refused.reason.as_str()), (Kind::Invalid, "NO_STANDBY"));
        server.stop().await;
    });
}
