//! Messages of an exchange.

use herdbook_model::{
    SigningKey,
    authority::{Entry, Kind, Role, SessionCertificate},
    codec::{Decode as _, Encode as _, Error as Codec, Writer},
    commit::{Commit, Header, Unverified},
    id::{
        BranchName, ChainId, ChunkId, CommitId, EntryId, FrontierName, Judgement, Leaf, ReplicaId, RepositoryId, RequestKey, SchemaId,
        SessionId, StateRoot,
    },
    request::{Principal, Proof, Request},
    schema::CollectionId,
    testutil::{self, workload},
    time::Time,
    tree::Tree,
    vector::{Range, VersionVector},
};
use herdbook_sync::message::{
    Announced, Compare, Enrolment, Hello, Message, Offer, Parcel, Purpose, Refusal, RequestBody, RootOf, Summary, TreesOf, Wanted,
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;

use super::{
    bytes32,
    documents::{branches, positions, times},
    sent,
};
use crate::{Fault, v1};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(super) fn entries() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        bytes32().prop_map(|replica| Kind::Revoke { replica: ReplicaId(replica) }),
        (bytes32(), "[a-z]{0,9}").prop_map(|(replica, name)| Kind::Enrol { replica: ReplicaId(replica), name, role: Role::Replica }),
        (branches(), bytes32()).prop_map(|(branch, head)| Kind::Head { branch, heads: vec![CommitId(head)], root: None, voids: vec![] }),
    ];
    (bytes32(), any::<u64>(), 1u64..9, bytes32(), times(), kind).prop_map(|(repository, epoch, seq, previous, time, kind)| {
        Entry::sign(RepositoryId(repository), (epoch, seq, Some(EntryId(previous))), time, kind, &key())
    })
}

fn request(place: u8) -> Request {
    Request {
        key: RequestKey([place; 16]),
        principal: Principal { name: String::new(), proof: Proof::Session },
        preconditions: Vec::new(),
        groups: Vec::new(),
    }
}

fn commits() -> impl Strategy<Value = Commit<Unverified>> {
    (branches(), bytes32(), 1u64..9, times(), ".{0,20}", 0u8..4).prop_map(|(branch, parent, counter, time, message, requests)| {
        let header = Header {
            repository: RepositoryId([1; 32]),
            branch,
            schema: SchemaId([2; 32]),
            parents: vec![CommitId(parent)],
            session: SessionId([0; 32]),
            counter,
            previous: (counter > 1).then_some(CommitId(parent)),
            time,
            requests: Leaf([0; 32]),
            request_count: 0,
            message,
        };
        let requests: Vec<Request> = (0..requests).map(request).collect();
        let (commit, _) = Commit::sign(header, &requests, &key());
        Commit::from_bytes(&commit.to_bytes()).expect("just encoded")
    })
}

pub(super) fn parcels() -> impl Strategy<Value = Parcel> {
    let certificate = (bytes32(), times())
        .prop_map(|(session, began)| SessionCertificate::sign(RepositoryId([1; 32]), &SigningKey::from_bytes(&session), began, &key()));
    let body = prop_oneof![
        vec(any::<u8>(), 0..60).prop_map(RequestBody::Present),
        (bytes32(), vec("[a-z]{1,3}/[a-z]{1,3}", 0..3)).prop_map(|(leaf, documents)| RequestBody::Absent { leaf: Leaf(leaf), documents }),
    ];
    (commits(), option::of(certificate), vec(body, 0..4)).prop_map(|(commit, certificate, requests)| Parcel {
        commit,
        certificate,
        requests,
    })
}

fn vectors() -> impl Strategy<Value = VersionVector> {
    vec((any::<[u8; 16]>(), any::<u64>()), 0..6)
        .prop_map(|chains| chains.into_iter().map(|(chain, counter)| (ChainId(chain), counter)).collect())
}

