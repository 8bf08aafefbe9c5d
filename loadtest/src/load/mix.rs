//! What operations a run is made of, in which proportions: YCSB's six, reads and writes by a percentage, or any from a file.

use std::{fmt, path::Path};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use crate::{Error, workload::Rng};

/// Kinds of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Reads a document.
    Read,
    /// Writes a document that exists.
    Update,
    /// Writes one that does not.
    Insert,
    /// Reads a document and those after it.
    Scan,
    /// Reads a document, then writes it.
    Modify,
    /// Writes many documents in one request.
    Batch,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Read, Self::Update, Self::Insert, Self::Scan, Self::Modify, Self::Batch];

    /// Returns its place among all.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it writes.
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Read | Self::Scan)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::Modify => "modify",
            Self::Batch => "batch",
        })
    }
}

/// YCSB's core workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ycsb {
    /// Half reads, half updates
    A,
    /// 95 reads, 5 updates
    B,
    /// Reads only
    C,
    /// 95 reads of the latest, 5 inserts
    D,
    /// 95 short scans, 5 inserts
    E,
    /// Half reads, half reads followed by a write
    F,
}

/// Weights of the operations, and which documents they are on. From a file it is YAML: `read: 50`, `update: 50`, `keys: zipfian`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// Reads of a document.
    pub read: u32,
    /// Writes of a document that exists.
    pub update: u32,
    /// Writes of one that does not.
    pub insert: u32,
    /// Reads of several in the order of keys.
    pub scan: u32,
    /// Reads followed by a write.
    pub modify: u32,
    /// Writes of many documents in one request.
    pub batch: u32,
    /// Most documents of a scan; how many is chosen evenly.
    pub scan_length: Option<u32>,
    /// Documents of a batch.
    pub batch_size: Option<u32>,
    /// How documents are chosen.
    pub keys: Keys,
}

impl Mix {
    /// Most documents of a scan where nothing is said: YCSB's.
    pub const SCAN: u32 = 100;

    /// Documents of a batch where nothing is said.
    pub const BATCH: u32 = 100;

    /// Returns one of YCSB's.
    pub const fn ycsb(workload: Ycsb) -> Self {
        let none =
            Self { read: 0, update: 0, insert: 0, scan: 0, modify: 0, batch: 0, scan_length: None, batch_size: None, keys: Keys::Zipfian };
        match workload {
            Ycsb::A => Self { read: 50, update: 50, ..none },
            Ycsb::B => Self { read: 95, update: 5, ..none },
            Ycsb::C => Self { read: 100, ..none },
            Ycsb::D => Self { read: 95, insert: 5, keys: Keys::Latest, ..none },
            Ycsb::E => Self { scan: 95, insert: 5, ..none },
            Ycsb::F => Self { read: 50, modify: 50, ..none },
        }
    }

    /// Returns that of so many reads in a hundred operations, the rest updates.
    pub fn reads(percent: u8) -> Self {
        let read = u32::from(percent.min(100));
        Self { read, update: 100 - read, ..Self::default() }
    }

    /// Reads one from a YAML file.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Mix`] with what is wrong and where.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File { what: "read", path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|why| Error::Mix { path: path.to_owned(), why })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mix: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if mix.total() == 0 {
            return Err("all weights are 0".to_owned());
        }
        if [mix.scan_length, mix.batch_size].contains(&Some(0)) {
            return Err("scan_length and batch_size are at least 1".to_owned());
        }
        Ok(mix)
    }

    /// Returns the kind of the next operation.
    pub fn choose(&self, rng: &mut Rng) -> Kind {
        let mut draw = rng.below(self.total().max(1));
        for (kind, weight) in self.weights() {
            if draw < u64::from(weight) {
                return kind;
            }
            draw -= u64::from(weight);
        }
        Kind::Read
    }

    /// Whether the kind occurs.
    pub fn has(&self, kind: Kind) -> bool {
        self.weights().into_iter().any(|(other, weight)| other == kind && weight > 0)
    }

    fn weights(&self) -> [(Kind, u32); 6] {
        let weights = [self.read, self.update, self.insert, self.scan, self.modify, self.batch];
        Kind::ALL.map(|kind| (kind, weights[kind.index()]))
    }

    fn total(&self) -> u64 {
        self.weights().into_iter().map(|(_, weight)| u64::from(weight)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_in_their_proportions() {
        let (mix, mut rng, mut counts) = (Mix::ycsb(Ycsb::D), Rng::new(1), [0; 6]);
        for _ in 0..10_000 {
            counts[mix.choose(&mut rng).index()] += 1;
        }
        assert_eq!(counts.iter().sum::<i32>(), counts[Kind::Read.index()] + counts[Kind::Insert.index()]);
        assert!((400..600).contains(&counts[Kind::Insert.index()]), "{counts:?}");
    }

    #[test]
    fn a_mix_is_read_from_a_file() {
        let mix = Mix::parse("# half and half\nread: 50\nscan: 50\nscan_length: 10\nkeys: zipfian\n").expect("well formed");
        assert_eq!(mix, Mix { read: 50, scan: 50, scan_length: Some(10), keys: Keys::Zipfian, ..Mix::default() });
    }

    #[test]
    fn a_mix_that_says_nothing_or_something_unknown_is_refused() {
        for (text, why) in
            [("keys: uniform", "all weights"), ("reed: 50", "reed"), ("batch: 1\nbatch_size: 0", "at least 1"), ("read: x", "x")]
        {
            let error = Mix::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn every_kind_knows_its_place() {
        assert!(Kind::ALL.iter().enumerate().all(|(at, kind)| kind.index() == at));
    }
}
