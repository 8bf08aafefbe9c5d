//! Blocks: bytes that travel compressed where that makes them shorter.
//!
//! A block of many commits repeats repository, branch, schema and session in each; zstd writes them once. Level 1 is as fast as the disk;
//! what is short or dense already travels as it is. The receiver reserves what the block states, never more than [`limits::BLOCK`].

use std::cell::RefCell;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::{Fault, Malformed, limits, v1};

/// Shorter content is not worth the microseconds.
const WORTH: usize = 400;

/// Fastest level with a ratio worth having.
const LEVEL: i32 = 1;

/// A context of zstd is some hundred KiB; each thread keeps its own.
struct Contexts {
    compressor: Option<Compressor<'static>>,
    decompressor: Option<Decompressor<'static>>,
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = const { RefCell::new(Contexts { compressor: None, decompressor: None }) };
}

/// Puts bytes into a block.
///
/// # Errors
/// [`Fault::AboveLimit`] above [`limits::BLOCK`].
pub fn pack(plain: Vec<u8>) -> Result<v1::Block, Malformed> {
    use v1::block::Content;
    let Some(plain_len) = u32::try_from(plain.len()).ok().filter(|_| plain.len() <= limits::BLOCK) else {
        return Err(Malformed::new("block", Fault::AboveLimit { actual: plain.len() as u64, limit: limits::BLOCK as u64 }));
    };
    let shorter = if plain.len() < WORTH { None } else { compress(&plain).filter(|shorter| shorter.len() < plain.len() / 8 * 7) };
    let content = match shorter {
        Some(shorter) => Content::Zstd(shorter.into()),
        None => Content::Plain(plain.into()),
    };
    Ok(v1::Block { plain_len, content: Some(content) })
}

/// Takes bytes out of a block.
///
/// # Errors
/// [`Malformed`] if it states more than [`limits::BLOCK`] bytes, or does not hold what it states.
pub fn unpack(block: v1::Block) -> Result<Bytes, Malformed> {
    use v1::block::Content;
    let v1::Block { plain_len, content } = block;
    let stated = usize::try_from(plain_len).unwrap_or(usize::MAX);
    if stated > limits::BLOCK {
        return Err(Malformed::new("plain_len", Fault::AboveLimit { actual: plain_len.into(), limit: limits::BLOCK as u64 }));
    }
    let plain = match content {
        None => return Err(Malformed::missing("content")),
        Some(Content::Plain(plain)) => Some(plain),
        Some(Content::Zstd(shorter)) => decompress(&shorter, stated).map(Bytes::from),
    };
    plain.filter(|plain| plain.len() == stated).ok_or_else(|| Malformed::new("content", Fault::BadBlock { stated }))
}

fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    CONTEXTS.with_borrow_mut(|contexts| {
        if contexts.compressor.is_none() {
            contexts.compressor = Compressor::new(LEVEL).ok();
        }
        contexts.compressor.as_mut()?.compress(plain).ok()
    })
}

fn decompress(shorter: &[u8], stated: usize) -> Option<Vec<u8>> {
    CONTEXTS.with_borrow_mut(|contexts| {
        if contexts.decompressor.is_none() {
            contexts.decompressor = Decompressor::new().ok();
        }
        contexts.decompressor.as_mut()?.decompress(shorter, stated).ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::v1::block::Content;

    proptest! {
        #[test]
        fn prop_what_is_packed_is_unpacked(seed in proptest::collection::vec(any::<u8>(), 0..300), times in 1usize..40) {
            let plain = seed.repeat(times);
            prop_assert_eq!(unpack(pack(plain.clone()).expect("short")).expect("just packed"), plain);
        }

        #[test]
        fn prop_any_content_is_taken_or_refused(plain_len in 0u32..5000, zstd: bool, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let content = if zstd { Content::Zstd(bytes.into()) } else { Content::Plain(bytes.into()) };
            if let Ok(plain) = unpack(v1::Block { plain_len, content: Some(content) }) {
                prop_assert_eq!(plain.len(), plain_len as usize);
            }
        }
    }

    #[test]
    fn repetition_shrinks_and_noise_travels_as_it_is() {
        let block = pack(b"herdbook".repeat(1000)).expect("short");
        assert!(matches!(&block.content, Some(Content::Zstd(bytes)) if bytes.len() < 200));
        let noise: Vec<u8> = (0..8000u64)
            .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).to_le_bytes()[0] ^ ((at * at) >> 7).to_le_bytes()[0])
            .collect();
        let block = pack(noise.clone()).expect("short");
        assert_eq!(unpack(block).expect("just packed"), noise);
    }

    #[test]
    fn a_block_that_states_another_length_is_refused() {
        let mut block = pack(vec![7; 10_000]).expect("short");
        for lie in [9_999, 10_001, 0] {
            block.plain_len = lie;
            assert_eq!(*unpack(block.clone()).expect_err("a lie").fault(), Fault::BadBlock { stated: lie as usize });
        }
        block.plain_len = u32::MAX;
        assert!(matches!(unpack(block).expect_err("too long").fault(), Fault::AboveLimit { .. }));
    }

    #[test]
    fn content_above_the_limit_is_not_packed() {
        assert!(matches!(pack(vec![0; limits::BLOCK + 1]).expect_err("too long").fault(), Fault::AboveLimit { .. }));
        assert!(pack(vec![0; limits::BLOCK]).is_ok());
    }
}