fn trees() -> impl Strategy<Value = Tree> {
    let full = (bytes32(), 0u8..4, 1u64..1000, 1u64..1_000_000).prop_filter_map("a tree", |(root, level, count, bytes)| {
        let mut out = Writer::default();
        out.raw(&root);
        out.byte(level);
        out.uint(count);
        out.uint(bytes);
        Tree::from_bytes(out.as_bytes()).ok()
    });
    prop_oneof![1 => Just(Tree::empty()), 4 => full]
}

fn summaries() -> impl Strategy<Value = Summary> {
    (option::of(positions()), bytes32()).prop_map(|(newest, digest)| Summary { newest, digest })
}

fn hellos() -> impl Strategy<Value = Hello> {
    let purpose = prop_oneof![Just(Purpose::Converge), Just(Purpose::Recover)];
    let enrolment = option::of((entries(), entries()).prop_map(|(epoch, entry)| Enrolment { epoch, entry }));
    (any::<u32>(), bytes32(), bytes32(), bytes32(), purpose, enrolment, summaries(), any::<u64>()).prop_map(
        |(version, repository, replica, nonce, purpose, enrolment, summary, commits)| Hello {
            version,
            repository: RepositoryId(repository),
            replica: ReplicaId(replica),
            nonce,
            purpose,
            enrolment,
            summary,
            commits,
        },
    )
}

fn offers() -> impl Strategy<Value = Offer> {
    let trees = (any::<u16>(), trees(), trees(), trees()).prop_map(|(collection, documents, deleted, conflicts)| TreesOf {
        collection: CollectionId(collection),
        documents,
        deleted,
        conflicts,
    });
    (branches(), vec(bytes32(), 0..3), vectors(), bytes32(), vec(trees, 0..3)).prop_map(|(branch, heads, vector, judgement, trees)| Offer {
        branch,
        heads: heads.into_iter().map(CommitId).collect(),
        vector,
        judgement: Judgement(judgement),
        trees,
    })
}

fn comparisons() -> impl Strategy<Value = Compare> {
    let chain = (any::<[u8; 16]>(), any::<u64>()).prop_map(|(chain, counter)| (ChainId(chain), counter));
    prop_oneof![
        (any::<u32>(), vec(any::<u64>(), 0..40), bytes32()).prop_map(|(first, cells, vector)| Compare::Cells { first, cells, vector }),
        any::<u32>().prop_map(|count| Compare::Want { count }),
        vec(any::<u64>(), 0..40).prop_map(|symbols| Compare::Which { symbols }),
        vectors().prop_map(Compare::Those),
        vec(chain, 0..6).prop_map(Compare::Lacks),
    ]
}

fn refusals() -> impl Strategy<Value = Refusal> {
    use Refusal::{Broken, Busy, Diverged, Fork, NotAMember, Repository, Version};
    prop::sample::select(vec![Version, Repository, NotAMember, Broken, Fork, Busy, Diverged])
}

pub(super) fn messages() -> impl Strategy<Value = Message> {
    let announced = (bytes32(), any::<[u8; 16]>(), 1u64..).prop_map(|(id, chain, counter)| Announced {
        id: CommitId(id),
        chain: ChainId(chain),
        counter,
    });
    let range =
        (any::<[u8; 16]>(), 1u64..9, 0u64..9).prop_map(|(chain, first, more)| Range { chain: ChainId(chain), first, last: first + more });
    let root = (branches(), bytes32(), bytes32(), bytes32()).prop_map(|(branch, frontier, judgement, root)| RootOf {
        branch,
        frontier: FrontierName(frontier),
        judgement: Judgement(judgement),
        root: StateRoot(root),
    });
    let chunk = (bytes32(), vec(any::<u8>(), 0..200)).prop_map(|(id, bytes)| (ChunkId(id), bytes));
    prop_oneof![
        hellos().prop_map(Message::Hello),
        any::<[u8; 32]>().prop_map(|half| Message::Proof { signature: [half, half].concat().try_into().expect("two halves") }),
        summaries().prop_map(Message::Summary),
        vectors().prop_map(Message::Vector),
        comparisons().prop_map(Message::Compare),
        any::<u64>().prop_map(|first| Message::WantEntries { first }),
        vec(entries(), 0..4).prop_map(Message::Entries),
        vec(announced, 0..4).prop_map(Message::Announce),
        vec(range, 0..4).prop_map(Message::Want),
        vec(parcels(), 0..4).prop_map(Message::Commits),
        vec(root, 0..4).prop_map(Message::Roots),
        Just(Message::WantStates),
        vec(offers(), 0..3).prop_map(Message::Offers),
        (trees(), vec(any::<u32>(), 0..4), vec(any::<u32>(), 0..4)).prop_map(|(tree, path, names)| Message::WantChunks(Wanted {
            tree,
            path,
            names
        })),
        (vec(chunk, 0..4), any::<bool>()).prop_map(|(chunks, last)| Message::Chunks { chunks, last }),
        any::<u64>().prop_map(|bytes| Message::Credit { bytes }),
        refusals().prop_map(Message::Refuse),
    ]
}

