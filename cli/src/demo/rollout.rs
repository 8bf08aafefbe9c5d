//! Scene 5: version 2 of the schema runs beside version 1, one way, and is abandoned without a trace.

use herdbook_model::{id::BranchName, value::Scalar};
use herdbook_proto::{
    client::Client,
    cluster::{Definition, Head, StartSchema},
    document::{At, Document, Place},
    edit::{Edit, Write},
    read::Get,
};

use super::{
    Cluster, PATIENCE,
    import::request_key,
    insist, merge, say,
    walk::{self, Walk},
};
use crate::errors::Error;

const STEPS: &str = r#"[
    {"rename": {"collection": "cities", "from": "population", "to": "inhabitants"}},
    {"add": {"collection": "cities", "field": "sister_cities", "type": "int", "default": 0}},
    {"drop": {"collection": "cities", "field": "admin1code"}}
]"#;

/// The city that both versions write.
const CITY: &str = "2911298";

pub(super) async fn run(cluster: &mut Cluster) -> Result<(), Error> {
    let (old, new) = (branch("main@1"), branch("main@2"));
    let server = cluster.client(0).await?;
    let start = StartSchema { repository: None, branch: None, from: None, definition: Definition::Steps(STEPS.to_owned()), dry_run: false };
    server.start_schema(start).await?;
    say("version 2 started on branch main@2: population renamed to inhabitants, sister_cities added with default 0, admin1code dropped");
    let one = cluster.client(1).await?;
    for number in 0..50 {
        let operation = merge::set("population", Scalar::Int(1_000_000 + number));
        let mut write = Write::new(request_key(b"rollout", number.unsigned_abs()), vec![Edit { name: merge::name(CITY), operation }]);
        write.branch = Some(old.clone());
        cluster.ledger.commit(&one, write).await?;
    }
    let seen = |city: &Document| city.fields.get("inhabitants") == Some(&merge::int(1_000_049));
    let three = cluster.client(3).await?;
    let city = until(&three, &new, seen, "version 2 does not see what version 1 writes").await?;
    let migrated = city.fields.get("sister_cities") == Some(&merge::int(0)) && !city.fields.contains_key("admin1code");
    insist(migrated && !city.fields.contains_key("population"), || {
        format!("version 2 is not what the steps say: {:?}", city.fields.keys())
    })?;
    say("clients of version 1 went on writing: version 2 sees their 50 commits, renamed, with the default, without the dropped field");
    let mut write = Write::new(
        request_key(b"rollout", 1000),
        vec![Edit { name: merge::name(CITY), operation: merge::set("inhabitants", Scalar::Int(42)) }],
    );
    write.branch = Some(new.clone());
    cluster.ledger.commit(&three, write).await?;
    until(
        &cluster.client(2).await?,
        &new,
        |city| city.fields.get("inhabitants") == Some(&merge::int(42)),
        "a write to version 2 is not seen",
    )
    .await?;
    let before = cluster.level("version 2 was written; version 1").await?;
    insist(read(&one, &old).await?.fields.get("population") == Some(&merge::int(1_000_049)), || {
        "version 1 sees a change of version 2".to_owned()
    })?;
    only_of(&one, &before).await?;
    say("version 1 sees none of version 2's changes: every commit under its heads is its own");
    server.abandon_schema(new.clone()).await?;
    let after = cluster.level("version 2 abandoned; version 1").await?;
    let same = |head: &Head| (head.heads.clone(), head.state, head.root, head.documents);
    insist(same(&before) == same(&after), || "version 1 changed by abandoning version 2".to_owned())?;
    let mut refused = Write::new(
        request_key(b"rollout", 1001),
        vec![Edit { name: merge::name(CITY), operation: merge::set("inhabitants", Scalar::Int(43)) }],
    );
    refused.branch = Some(new);
    insist(until_closed(cluster, &one, refused).await?, || "the abandoned branch still takes commits".to_owned())?;
    say("version 1 is as if version 2 had never been: same heads, state, root and documents");
    Ok(())
}

fn branch(name: &str) -> BranchName {
    BranchName::new(name).expect("well formed")
}

async fn read(client: &Client, branch: &BranchName) -> Result<Document, Error> {
    let place = Place { repository: None, at: At::Branch(Some(branch.clone())) };
    let found = client.get(Get { place, name: merge::name(CITY) }).await?;
    found.ok_or_else(|| Error::NoSuchDocument { name: merge::name(CITY).to_string() })
}

async fn until(client: &Client, branch: &BranchName, holds: impl Fn(&Document) -> bool, what: &str) -> Result<Document, Error> {
    let began = std::time::Instant::now();
    loop {
        // The branch itself may not have arrived yet.
        let found = read(client, branch).await;
        match found {
            Ok(city) if holds(&city) => return Ok(city),
            Err(error) if began.elapsed() > PATIENCE => return Err(error),
            _ => {}
        }
        insist(began.elapsed() < PATIENCE, || what.to_owned())?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Insists that every commit under the heads is of their branch, and has no parent that is not.
async fn only_of(client: &Client, head: &Head) -> Result<(), Error> {
    let log = walk::log(client, &head.branch).await?;
    let other = log.iter().find(|commit| commit.branch != head.branch);
    insist(other.is_none(), || format!("the log of {} has a commit of another branch: {other:?}", head.branch))?;
    Walk::from(head, &log).map(|_| ())
}

/// Whether the branch refuses commits once the node knows that it was abandoned.
async fn until_closed(cluster: &mut Cluster, client: &Client, write: Write) -> Result<bool, Error> {
    for attempt in 0..100u64 {
        let mut write = write.clone();
        write.request = Some(request_key(b"closed", attempt));
        match cluster.ledger.commit(client, write).await {
            Ok(_) => {}
            Err(Error::Server(_)) => return Ok(true),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(false)
}
