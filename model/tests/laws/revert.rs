//! Reverts: what others wrote stays, what was taken back can be brought back.

use std::sync::Arc;

use herdbook_model::{
    document::View,
    edit::{Edit, FieldEdit},
    graph::Graph as _,
    id::CommitId,
    revert::revert,
    schema::CollectionId,
    testutil::{
        ANIMALS, Delivery, Herd, Replica, animal, clear, create, delete, elements, entries, put, remove, schema, set, update, workload::Rng,
    },
    time::Time,
    vector::VersionVector,
};

use crate::history::History;

/// Returns the edits that take back commit `id` at `replica`.
fn taken_back(replica: &Replica, id: &CommitId) -> Vec<(CollectionId, Edit)> {
    let delivery = replica.delivery(id);
    let mut below = VersionVector::default();
    for parent in &delivery.commit.header().parents {
        let Ok(Some(meta)) = replica.graph().meta(parent) else { panic!("parents are in the graph") };
        below.merge(&meta.vector);
    }
    let (then, nodes) = replica.replayed_to(Arc::new(schema()), &below);
    let (chain, counter) = (delivery.commit.chain(), delivery.commit.header().counter);
    let mut edits = Vec::new();
    for (collection, edit) in delivery.requests.iter().flatten().flat_map(|request| request.edits()) {
        let definition = schema();
        let Ok(definition) = definition.by_id(collection) else { continue };
        let before = then.document(&nodes, collection, &edit.key).expect("whole");
        let now = replica.state().document(replica.nodes(), collection, &edit.key).expect("whole");
        let is_own = |dot: &herdbook_model::document::Dot| dot.chain == chain && dot.counter == counter;
        edits.extend(revert(edit, before.as_deref(), now.as_deref(), definition, is_own).map(|edit| (collection, edit)));
    }
    edits
}

fn commit_revert(replica: &mut Replica, id: &CommitId) -> CommitId {
    let edits = taken_back(replica, id);
    for (collection, edit) in &edits {
        edit.check(schema().by_id(*collection).expect("a collection of the schema")).expect("a revert fits the schema");
    }
    replica.commit(Time::ZERO, edits).commit.id()
}

/// One replica's story: a document, an edit that is taken back, edits in between.
struct Story {
    herd: Herd,
}

impl Story {
    fn new(fields: impl IntoIterator<Item = FieldEdit>) -> Self {
        let mut herd = Herd::new(2);
        herd.commit(0, [(ANIMALS, create("alma", fields))]);
        herd.converge();
        Self { herd }
    }

    fn alice(&mut self, edit: Edit) -> Delivery {
        self.herd.commit(0, [(ANIMALS, edit)])
    }

    fn bob(&mut self, edit: Edit) -> Delivery {
        self.herd.commit(1, [(ANIMALS, edit)])
    }

    /// Takes back `what` where both know everything; returns what is read then.
    fn without(&mut self, what: &Delivery) -> Option<View> {
        self.herd.converge();
        commit_revert(&mut self.herd.replicas[0], &what.commit.id());
        self.herd.converge();
        self.herd.replicas[1].view(ANIMALS, "alma")
    }
}

fn json(view: Option<View>) -> serde_json::Value {
    view.map_or(serde_json::Value::Null, |view| herdbook_model::json::view_to_json(&view).into())
}

fn words(add: &[&'static str], remove: &[&'static str]) -> FieldEdit {
    elements(animal::TAGS, add.to_vec(), remove.to_vec())
}

#[test]
fn values_that_were_replaced_come_back() {
    let mut story =
        Story::new([set(animal::NAME, "Alma"), set(animal::OWNER, "ada"), words(&["wild"], &[]), put(animal::YIELDS, "may", 7)]);
    let fields = [
        set(animal::NAME, "Olga"),
        set(animal::OWNER, "bob"),
        words(&["tame"], &["wild"]),
        entries(animal::YIELDS, [("june", 8)], ["may"]),
    ];
    let bad = story.alice(update("alma", fields));
    let found = json(story.without(&bad));
    assert_eq!(found["name"], "Alma");
    assert_eq!(found["owner"], "ada");
    assert_eq!(found["tags"], serde_json::json!(["wild"]));
    assert_eq!(found["yields"], serde_json::json!({"may": 7}));
}

#[test]
fn a_cleared_set_and_map_come_back_whole() {
    let mut story = Story::new([words(&["wild", "old"], &[]), put(animal::YIELDS, "may", 7)]);
    let bad = story.alice(update("alma", [clear(animal::TAGS), clear(animal::YIELDS)]));
    let found = json(story.without(&bad));
    assert_eq!(found["tags"], serde_json::json!(["old", "wild"]));
    assert_eq!(found["yields"], serde_json::json!({"may": 7}));
}

#[test]
fn what_a_create_over_a_living_document_took_away_comes_back() {
    let mut story =
        Story::new([set(animal::NAME, "Alma"), words(&["wild", "old"], &[]), entries(animal::YIELDS, [("may", 7), ("june", 8)], [])]);
    let bad = story.alice(create("alma", [words(&["old"], &[]), put(animal::YIELDS, "may", 1)]));
    let found = json(story.without(&bad));
    assert_eq!(found["name"], "Alma");
    assert_eq!(found["tags"], serde_json::json!(["old", "wild"]));
    assert_eq!(found["yields"], serde_json::json!({"may": 7, "june": 8}));
}

