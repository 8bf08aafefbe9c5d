//! Messages from callers and peers, and the tokens that come back from them.

use herdbook_model::id::Domain;
use herdbook_proto::{block, cluster, edit, history, limits, merge, past, read, token::Token, v1};
use herdbook_sync::message::Message;
use prost::Message as _;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::new("frame", frame).with_room(2 * limits::BLOCK),
    Target::new("frame-chunks", |bytes| of_block(bytes, |block| v1::frame::Message::Chunks(v1::Chunks { block, last: false }))),
    Target::new("frame-commits", |bytes| of_block(bytes, |block| v1::frame::Message::Commits(v1::Commits { block }))),
    Target::new("frame-entries", |bytes| of_block(bytes, |block| v1::frame::Message::Entries(v1::Entries { block }))),
    Target::new("request-batch", taken::<v1::BatchGetRequest, read::BatchGet>),
    Target::new("request-commit", taken::<v1::CommitRequest, edit::Write>),
    Target::new("request-join", taken::<v1::JoinRequest, cluster::Join>),
    Target::new("request-list", taken::<v1::ListRequest, read::List>),
    Target::new("request-log", taken::<v1::LogRequest, history::Log>),
    Target::new("request-merge", taken::<v1::MergeRequest, merge::Merge>),
    Target::new("request-playback", taken::<v1::PlaybackRequest, past::Playback>),
    Target::new("request-resolve", taken::<v1::ResolveRequest, history::Resolve>),
    Target::new("request-revert", taken::<v1::RevertRequest, history::Revert>),
    Target::new("request-schema", taken::<v1::StartSchemaRequest, cluster::StartSchema>),
    Target::new("request-watch", taken::<v1::WatchRequest, read::Watch>),
    Target::new("response-batch", taken::<v1::BatchGetResponse, read::Batch>),
    Target::new("response-blame", taken::<v1::BlameResponse, past::Blamed>),
    Target::new("response-commit", taken::<v1::CommitStreamResponse, edit::Outcome>),
    Target::new("response-conflict", taken::<v1::GetConflictResponse, history::Inspected>),
    Target::new("response-join", taken::<v1::JoinResponse, cluster::Joined>),
    Target::new("response-show", taken::<v1::ShowResponse, history::Shown>),
    Target::new("response-status", taken::<v1::StatusResponse, cluster::Status>),
    Target::new("response-watch", taken::<v1::WatchResponse, read::Step>),
    Target::new("token", token),
];

/// `from_wire(to_wire(x)) = x`, for what has been taken from the wire.
fn taken<W, T>(bytes: &[u8]) -> bool
where
    W: prost::Message + Default + From<T>,
    T: TryFrom<W> + Clone + PartialEq,
{
    let Some(value) = W::decode(bytes).ok().and_then(|message| T::try_from(message).ok()) else { return false };
    let again = T::try_from(W::from(value.clone()));
    assert!(again.is_ok_and(|again| again == value), "a call means something else on its way back");
    true
}

/// The same.
fn message(frame: v1::Frame) -> bool {
    let Ok(message) = Message::try_from(frame) else { return false };
    let frame = v1::Frame::try_from(message.clone()).expect("what came in one message goes out in one");
    assert_eq!(Message::try_from(frame), Ok(message), "a message means something else on its way back");
    true
}

fn frame(bytes: &[u8]) -> bool {
    v1::Frame::decode(bytes).is_ok_and(message)
}

/// The content of a block: a stranger could guess no compressed form of it.
fn of_block(bytes: &[u8], within: impl FnOnce(Option<v1::Block>) -> v1::frame::Message) -> bool {
    block::pack(&[bytes]).is_ok_and(|block| message(v1::Frame { message: Some(within(Some(block))) }))
}

/// The content of a token, under the checksum that belongs to it.
fn token(content: &[u8]) -> bool {
    let hash = Domain::Digest.hash(&[content]);
    let bytes = [content, &hash[..4]].concat();
    let Ok(token) = Token::from_wire("page_token", &bytes) else { return false };
    assert_eq!(token.to_wire().as_deref(), Some(bytes.as_slice()), "a token has another form");
    true
}
