//! An interval of keys.

use std::ops::Bound;

/// The keys from one bound to another: `from <= key < to`, without end where `to` is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl Keys {
    /// Returns the interval of every key.
    pub const fn all() -> Self {
        Self { from: Vec::new(), to: None }
    }

    /// Returns the keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        // The first key after them: the prefix with its last byte below 0xff raised by one and what follows dropped.
        let to = prefix.iter().rposition(|&byte| byte < 0xff).map(|last| {
            let mut to = prefix[..=last].to_vec();
            to[last] += 1;
            to
        });
        Self { from: prefix.to_vec(), to }
    }

    /// Returns the keys between two bounds.
    pub fn between(from: Bound<&[u8]>, to: Bound<&[u8]>) -> Self {
        // `key ++ 0` is the very next key.
        let after = |key: &[u8]| [key, &[0]].concat();
        Self {
            from: match from {
                Bound::Unbounded => Vec::new(),
                Bound::Included(key) => key.to_vec(),
                Bound::Excluded(key) => after(key),
            },
            to: match to {
                Bound::Unbounded => None,
                Bound::Included(key) => Some(after(key)),
                Bound::Excluded(key) => Some(key.to_vec()),
            },
        }
    }

    /// Returns the smallest key, which lies in it.
    pub fn from(&self) -> &[u8] {
        &self.from
    }

    /// Returns the first key after it, or `None` where it has no end.
    pub fn to(&self) -> Option<&[u8]> {
        self.to.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(Keys::prefix(b"ab").to(), Some(&b"ac"[..]));
        assert_eq!(Keys::prefix(b"a\xff").to(), Some(&b"b"[..]));
        assert_eq!(Keys::prefix(b"\xff").to(), None);
        assert_eq!(Keys::prefix(b""), Keys::all());
    }
}
