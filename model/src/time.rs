//! Time of commits: a hybrid logical clock (Kulkarni et al. 2014) in 64 bits, 48 of milliseconds and 16 of counter.
//!
//! Law: the time of a commit is above that of each of its parents and of the commit before it on its chain. So sorting commits by
//! time is a causal order, and last-writer stamps rise along ancestry. Nothing here reads a clock: the caller says what time it is.

use std::{fmt, time::Duration};

use crate::codec::{Decode, Encode, Error, Reader, Writer};

/// A hybrid logical time: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

/// The largest time that may stand in a commit: year 6429. Above it the logical clock could not go on.
pub const MAX: Time = Time((1 << 63) - 1);

/// How far ahead of the receiver's clock a commit may be before it waits in quarantine.
pub const TOLERANCE: Duration = Duration::from_secs(60);

impl Time {
    /// The beginning: below every commit's time.
    pub const ZERO: Self = Self(0);

    /// Returns the earliest time within millisecond `millis` since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis << 16)
    }

    /// Returns the time whose raw form is `raw`.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the raw form.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns the milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// Returns the time for a new commit: the physical time `now`, or just above `latest` if that is not behind it. `None` at [`MAX`].
    pub fn after(latest: Self, now: Self) -> Option<Self> {
        let next = Self(now.0.max(latest.0 + 1));
        (next <= MAX).then_some(next)
    }

    /// Whether this is further ahead of `now` than [`TOLERANCE`].
    pub fn is_ahead(self, now: Self) -> bool {
        self.millis() > now.millis() + TOLERANCE.as_secs() * 1000
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.0 & 0xffff)
    }
}

impl Encode for Time {
    fn encode(&self, out: &mut Writer) {
        out.raw(&self.0.to_le_bytes());
    }
}

impl Decode for Time {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        let time = Self(u64::from_le_bytes(input.array()?));
        if time <= MAX { Ok(time) } else { Err(Error::Malformed { what: "time" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_rises_even_when_the_clock_stands_or_steps_back() {
        let latest = Time::from_millis(1000);
        assert_eq!(Time::after(latest, Time::from_millis(2000)), Some(Time::from_millis(2000)));
        assert!(Time::after(latest, Time::from_millis(10)).expect("far from the end") > latest);
        assert_eq!(Time::after(MAX, Time::ZERO), None);
    }
}
