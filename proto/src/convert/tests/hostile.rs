//! Bytes from a stranger: any at all, valid ones with one change, and valid envelopes around anything.

use herdbook_sync::message::Message;
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::messages::messages;
use crate::{
    cluster::{Join, Joined, StartSchema, Status},
    edit::{Outcome, Write},
    history::{Inspected, Resolve, Revert, Shown},
    read::{Batch, Step, Watch},
    token::Token,
    v1,
};

/// Decodes bytes as each of the larger messages and converts what decodes. Returns how many did.
fn convert_all(bytes: &[u8]) -> usize {
    fn one<W: prost::Message + Default, T: TryFrom<W>>(bytes: &[u8]) -> usize {
        W::decode(bytes).map_or(0, |message| usize::from(T::try_from(message).is_ok()))
    }
    one::<v1::Frame, Message>(bytes)
        + one::<v1::CommitRequest, Write>(bytes)
        + one::<v1::CommitStreamResponse, Outcome>(bytes)
        + one::<v1::GetStreamResponse, crate::read::Found>(bytes)
        + one::<v1::BatchGetResponse, Batch>(bytes)
        + one::<v1::WatchRequest, Watch>(bytes)
        + one::<v1::WatchResponse, Step>(bytes)
        + one::<v1::ShowResponse, Shown>(bytes)
        + one::<v1::RevertRequest, Revert>(bytes)
        + one::<v1::MergeRequest, crate::merge::Merge>(bytes)
        + one::<v1::PlaybackRequest, crate::past::Playback>(bytes)
        + one::<v1::BlameResponse, crate::past::Blamed>(bytes)
        + one::<v1::ResolveRequest, Resolve>(bytes)
        + one::<v1::GetConflictResponse, Inspected>(bytes)
        + one::<v1::JoinRequest, Join>(bytes)
        + one::<v1::JoinResponse, Joined>(bytes)
        + one::<v1::StatusResponse, Status>(bytes)
        + one::<v1::StartSchemaRequest, StartSchema>(bytes)
}

proptest! {
    #[test]
    fn prop_any_bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        convert_all(&bytes);
        prop_assert!(Token::from_wire("page_token", &bytes).is_err());
    }

    #[test]
    fn prop_a_changed_message_is_taken_or_refused(message in messages(), at: prop::sample::Index, change in 1u8.., cut: bool) {
        let mut bytes = v1::Frame::try_from(message).expect("short").encode_to_vec();
        prop_assert!(convert_all(&bytes) > 0);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= change;
        }
        convert_all(&bytes);
    }

    #[test]
    fn prop_a_block_may_hold_anything(plain in vec(any::<u8>(), 0..600), small in 0u8..4, which in 0..3) {
        use v1::frame::Message as Choice;
        let plain = [vec![small], plain].concat();
        let block = Some(v1::Block { plain_len: u32::try_from(plain.len()).expect("short"), content: Some(v1::block::Content::Plain(plain.into())) });
        let message = match which {
            0 => Choice::Commits(v1::Commits { block }),
            1 => Choice::Entries(v1::Entries { block }),
            _ => Choice::Chunks(v1::Chunks { block, last: false }),
        };
        // What is taken must be what it says: it goes out again and comes back the same.
        if let Ok(message) = Message::try_from(v1::Frame { message: Some(message) }) {
            prop_assert_eq!(super::sent::<_, v1::Frame>(message.clone()), Ok(message));
        }
    }
}

#[test]
fn a_block_that_claims_a_billion_commits_reserves_nothing() {
    use v1::frame::Message as Choice;
    let plain: Vec<u8> = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    let block = v1::Block { plain_len: 5, content: Some(v1::block::Content::Plain(plain.into())) };
    let frame = v1::Frame { message: Some(Choice::Commits(v1::Commits { block: Some(block) })) };
    assert_eq!(Message::try_from(frame).expect_err("no commits").path(), "commits.block");
}
