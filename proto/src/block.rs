//! Blocks: bytes that travel compressed where that makes them shorter.
//!
//! A block of many commits repeats repository, branch, schema and session in each; zstd writes them once. Level 1 is as fast as the disk;
//! what is short or dense already travels as it is. The receiver reserves what the block states, never more than [`limits::BLOCK`].

use std::cell::RefCell;

use bytes::Bytes;
use zstd::{
    bulk::Decompressor,
    stream::raw::{Encoder, InBuffer, Operation as _, OutBuffer},
    zstd_safe::compress_bound,
};

use crate::{Fault, Malformed, limits, v1};

/// Shorter content is not worth the microseconds.
const WORTH: usize = 400;

/// Fastest level with a ratio worth having.
const LEVEL: i32 = 1;

/// Most bytes that a block of zstd takes beside its content.
const BLOCK_HEADER: usize = 16;

/// Fewest bytes that get codes of their own: short parts share them.
const PART: usize = 128;

/// A context of zstd is some hundred KiB; each thread keeps its own.
struct Contexts {
    compressor: Option<Encoder<'static>>,
    decompressor: Option<Decompressor<'static>>,
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = const { RefCell::new(Contexts { compressor: None, decompressor: None }) };
}

/// Puts bytes into a block: parts one after another. Each long part gets codes of its own, so parts are to be unlike each other.
///
/// # Errors
/// [`Fault::AboveLimit`] above [`limits::BLOCK`].
pub fn pack(parts: &[impl AsRef<[u8]>]) -> Result<v1::Block, Malformed> {
    use v1::block::Content;
    let len = parts.iter().map(|part| part.as_ref().len()).sum();
    let Some(plain_len) = u32::try_from(len).ok().filter(|_| len <= limits::BLOCK) else {
        return Err(Malformed::new("block", Fault::AboveLimit { actual: len as u64, limit: limits::BLOCK as u64 }));
    };
    let shorter = if len < WORTH { None } else { compress(parts, len).ok().filter(|shorter| shorter.len() < len / 8 * 7) };
    let content = match shorter {
        Some(shorter) => Content::Zstd(shorter.into()),
        None => Content::Plain(parts.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>().concat().into()),
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

fn compress(parts: &[impl AsRef<[u8]>], len: usize) -> std::io::Result<Vec<u8>> {
    CONTEXTS.with_borrow_mut(|contexts| {
        if contexts.compressor.is_none() {
            contexts.compressor = Some(Encoder::new(LEVEL)?);
        }
        let compressor = contexts.compressor.as_mut().expect("just made");
        compressor.reinit()?;
        compressor.set_pledged_src_size(Some(len as u64))?;
        // Each part may end a block of its own.
        let mut shorter = Vec::with_capacity(compress_bound(len) + BLOCK_HEADER * parts.len());
        let mut out = OutBuffer::around(&mut shorter);
        let full = || std::io::Error::other("a block did not fit its bound");
        let mut since = 0;
        for part in parts {
            let mut input = InBuffer::around(part.as_ref());
            since += input.src.len();
            while input.pos() < input.src.len() {
                let before = (input.pos(), out.pos());
                compressor.run(&mut input, &mut out)?;
                if before == (input.pos(), out.pos()) {
                    return Err(full());
                }
            }
            if since >= PART {
                since = compressor.flush(&mut out)?;
                if since > 0 {
                    return Err(full());
                }
            }
        }
        if compressor.finish(&mut out, true)? > 0 {
            return Err(full());
        }
        Ok(shorter)
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
            prop_assert_eq!(unpack(pack(std::slice::from_ref(&plain)).expect("short")).expect("just packed"), plain);
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
        let block = pack(&[b"herdbook".repeat(1000)]).expect("short");
        assert!(matches!(&block.content, Some(Content::Zstd(bytes)) if bytes.len() < 200));
        let noise: Vec<u8> = (0..8000u64)
            .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).to_le_bytes()[0] ^ ((at * at) >> 7).to_le_bytes()[0])
            .collect();
        let block = pack(std::slice::from_ref(&noise)).expect("short");
        assert_eq!(unpack(block).expect("just packed"), noise);
    }

    #[test]
    fn a_block_that_states_another_length_is_refused() {
        let mut block = pack(&[vec![7; 10_000]]).expect("short");
        for lie in [9_999, 10_001, 0] {
            block.plain_len = lie;
            assert_eq!(*unpack(block.clone()).expect_err("a lie").fault(), Fault::BadBlock { stated: lie as usize });
        }
        block.plain_len = u32::MAX;
        assert!(matches!(unpack(block).expect_err("too long").fault(), Fault::AboveLimit { .. }));
    }

    #[test]
    fn content_above_the_limit_is_not_packed() {
        assert!(matches!(pack(&[vec![0; limits::BLOCK + 1]]).expect_err("too long").fault(), Fault::AboveLimit { .. }));
        assert!(pack(&[vec![0; limits::BLOCK]]).is_ok());
    }
}