proptest! {
    #[test]
    fn prop_messages_arrive_as_they_were(message in messages()) {
        prop_assert_eq!(sent::<_, v1::Frame>(message.clone()), Ok(message));
    }
}

/// A commit like those of a running session: only time, counter and links change from one to the next.
fn session(count: u64) -> Vec<Parcel> {
    let branch = BranchName::new("main@1").expect("well formed");
    let mut previous = CommitId([0; 32]);
    let parcel = |counter| {
        let header = Header {
            repository: RepositoryId([1; 32]),
            branch: branch.clone(),
            schema: SchemaId([2; 32]),
            parents: vec![previous],
            session: SessionId([0; 32]),
            counter,
            previous: (counter > 1).then_some(previous),
            time: Time::from_millis(1_700_000_000_000 + counter),
            requests: Leaf([0; 32]),
            request_count: 0,
            message: String::new(),
        };
        let (commit, _) = Commit::sign(header, &[], &key());
        previous = commit.id();
        let bytes = commit.to_bytes();
        Parcel { commit: Commit::from_bytes(&bytes).expect("just encoded"), certificate: None, requests: Vec::new() }
    };
    (1..=count).map(parcel).collect()
}

#[test]
fn commits_of_one_session_share_what_repeats() {
    let len = |count| v1::Frame::try_from(Message::Commits(session(count))).expect("short").encoded_len();
    let (one, hundred) = (len(1), len(100));
    assert!(hundred < one * 100 * 3 / 4, "one takes {one} bytes, a hundred {hundred}");
}

/// Returns commits of two sessions by turns, each of one request, which is there, altered or absent.
fn sessions() -> impl Strategy<Value = Vec<Parcel>> {
    vec((any::<bool>(), 0u8..9, any::<bool>()), 0..20).prop_map(|commits| {
        let mut newest: [Option<Header>; 2] = [None, None];
        let mut parcel = |(at, (is_second, body, is_merge)): (usize, (bool, u8, bool))| {
            let (place, request) = (usize::from(is_second), request(body));
            let before = newest[place].as_ref();
            let previous = before.map(Header::id);
            let other = newest[1 - place].as_ref().filter(|_| is_merge).map(Header::id);
            let mut parents: Vec<_> = previous.into_iter().chain(other).collect();
            parents.sort_unstable();
            let header = Header {
                repository: RepositoryId([1; 32]),
                branch: BranchName::new("main@1").expect("well formed"),
                schema: SchemaId([2; 32]),
                parents,
                session: SessionId([0; 32]),
                counter: before.map_or(1, |before| before.counter + 1),
                previous,
                time: Time::from_millis(1_700_000_000_000 + at as u64),
                requests: Leaf([0; 32]),
                request_count: 0,
                message: String::new(),
            };
            let (commit, leaves) = Commit::sign(header, std::slice::from_ref(&request), &SigningKey::from_bytes(&[8 + place as u8; 32]));
            newest[place] = Some(commit.header().clone());
            let mut bytes = request.to_bytes();
            bytes[0] ^= u8::from(body == 7);
            let body = match body {
                8 => RequestBody::Absent { leaf: leaves[0], documents: vec!["notes/n".to_owned()] },
                _ => RequestBody::Present(bytes),
            };
            let commit = Commit::from_bytes(&commit.to_bytes()).expect("just encoded");
            Parcel { commit, certificate: None, requests: vec![body] }
        };
        commits.into_iter().enumerate().map(&mut parcel).collect()
    })
}

