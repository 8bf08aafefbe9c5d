//! What every decoder must do with bytes that nobody wrote.
//!
//! Laws: it answers and does not panic; it takes no more memory than its input allows; what it takes has one form, the one it was read from.
//! Each decoder is a [`Target`]; `main.rs` drives one of them with libFuzzer, `tests/corpus.rs` runs them all over the kept corpus.

pub mod allocation;
mod model;
mod stored;
mod wire;

/// A decoder under its laws.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Decodes, and panics where what was decoded breaks a law. Returns whether the bytes were taken.
    pub decode: fn(&[u8]) -> bool,
    /// Bytes that it may take beside those that grow with the input.
    pub room: usize,
}

/// Bytes that a decoder may take for each byte of its input: what the smallest part takes in memory that has one byte on the wire.
const GROWTH: usize = 512;

/// Bytes that any decoder may take.
const ROOM: usize = 16 << 10;

impl Target {
    const fn new(name: &'static str, decode: fn(&[u8]) -> bool) -> Self {
        Self { name, decode, room: ROOM }
    }

    const fn with_room(self, room: usize) -> Self {
        Self { room: ROOM + room, ..self }
    }

    /// Runs it over `bytes`; returns whether they were taken.
    ///
    /// # Panics
    /// If a law is broken.
    pub fn run(&self, bytes: &[u8]) -> bool {
        let (taken, most) = allocation::most_of(|| (self.decode)(bytes));
        let allowed = self.room + GROWTH * bytes.len();
        assert!(most <= allowed, "{}: {} bytes of input took {most} bytes of memory, {allowed} are allowed", self.name, bytes.len());
        taken
    }
}

/// Returns every target.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    model::TARGETS.iter().chain(wire::TARGETS).chain(stored::TARGETS)
}
