//! An application that holds a replica in itself: `cargo run -p herdbook-replica --example embedded -- FOLDER [EDITS]`.
//!
//! Puts documents and reads each back, and tells how many a second, gathered and one by one.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use herdbook_model::json;
use herdbook_replica::{
    Replica,
    embedded::{CAPTURE, Error},
};
use serde_json::json;

const SCHEMA: &str = r#"{"version": 1, "collections": {"notes": {"fields": [
    {"name": "text", "type": "string"}, {"name": "number", "type": "int"}]}}}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder for the replica")?;
    let edits = arguments.next().map_or(Ok(10_000), |edits| edits.parse())?;
    for (how, capture) in [("gathered", CAPTURE), ("one by one", Duration::ZERO)] {
        let replica = open(Path::new(&folder), capture)?;
        let began = Instant::now();
        for number in 0..edits {
            let key = format!("note-{number:06}");
            replica.put("notes", &key, &json!({"text": "a line", "number": number}))?;
            replica.get("notes", &key)?.ok_or("a note that was put is read")?;
        }
        let took = began.elapsed();
        replica.flush()?;
        println!("{edits} puts and gets, {how}: {:.0}/s; durable after {:.1?}", edits as f64 / took.as_secs_f64(), began.elapsed());
        println!("state {}", replica.state()?);
        replica.close()?;
    }
    Ok(())
}

fn open(folder: &Path, capture: Duration) -> Result<Replica, Error> {
    let schema = json::schema_from_json(SCHEMA).map_err(herdbook_replica::Error::from)?;
    Replica::builder(folder).schema(schema).capture(capture).open()
}