proptest! {
    #[test]
    fn prop_commits_that_follow_one_another_arrive_as_they_were(parcels in sessions()) {
        let message = Message::Commits(parcels);
        prop_assert_eq!(sent::<_, v1::Frame>(message.clone()), Ok(message));
    }
}

/// Returns the header of the commit after `previous` on its chain, which stands on that alone.
fn next(previous: Option<&Header>) -> Header {
    let counter = previous.map_or(1, |previous| previous.counter + 1);
    Header {
        repository: RepositoryId([1; 32]),
        branch: BranchName::new("main@1").expect("well formed"),
        schema: SchemaId([2; 32]),
        parents: previous.iter().map(|previous| previous.id()).collect(),
        session: SessionId([0; 32]),
        counter,
        previous: previous.map(Header::id),
        time: Time::from_millis(1_700_000_000_000 + counter),
        requests: Leaf([0; 32]),
        request_count: 0,
        message: String::new(),
    }
}

#[test]
fn a_commit_that_follows_takes_its_signature_and_its_request() {
    let whole = |count: u8| {
        let mut previous: Option<Header> = None;
        let parcel = |at| {
            let header = next(previous.as_ref());
            let (commit, _) = Commit::sign(header, &[request(at)], &key());
            previous = Some(commit.header().clone());
            let commit = Commit::from_bytes(&commit.to_bytes()).expect("just encoded");
            let body = request(at).to_bytes();
            (body.len(), Parcel { commit, certificate: None, requests: vec![RequestBody::Present(body)] })
        };
        let (bodies, parcels): (Vec<_>, Vec<_>) = (1..=count).map(parcel).unzip();
        let len = crate::convert::parcels::encode(&parcels).iter().map(Vec::len).sum::<usize>();
        (len, bodies.iter().sum::<usize>())
    };
    let ((one, _), (hundred, bodies)) = (whole(1), whole(100));
    // Mark, time, message, count of requests, mark and length of the request.
    assert!(
        hundred <= one + 99 * (64 + 1 + 4 + 1 + 1 + 2) + bodies,
        "one takes {one} bytes, a hundred {hundred} with {bodies} of requests"
    );
}

/// Returns commits that follow one another, each of one request of so many documents.
fn written(documents: &[u64]) -> Vec<Parcel> {
    let mut previous: Option<Header> = None;
    let parcel = |(at, documents): (usize, &u64)| {
        let header = next(previous.as_ref());
        let edits = (0..*documents).map(|number| workload::creation(number << 8 | at as u64, 1));
        let request = testutil::request(at as u64, edits.collect::<Vec<_>>());
        let (commit, _) = Commit::sign(header, std::slice::from_ref(&request), &key());
        previous = Some(commit.header().clone());
        let commit = Commit::from_bytes(&commit.to_bytes()).expect("just encoded");
        Parcel { commit, certificate: None, requests: vec![RequestBody::Present(request.to_bytes())] }
    };
    documents.iter().enumerate().map(parcel).collect()
}

