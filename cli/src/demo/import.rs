//! Scene 1: a real data set goes in through one replica and is at all nodes.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    sync::Arc,
};

use flate2::read::MultiGzDecoder;
use herdbook_model::{
    id::RequestKey,
    json::{fields_from_json, schema_from_json},
    schema::Schema,
    value::Key,
};
use herdbook_proto::{
    document::Name,
    edit::{Edit, Operation, Write},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value as Json;

use super::{Cluster, insist, say};
use crate::errors::Error;

/// Documents a request.
const BATCH: usize = 500;

pub(super) async fn run(cluster: &mut Cluster, cities: &Path) -> Result<(), Error> {
    let client = cluster.client(1).await?;
    let schema = schema_from_json(&client.schema(None).await?.json).map_err(|error| Error::Demo { what: error.to_string() })?;
    let edits = read(cities, &schema)?;
    let total = edits.len() as u64;
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("   [{bar:40}] {pos}/{len} documents, {per_sec}").expect("a template");
    bar.set_style(style);
    let batches: Vec<Vec<Edit>> = edits.chunks(BATCH).map(<[Edit]>::to_vec).collect();
    let writes: Vec<_> = (0u64..).zip(&batches).map(|(at, edits)| Write::new(request_key(b"import", at), edits.clone())).collect();
    let began = std::time::Instant::now();
    let mut outcomes = client.commit_stream(futures::stream::iter(writes)).await?;
    let mut taken = 0u64;
    for edits in &batches {
        let outcome = outcomes.next().await?.ok_or_else(|| Error::Demo { what: "the import stream ended early".to_owned() })?;
        let ack = outcome.result?;
        cluster.ledger.note(&ack, edits)?;
        taken += edits.len() as u64;
        bar.set_position(taken);
    }
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    say(format!("{taken} documents, each batch of {BATCH} durable, in {seconds:.2} s: {:.0} documents/s", taken as f64 / seconds));
    let head = cluster.level("imported").await?;
    insist(head.documents == total, || format!("{} documents are there, not {total}", head.documents))
}

fn read(path: &Path, schema: &Schema) -> Result<Vec<Edit>, Error> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|source| super::file(&name, source))?;
    let collection = schema.collection("cities").map_err(|error| Error::Demo { what: error.to_string() })?;
    let mut edits = Vec::new();
    for (number, line) in (1u64..).zip(BufReader::new(MultiGzDecoder::new(file)).lines()) {
        let bad = |why: String| Error::Line { file: name.clone(), line: number, why };
        let json: Json = serde_json::from_str(&line.map_err(|error| bad(error.to_string()))?).map_err(|error| bad(error.to_string()))?;
        let key = Key::new(json["geonameid"].to_string()).map_err(|error| bad(error.to_string()))?;
        let fields = fields_from_json(collection, &json).map_err(|error| bad(error.to_string()))?;
        let fields = fields.into_iter().filter_map(|(id, value)| Some((collection.get(id)?.name.clone(), value?))).collect();
        edits.push(Edit { name: Name { collection: Arc::from("cities"), key }, operation: Operation::Put(fields) });
    }
    Ok(edits)
}

/// The same request has the same key in every run, so that a repeated one commits nothing twice.
pub(super) fn request_key(scene: &[u8], number: u64) -> RequestKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(scene).update(&number.to_be_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    RequestKey(key)
}