#[test]
fn a_later_clear_by_others_stays() {
    let mut story = Story::new([set(animal::NAME, "Alma")]);
    let bad = story.alice(update("alma", [set(animal::NAME, "Olga")]));
    story.herd.converge();
    story.bob(update("alma", [clear(animal::NAME)]));
    assert_eq!(json(story.without(&bad))["name"], serde_json::Value::Null);
}

#[test]
fn a_concurrent_winner_of_others_stays() {
    let mut story = Story::new([set(animal::NAME, "Alma"), put(animal::YIELDS, "may", 7)]);
    let bad = story.alice(update("alma", [set(animal::NAME, "Olga"), put(animal::YIELDS, "may", 0)]));
    story.bob(update("alma", [set(animal::NAME, "Ilse"), put(animal::YIELDS, "may", 9)]));
    let found = json(story.without(&bad));
    assert_eq!((&found["name"], &found["yields"]), (&"Ilse".into(), &serde_json::json!({"may": 9})));
}

#[test]
fn a_concurrent_loser_of_others_is_read_again() {
    let mut story = Story::new([set(animal::NAME, "Alma"), put(animal::YIELDS, "may", 7)]);
    story.bob(update("alma", [set(animal::NAME, "Ilse"), put(animal::YIELDS, "may", 9)]));
    let bad = story.alice(update("alma", [set(animal::NAME, "Olga"), put(animal::YIELDS, "may", 0)]));
    let found = json(story.without(&bad));
    assert_eq!((&found["name"], &found["yields"]), (&"Ilse".into(), &serde_json::json!({"may": 9})));
}

#[test]
fn taking_back_one_side_of_a_conflict_resolves_it_for_the_other() {
    let mut story = Story::new([set(animal::OWNER, "ada")]);
    let bad = story.alice(update("alma", [set(animal::OWNER, "bob")]));
    story.bob(update("alma", [set(animal::OWNER, "eve")]));
    let view = story.without(&bad).expect("alive");
    assert_eq!((view.conflicts.len(), &json(Some(view))["owner"]), (0, &"eve".into()));
}

#[test]
fn a_document_made_by_it_goes_and_one_that_others_touched_stays() {
    let mut herd = Herd::new(2);
    let made = herd.commit(0, [(ANIMALS, create("bella", [set(animal::NAME, "Bella")]))]);
    herd.converge();
    let mut touched = herd.clone();
    commit_revert(&mut herd.replicas[0], &made.commit.id());
    assert_eq!(herd.replicas[0].view(ANIMALS, "bella"), None);
    touched.commit(1, [(ANIMALS, update("bella", [set(animal::LEGS, 3)]))]);
    touched.converge();
    commit_revert(&mut touched.replicas[0], &made.commit.id());
    assert_eq!(json(touched.replicas[0].view(ANIMALS, "bella")), serde_json::json!({"legs": 3, "sold": false}));
}

#[test]
fn a_deleted_document_comes_back_without_values_that_are_only_defaults() {
    let mut story = Story::new([set(animal::NAME, "Alma")]);
    let bad = story.alice(delete("alma"));
    assert_eq!(json(story.without(&bad)), serde_json::json!({"name": "Alma", "legs": 4, "sold": false}));
    let document = story.herd.replicas[1].document(ANIMALS, "alma").expect("there");
    assert_eq!(document.fields().len(), 1, "defaults were not written");
}

#[test]
fn an_update_that_brought_a_deleted_document_back_is_taken_back_whole() {
    let mut story = Story::new([set(animal::NAME, "Alma")]);
    story.alice(delete("alma"));
    let bad = story.alice(update("alma", [set(animal::LEGS, 3)]));
    assert_eq!(story.without(&bad), None);
}

#[test]
fn a_document_that_others_made_and_deleted_since_stays_deleted() {
    let mut story = Story::new([set(animal::NAME, "Alma")]);
    let bad = story.alice(delete("alma"));
    story.herd.converge();
    story.bob(create("alma", [set(animal::NAME, "Second")]));
    story.bob(delete("alma"));
    assert_eq!(story.without(&bad), None);
}

#[test]
fn an_entry_that_others_removed_stays_removed() {
    let mut story = Story::new([put(animal::YIELDS, "may", 7)]);
    let bad = story.alice(update("alma", [put(animal::YIELDS, "may", 1), put(animal::YIELDS, "june", 1)].into_iter().take(1)));
    story.herd.converge();
    story.bob(update("alma", [remove(animal::YIELDS, "may")]));
    assert_eq!(json(story.without(&bad))["yields"], serde_json::Value::Null);
}

#[test]
fn a_revert_that_is_reverted_restores_what_was_read() {
    let mut changed = 0;
    for seed in 0..200 {
        let History { mut herd, commits, .. } = History::of(seed, 40);
        herd.converge();
        let mut rng = Rng::new(seed);
        let Some(what) = commits.get(rng.index(commits.len().max(1))) else { continue };
        let replica = &mut herd.replicas[0];
        let read =
            |replica: &Replica| ["alma", "bella", "clara", "dora"].map(|document| replica.view(ANIMALS, document).map(|view| view.fields));
        let before = read(replica);
        let back = commit_revert(replica, &what.commit.id());
        changed += usize::from(read(replica) != before);
        commit_revert(replica, &back);
        assert_eq!(read(replica), before, "seed {seed}");
    }
    assert!(changed > 20, "only {changed} reverts took anything back");
}
