//! Collaborative editing: everybody inserts into a few texts at once, each a letter of his own. Nobody's letters may be lost or doubled, and all
//! members must show the same text.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use herdbook_model::value::{Scalar, Value};
use herdbook_proto::{
    client::Client,
    document::{At, Document, Place},
    edit::{Change, Operation, TextSplice},
    read::Get,
};

use super::{Plan, Played, Stage, field, read_all, settle, write};
use crate::{
    Error,
    connection::Failures,
    node::{RequestKeys, connect, name},
    percentiles::Durations,
    workload::{BODY, PAGES, Rng, client_rng},
};

/// How many texts there are.
const TEXTS: usize = 4;

/// Letters of an insertion.
const LETTERS: usize = 3;

/// Longest pause of a client between two edits, in milliseconds.
const PAUSE: u64 = 20;

/// The first client's letter; each has one of its own after it.
const FIRST: u32 = 0x4e00;

/// Insertions that a client was told of, and those of unknown end, by text.
type Inserted = BTreeMap<usize, (u64, u64)>;

pub(super) async fn play(stage: &Stage, plan: &Plan) -> Result<Played, Error> {
    let requests = Arc::new(RequestKeys::new()?);
    let prefix = format!("pages/{}/", requests.run());
    let keys: Arc<[String]> = (0..TEXTS).map(|text| format!("{prefix}{text:04x}")).collect();
    let first = connect(&stage.ends[0]).await?;
    for key in keys.iter() {
        let fields = vec![(BODY.into(), Value::Scalar("·".into()))];
        write(&first, &requests, PAGES, key, Operation::Create(fields)).await.map_err(|failed| Error::call(&stage.ends[0], failed))?;
    }
    let mut played = Played::default();
    settle(stage, &mut played).await?;
    let end = Instant::now() + Duration::from_millis(plan.millis);
    let mut writers = Vec::new();
    for (node, number) in stage.ends.iter().cycle().zip(0..plan.clients) {
        let writer = Writer {
            client: connect(node).await?,
            letter: letter(number),
            keys: Arc::clone(&keys),
            requests: Arc::clone(&requests),
            rng: client_rng(number as u64, plan.seed),
        };
        writers.push(tokio::spawn(writer.run(end)));
    }
    let (mut inserted, mut acknowledged) = (Vec::new(), Durations::default());
    for ended in join_all(writers).await {
        let (own, failures, durations) = ended.expect("a writer does not panic");
        played.acknowledged += own.values().map(|(told, _)| told).sum::<u64>();
        played.failures.add(failures);
        acknowledged.add(&durations);
        inserted.push(own);
    }
    settle(stage, &mut played).await?;
    let mut shown = Vec::new();
    for node in &stage.nodes {
        let documents = read_all(node, &At::Branch(None), PAGES, &prefix).await?;
        let texts: Vec<_> =
            keys.iter().map(|key| documents.iter().find(|found| found.name.key.to_string() == **key).and_then(body)).collect();
        judge(node, &texts, &inserted, &mut played);
        shown.push(texts);
    }
    if shown.windows(2).any(|pair| pair[0] != pair[1]) {
        played.break_rule("the cluster", "all members show the same text", "they differ");
    }
    let letters: usize = shown.first().into_iter().flatten().flatten().map(|text| text.chars().count()).sum();
    played.figure("insertions a second", played.acknowledged as f64 * 1000.0 / plan.millis as f64);
    played.figure("letters in all texts", letters as f64);
    played.times.insert("acknowledged".to_owned(), acknowledged.percentiles());
    Ok(played)
}

/// Holds the texts of a member against what each client was told.
fn judge(node: &str, texts: &[Option<String>], inserted: &[Inserted], played: &mut Played) {
    for (at, text) in texts.iter().enumerate() {
        let Some(text) = text else {
            played.break_rule(node, "each text is held", format!("text {at} is gone"));
            continue;
        };
        let mut counts = BTreeMap::<char, usize>::new();
        text.chars().for_each(|letter| *counts.entry(letter).or_default() += 1);
        for (number, own) in inserted.iter().enumerate() {
            let (told, unknown) = own.get(&at).copied().unwrap_or_default();
            let found = counts.get(&letter(number)).copied().unwrap_or(0);
            let is_whole = found.is_multiple_of(LETTERS) && (told..=told + unknown).contains(&((found / LETTERS) as u64));
            if !is_whole {
                let found = format!("text {at}: client {number} inserted {told} times, {found} letters are there");
                played.break_rule(node, "each insertion is there once and whole", found);
            }
        }
    }
}

fn letter(number: usize) -> char {
    u32::try_from(number).ok().and_then(|number| char::from_u32(FIRST + number)).unwrap_or('?')
}

fn body(document: &Document) -> Option<String> {
    match field(document, BODY)? {
        Value::Scalar(Scalar::String(text)) => Some(text.to_string()),
        _ => None,
    }
}

struct Writer {
    client: Client,
    letter: char,
    keys: Arc<[String]>,
    requests: Arc<RequestKeys>,
    rng: Rng,
}

impl Writer {
    async fn run(mut self, end: Instant) -> (Inserted, Failures, Durations) {
        let (mut inserted, mut failures, mut acknowledged) = (Inserted::new(), Failures::default(), Durations::default());
        while Instant::now() < end {
            let text = self.rng.index(self.keys.len());
            let begun = Instant::now();
            match self.insert(text).await {
                Ok(()) => {
                    acknowledged.record(begun.elapsed());
                    inserted.entry(text).or_default().0 += 1;
                }
                Err(failed) => {
                    inserted.entry(text).or_default().1 += 1;
                    failures.count(failed.into());
                }
            }
            tokio::time::sleep(Duration::from_millis(self.rng.below(PAUSE + 1))).await;
        }
        (inserted, failures, acknowledged)
    }

    /// Inserts somewhere into a text as this client sees it. Texts only grow, so the place is there.
    async fn insert(&mut self, text: usize) -> Result<(), herdbook_proto::status::Failed> {
        let key = &self.keys[text];
        let found = self.client.get(Get { place: Place::NEWEST, name: name(PAGES, key) }).await?;
        let len = found.as_ref().and_then(body).map_or(0, |body| body.chars().count());
        let splice =
            TextSplice { at: Some(self.rng.below(len as u64 + 1)), removed: 0, inserted: self.letter.to_string().repeat(LETTERS).into() };
        let operation = Operation::Update(vec![(BODY.into(), Change::Text(vec![splice]))]);
        write(&self.client, &self.requests, PAGES, key, operation).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_are_lost_or_doubled_are_found_and_those_of_unknown_end_may_be_there() {
        let inserted = [Inserted::from([(0, (2, 1))])];
        let judged = |text: String| {
            let mut played = Played::default();
            judge("alice", &[Some(text)], &inserted, &mut played);
            played.findings.len()
        };
        let own = |count| format!("·{}", letter(0).to_string().repeat(count));
        assert_eq!([6, 9].map(|count| judged(own(count))), [0, 0]);
        assert_eq!([3, 5, 7, 12].map(|count| judged(own(count))), [1, 1, 1, 1]);
    }
}
