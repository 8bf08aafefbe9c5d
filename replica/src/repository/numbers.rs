//! Small numbers for chains, so that a vector in the index names one by a byte or two.
//!
//! Law: what is stored names only chains whose numbers are stored, whichever batches reach the store. So a number is written again with each
//! batch that uses it until it is read back; batches that are thrown away leave a number unused, and nothing else.

use std::collections::HashMap;

use herdbook_model::id::ChainId;
use herdbook_store::{Batch, Direction, KeyRange, Store, Table};

use super::layout;
use crate::error::Error;

/// The chains that have a number here.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Number of each chain, and whether it is known to be stored.
    numbers: HashMap<ChainId, (u32, bool)>,
    chains: HashMap<u32, ChainId>,
    next: u32,
}

impl Numbers {
    /// Reads them. Cost: one record a chain.
    pub(crate) fn load(store: &dyn Store) -> Result<Self, Error> {
        let mut numbers = Self::default();
        for record in store.records().scan(Table::Index, KeyRange::prefix(layout::CHAIN), Direction::Forward) {
            let record = record?;
            if let (Some(number), Ok(chain)) = (layout::parse_number(&record.key), ChainId::try_from(record.value.as_slice())) {
                numbers.note(number, chain, true);
            }
        }
        Ok(numbers)
    }

    fn note(&mut self, number: u32, chain: ChainId, is_stored: bool) {
        self.numbers.insert(chain, (number, is_stored));
        self.chains.insert(number, chain);
        self.next = self.next.max(number.saturating_add(1));
    }

    /// Returns the chain of a number.
    pub(crate) fn chain(&self, number: u32) -> Option<ChainId> {
        self.chains.get(&number).copied()
    }

    /// Returns the number of a chain, for what `batch` writes.
    pub(crate) fn number(&mut self, chain: &ChainId, store: &dyn Store, batch: &mut Batch) -> Result<u32, Error> {
        let number = match self.numbers.get(chain) {
            Some((number, true)) => return Ok(*number),
            Some((number, false)) => *number,
            None => self.next,
        };
        let key = layout::chain(number);
        let is_stored = store.records().get(Table::Index, &key)?.is_some();
        if !is_stored {
            batch.put(Table::Index, key, chain.as_bytes().to_vec());
        }
        self.note(number, *chain, is_stored);
        Ok(number)
    }
}