proptest! {
    #[test]
    fn prop_commits_with_much_in_them_arrive_as_they_were(
        documents in vec(0u64..40, 0..8), altered in option::of((0usize..8, any::<usize>())), absent in option::of(0usize..8),
    ) {
        let mut parcels = written(&documents);
        if let Some((at, place)) = altered && let Some(RequestBody::Present(bytes)) = parcels.get_mut(at).map(|parcel| &mut parcel.requests[0]) {
            let place = place % bytes.len();
            bytes[place] ^= 1;
        }
        if let Some(parcel) = absent.and_then(|at| parcels.get_mut(at)) {
            parcel.requests[0] = RequestBody::Absent { leaf: Leaf([3; 32]), documents: vec!["notes/n".to_owned()] };
        }
        let message = Message::Commits(parcels);
        prop_assert_eq!(sent::<_, v1::Frame>(message.clone()), Ok(message));
    }
}

#[test]
fn documents_of_one_shape_travel_in_columns() {
    let parcels = written(&[500, 500]);
    let whole: usize = parcels
        .iter()
        .flat_map(|parcel| &parcel.requests)
        .map(|request| match request {
            RequestBody::Present(bytes) => bytes.len(),
            RequestBody::Absent { .. } => 0,
        })
        .sum();
    let parts = crate::convert::parcels::encode(&parcels);
    assert!(parts.len() > 8, "each field has columns of its own, not {} in all", parts.len());
    let sent = v1::Frame::try_from(Message::Commits(parcels)).expect("short").encoded_len();
    assert!(sent < whole / 4, "{sent} bytes for {whole}");
}

#[test]
fn a_table_of_columns_that_lies_is_refused() {
    let parts = crate::convert::parcels::encode(&written(&[30, 30]));
    let good = parts.concat();
    let read = |bytes: &[u8]| {
        let block = v1::Block {
            plain_len: u32::try_from(bytes.len()).expect("short"),
            content: Some(v1::block::Content::Plain(bytes.to_vec().into())),
        };
        Message::try_from(v1::Frame { message: Some(v1::frame::Message::Commits(v1::Commits { block: Some(block) })) })
    };
    assert!(read(&good).is_ok());
    // Whatever changes in the table, in what is outside of the columns, or at either end, is not what was sent: refused, or other commits.
    for at in 0..parts[0].len() {
        for bit in [1, 2, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            assert_ne!(read(&bad), read(&good), "byte {at}");
        }
    }
    assert!(read(&good[..good.len() - 1]).is_err());
    // One short column, and rows as if of a million commits: nothing is reserved for what cannot be signed.
    let mut many = Writer::default();
    many.count(1);
    many.count(2);
    many.count(1_000_000);
    many.raw(&vec![0; 4_000_000]);
    many.byte(0);
    let missing = 64 * 1_000_000;
    assert_eq!(*read(many.as_bytes()).expect_err("no signatures").fault(), Fault::NotCanonical { fault: Codec::Truncated { missing } });
    assert!(read(&[&good[..], &[0]].concat()).is_err());
}

#[test]
fn an_idle_summary_is_short() {
    let position = herdbook_model::authority::Position { epoch: 3, seq: 100_000, id: EntryId([9; 32]) };
    let summary = Message::Summary(Summary { newest: Some(position), digest: [8; 32] });
    assert!(v1::Frame::try_from(summary).expect("short").encoded_len() <= 100);
}

#[test]
fn ranges_that_no_chain_has_are_refused() {
    let fault = |first, last| {
        let range = v1::Range { chain: vec![0; 16].into(), first, last };
        Range::try_from(range).expect_err("no such range").fault().clone()
    };
    assert_eq!(fault(0, 5), Fault::Missing);
    assert_eq!(fault(6, 5), Fault::AboveLimit { actual: 6, limit: 5 });
    assert!(matches!(fault(1, u64::MAX), Fault::AboveLimit { .. }));
}

#[test]
fn chunks_above_a_block_are_not_sent() {
    let chunks = vec![(ChunkId([0; 32]), vec![0; crate::limits::BLOCK])];
    assert!(
        matches!(v1::Frame::try_from(Message::Chunks { chunks, last: true }), Err(error) if matches!(error.fault(), Fault::AboveLimit { .. }))
    );
}
