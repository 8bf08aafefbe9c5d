//! Runs merge and diff cases from files: `cargo run --release -p herdbook-model --example cases -- FILE…`. Prints each failure, and a last line
//! of how many passed, failed, and were skipped because they are marked questionable.

mod runner;

use std::{env, fs, process::ExitCode};

use runner::{Outcome, run};

fn main() -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for path in env::args().skip(1) {
        let text = fs::read_to_string(&path).map_err(|error| error.to_string());
        let cases = text.and_then(|text| serde_json::from_str::<Vec<serde_json::Value>>(&text).map_err(|error| error.to_string()));
        let cases = match cases {
            Ok(cases) => cases,
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        };
        for case in &cases {
            if case["questionable"] == true {
                skipped += 1;
                continue;
            }
            match run(case) {
                Ok(Outcome { expected, found }) if expected == found => passed += 1,
                Ok(Outcome { expected, found }) => {
                    failed += 1;
                    println!("{path}: {}: expected {expected}, found {found}", case["name"]);
                }
                Err(why) => {
                    failed += 1;
                    println!("{path}: {}: {why}", case["name"]);
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
