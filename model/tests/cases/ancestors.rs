//! Merges and diffs of the two systems that this one descends from, run as the example `cases` runs them. The files beside this one are copies
//! of what was gathered from their tests and from running them; `ours.json` says what comes out here where a case is questionable, and why
//! that is better.

#[path = "../../examples/cases/runner.rs"]
mod runner;

use std::collections::BTreeMap;

use runner::{Outcome, run};
use serde_json::Value as Json;

const FILES: [(&str, &str); 3] = [
    ("goatdb-merge", include_str!("ancestors/goatdb-merge.json")),
    ("noms-diff", include_str!("ancestors/noms-diff.json")),
    ("noms-merge", include_str!("ancestors/noms-merge.json")),
];

fn cases(text: &str) -> Vec<Json> {
    serde_json::from_str(text).expect("a list of cases")
}

#[test]
fn every_case_that_is_not_questionable_comes_out_as_there() {
    let mut passed = BTreeMap::<&str, usize>::new();
    for (file, text) in FILES {
        for case in cases(text).iter().filter(|case| case["questionable"] != true) {
            let Outcome { expected, found } = run(case).unwrap_or_else(|why| panic!("{file}: {}: {why}", case["name"]));
            assert_eq!(found, expected, "{file}: {}", case["name"]);
            *passed.entry(file).or_default() += 1;
        }
    }
    assert_eq!(passed, BTreeMap::from([("goatdb-merge", 66), ("noms-diff", 24), ("noms-merge", 84)]));
}

#[test]
fn every_questionable_case_comes_out_as_is_said_here() {
    let mut ours: BTreeMap<String, Json> = serde_json::from_str(include_str!("ancestors/ours.json")).expect("cases by name");
    for (file, text) in FILES {
        for case in cases(text).iter().filter(|case| case["questionable"] == true) {
            let name = format!("{file}/{}", case["name"].as_str().expect("a name"));
            let Outcome { found, .. } = run(case).unwrap_or_else(|why| panic!("{name}: {why}"));
            let said = ours.remove(&name).unwrap_or_else(|| panic!("{name} is not said: it comes out as {found}"));
            assert!(said["why"].as_str().is_some_and(|why| why.len() > 20), "{name}: no reason is given");
            assert_eq!(found, said["expect"], "{name}");
        }
    }
    assert!(ours.is_empty(), "these cases are not there: {ours:#?}");
}
