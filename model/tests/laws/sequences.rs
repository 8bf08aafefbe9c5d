//! Texts and lists: what people type stays in one piece, and an item is there once, wherever they move it.

use std::sync::Arc;

use herdbook_model::{
    document::{Field, List, ListSplice, Text, TextSplice},
    edit::{Change, Edit, FieldEdit, Operation},
    json::schema_from_json,
    schema::{CollectionId, FieldId},
    testutil::{Herd, Replica, key, workload::Rng},
    value::{Scalar, Value},
};

const NOTES: CollectionId = CollectionId(1);
const BODY: FieldId = FieldId(1);
const ITEMS: FieldId = FieldId(2);

fn herd(count: usize) -> Herd {
    let text = r#"{"version": 1, "collections": {"notes": {"fields": [{"name": "body", "type": "text"}, {"name": "items", "type": "list<int>"}]}}}"#;
    Herd::under(count, Arc::new(schema_from_json(text).expect("a valid schema")))
}

fn text(replica: &Replica) -> Text {
    let document = replica.document(NOTES, "a");
    match document.as_ref().and_then(|document| document.field(BODY)) {
        Some(Field::Text(text)) => text.clone(),
        _ => Text::default(),
    }
}

fn list(replica: &Replica) -> List {
    let document = replica.document(NOTES, "a");
    match document.as_ref().and_then(|document| document.field(ITEMS)) {
        Some(Field::List(list)) => list.clone(),
        _ => List::default(),
    }
}

fn change(herd: &mut Herd, who: usize, field: FieldId, change: Change) {
    let edit = Edit { key: key("a"), operation: Operation::Update(vec![FieldEdit { field, change }]) };
    herd.commit(who, [(NOTES, edit)]);
}

fn write(herd: &mut Herd, who: usize, at: usize, removed: u64, inserted: &str) {
    let splice = TextSplice { at: at as u64, removed, inserted: inserted.into() };
    let edit = text(&herd.replicas[who]).splice(&[splice]).expect("in the text");
    change(herd, who, BODY, Change::Text(edit));
}

fn read(herd: &Herd) -> String {
    let texts: Vec<_> = herd.replicas.iter().map(|replica| text(replica).read()).collect();
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    texts[0].clone()
}

fn splice(herd: &mut Herd, who: usize, splices: &[ListSplice]) {
    let edit = list(&herd.replicas[who]).splice(splices).expect("in the list");
    change(herd, who, ITEMS, Change::List(edit.into()));
}

fn items(herd: &Herd) -> Vec<i64> {
    let view = herd.replicas[0].view(NOTES, "a").expect("alive");
    let Some(Value::List(items)) = view.fields.get("items") else { return Vec::new() };
    items.iter().map(|item| if let Value::Scalar(Scalar::Int(item)) = item { *item } else { panic!("an int") }).collect()
}

#[test]
fn what_several_type_at_one_place_never_interleaves() {
    for backwards in [false, true] {
        let mut herd = herd(4);
        write(&mut herd, 0, 0, 0, "<>");
        herd.converge();
        // Each types letter by letter, in a commit each, without hearing of the others.
        for (who, word) in ["alpha", "bravo", "cargo", "delta"].into_iter().enumerate() {
            for (at, letter) in word.chars().enumerate() {
                let letter = if backwards { word.chars().rev().nth(at).expect("as many") } else { letter };
                write(&mut herd, who, if backwards { 1 } else { 1 + at }, 0, &letter.to_string());
            }
        }
        herd.converge();
        assert_eq!(read(&herd), "<alphabravocargodelta>", "backwards: {backwards}");
    }
}

#[test]
fn a_run_that_nobody_inserted_into_stays_in_one_piece() {
    for seed in 0..200 {
        let (mut rng, mut herd) = (Rng::new(seed), herd(3));
        let mut runs = Vec::new();
        for round in 0..12u32 {
            let who = rng.index(3);
            // Insertions at the very ends of what others wrote: never inside a run.
            let now = text(&herd.replicas[who]).read();
            let borders: Vec<_> =
                (0..=now.chars().count()).filter(|at| now.chars().nth(*at).is_none_or(|letter| letter.is_ascii_uppercase())).collect();
            let first = char::from(b'A' + u8::try_from(round).expect("few"));
            let run = format!("{first}{}", "abcdefgh".get(..1 + rng.index(7)).expect("long enough"));
            write(&mut herd, who, borders[rng.index(borders.len())], 0, &run);
            runs.push(run);
            if rng.below(3) == 0 {
                let (from, to) = (rng.index(3), rng.index(3));
                herd.exchange(from, to);
            }
        }
        herd.converge();
        let text = read(&herd);
        for run in runs {
            assert!(text.contains(&run), "seed {seed}: {run} is torn in {text}");
        }
    }
}

#[test]
fn a_paste_is_one_run_and_costs_its_letters() {
    let mut herd = herd(1);
    write(&mut herd, 0, 0, 0, &"x".repeat(10_000));
    let bytes = herdbook_model::codec::Encode::to_bytes(&*herd.replicas[0].document(NOTES, "a").expect("there"));
    assert!(bytes.len() < 10_100, "{} bytes", bytes.len());
}

#[test]
fn positions_beyond_the_text_and_splices_out_of_order_are_no_edit() {
    let mut herd = herd(1);
    write(&mut herd, 0, 0, 0, "abc");
    let text = text(&herd.replicas[0]);
    let splice = |at, removed| TextSplice { at, removed, inserted: "x".into() };
    assert_eq!(text.splice(&[splice(4, 0)]), None);
    assert_eq!(text.splice(&[splice(2, 2)]), None);
    assert_eq!(text.splice(&[splice(u64::MAX, u64::MAX)]), None);
    assert_eq!(text.splice(&[splice(2, 0), splice(0, 0)]), None);
    assert!(text.splice(&[splice(0, 1), splice(3, 0)]).is_some());
}

#[test]
fn two_moves_of_one_item_do_not_make_two_of_it() {
    let mut herd = herd(3);
    let inserted = [1, 2, 3, 4].map(Value::from).to_vec();
    splice(&mut herd, 0, &[ListSplice::Splice { at: 0, removed: 0, inserted }]);
    herd.converge();
    splice(&mut herd, 0, &[ListSplice::Move { from: 0, to: 2 }]);
    splice(&mut herd, 1, &[ListSplice::Move { from: 0, to: 3 }]);
    splice(&mut herd, 2, &[ListSplice::Set { at: 0, value: Value::from(9) }]);
    herd.converge();
    assert_eq!(items(&herd), [2, 3, 4, 9]);
    splice(&mut herd, 1, &[ListSplice::Move { from: 3, to: 0 }]);
    herd.converge();
    assert_eq!(items(&herd), [9, 2, 3, 4]);
}

#[test]
fn an_item_that_one_deletes_and_another_moves_is_gone_and_one_with_a_new_value_stays() {
    let mut herd = herd(2);
    splice(&mut herd, 0, &[ListSplice::Splice { at: 0, removed: 0, inserted: [1, 2, 3].map(Value::from).to_vec() }]);
    herd.converge();
    splice(&mut herd, 0, &[ListSplice::Splice { at: 0, removed: 2, inserted: Vec::new() }]);
    splice(&mut herd, 1, &[ListSplice::Move { from: 0, to: 2 }]);
    splice(&mut herd, 1, &[ListSplice::Set { at: 0, value: Value::from(20) }]);
    herd.converge();
    assert_eq!(items(&herd), [20, 3]);
}
