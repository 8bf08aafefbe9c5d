//! Scenes 3 and 4: the server's data is lost. Everything that had a copy elsewhere comes back; what had none is named exactly.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use herdbook_model::value::Scalar;
use herdbook_proto::edit::{Edit, Write};

use super::{Cluster, PATIENCE, cluster::REPLICAS, import::request_key, insist, merge, say};
use crate::errors::Error;

/// Documents of the request that is damaged.
const DAMAGED: [&str; 2] = ["2867714", "2925533"];

/// First pass: every acknowledged commit has a copy on a replica.
pub(super) async fn everything(cluster: &mut Cluster) -> Result<(), Error> {
    cluster.note_heads().await?;
    cluster.kill(0)?;
    cluster.delete_data(0)?;
    say("the coordinator was killed (SIGKILL) and its data folder is gone");
    for (number, node) in (0u64..).zip([1, 2, 3]) {
        let client = cluster.client(node).await?;
        let before = merge::document(&client, "5128581").await?;
        insist(!before.fields.is_empty(), || "a replica alone cannot be read".to_owned())?;
        let operation = merge::set("population", Scalar::Int(8_000_000 + i64::try_from(number).unwrap_or(0)));
        let write = Write::new(request_key(b"alone", number), vec![Edit { name: merge::name("5128581"), operation }]);
        cluster.ledger.commit(&client, write).await?;
    }
    cluster.level_among(&[1, 2, 3], "reads and commits go on; the replicas sync among themselves").await?;
    restore(cluster).await?;
    let lost = cluster.client(0).await?.status().await?.lost;
    insist(lost.is_empty(), || format!("requests are listed as lost that are not: {lost:?}"))?;
    prove(cluster, &[])
}

/// Second pass: one commit was acknowledged by one cut-off replica alone, and its edits are damaged there.
pub(super) async fn damaged(cluster: &mut Cluster) -> Result<(), Error> {
    let three = cluster.client(3).await?;
    three.set_online(false).await?;
    let edit = |key: &str| Edit { name: merge::name(key), operation: merge::set("population", Scalar::Int(-1)) };
    let write = Write::new(request_key(b"damaged", 0), DAMAGED.iter().copied().map(edit).collect());
    let commit = cluster.ledger.commit(&three, write).await?;
    cluster.note_heads().await?;
    cluster.kill(3)?;
    cluster.kill(0)?;
    cluster.delete_data(0)?;
    say(format!(
        "commit {:.12} is acknowledged `local: durable` by replica 3 alone; replica 3 and the coordinator are killed",
        commit.to_string()
    ));
    let (folder, id) = (cluster.data(3), commit.to_string());
    let drill =
        Command::new(cluster.binary()).args(["drill", "corrupt-edit", "--data"]).arg(&folder).args(["--commit", &id, "--yes"]).output();
    let drill = drill.map_err(|source| super::file("herdbook", source))?;
    insist(drill.status.success(), || format!("the drill failed: {}", String::from_utf8_lossy(&drill.stderr)))?;
    say("one byte of its stored edits was changed underneath, with a valid block checksum");
    cluster.launch(3, None)?;
    restore(cluster).await?;
    let expected: Vec<_> = DAMAGED.iter().map(|key| format!("cities/{key}")).collect();
    for node in [3, 0] {
        let began = Instant::now();
        loop {
            let lost = cluster.client(node).await?.status().await?.lost;
            let exact = lost.len() == 1 && lost[0].request.commit == commit && lost[0].documents == expected;
            if exact {
                say(format!("{} lists exactly that request as lost: {}", cluster.name(node), expected.join(", ")));
                break;
            }
            insist(began.elapsed() < PATIENCE, || format!("{} lists as lost {lost:?}, not {expected:?}", cluster.name(node)))?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    cluster.level("after the second restore").await?;
    prove(cluster, &[id])
}

async fn restore(cluster: &mut Cluster) -> Result<(), Error> {
    let began = Instant::now();
    cluster.launch(0, None)?;
    let status = cluster.serving(0).await?;
    let head = cluster.level("restored from the replicas").await?;
    let epoch = status.log.map_or(0, |position| position.epoch);
    say(format!(
        "the coordinator serves again in epoch {epoch} with {} documents, {:.2} s after its start",
        head.documents,
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A process of its own holds every acknowledgement, and what the replicas have, against the restored store.
fn prove(cluster: &Cluster, lost: &[String]) -> Result<(), Error> {
    let mut command = Command::new(cluster.binary());
    command.args(["demo-verify", "--acknowledged"]).arg(cluster.ledger.path()).args(["-e", &cluster.address(0)]);
    for replica in 1..=REPLICAS {
        command.args(["--like", &cluster.address(replica)]);
    }
    for commit in lost {
        command.args(["--lost", commit]);
    }
    let output = command.output().map_err(|source| super::file("herdbook", source))?;
    insist(output.status.success(), || format!("the proof failed: {}", String::from_utf8_lossy(&output.stderr)))?;
    String::from_utf8_lossy(&output.stdout).lines().for_each(say);
    Ok(())
}
