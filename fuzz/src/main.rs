//! libFuzzer around one target, which `HERDBOOK_FUZZ` names. `scripts/fuzz.sh` builds it with coverage and runs it.

#![no_main]

use std::sync::OnceLock;

use herdbook_fuzz::{Target, targets};
use libfuzzer_sys::{Corpus, fuzz_target};

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("HERDBOOK_FUZZ").expect("HERDBOOK_FUZZ names a target");
        let target = targets().find(|target| target.name == name).expect("HERDBOOK_FUZZ names a target that there is");
        TARGET.get_or_init(|| target);
    },
    |bytes: &[u8]| -> Corpus {
        TARGET.get().expect("it was named").run(bytes);
        Corpus::Keep
    }
);
