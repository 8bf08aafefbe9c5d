//! Questions about history and the cluster, and their answers.

use std::time::Duration;

use herdbook_model::{
    SigningKey,
    authority::{Genesis, Lost, RequestRef, Role, Status as BranchStatus},
    id::{
        BranchName, CommitId, FrontierName, Judgement, Leaf, ReplicaId, RepositoryId, RequestKey, SchemaId, SessionId, StateName, StateRoot,
    },
    merge::Side,
    schema::{Deletes, Policy, ResolverName},
    time::Time,
    value::{Key, Scalar, Value},
};
use proptest::{collection::vec, option, prelude::*};

use super::{
    bytes32,
    documents::{acks, branches, documents, edits, names, positions, states, times, values, waits},
    messages::entries,
    sent,
};
use crate::{
    Fault,
    cluster::{
        Branch, BranchSchema, BranchStarted, CreateToken, Definition, Head, Join, Joined, OnBranch, Peer, Phase, Recovery, Reopened,
        StartBranch, StartSchema, Started, Status, Token,
    },
    document::Place,
    edit::{Edit, Operation, Precondition},
    history::{
        Body, Choice, Commits, Conflicted, Conflicts, Diff, Difference, Fate, Inspect, Inspected, Kept, KeptValue, Log, NewestEdit, Origin,
        Resolve, Revert, Reverted, Show, Shown, ShownRequest, Sides, Skipped, Summary,
    },
    merge::{Merge, Merged, Rule},
    past::{Blame, Blamed, Part, Playback, Played},
    read::{Batch, BatchGet, Count, Counted, Found, Get, Got, List, Page, Start, Watch},
    v1,
};

fn places() -> impl Strategy<Value = Place> {
    (option::of(bytes32()), states()).prop_map(|(repository, at)| Place { repository: repository.map(RepositoryId), at })
}

fn summaries() -> impl Strategy<Value = Summary> {
    let links = (vec(bytes32(), 0..3), bytes32(), option::of(bytes32()), 1u64.., times());
    (bytes32(), branches(), links, ".{0,9}", any::<u32>(), option::of(positions())).prop_map(
        |(id, branch, links, message, requests, accepted)| {
            let (parents, session, replica, counter, time) = links;
            Summary {
                id: CommitId(id),
                branch,
                schema: SchemaId([4; 32]),
                parents: parents.into_iter().map(CommitId).collect(),
                session: SessionId(session),
                replica: replica.map(ReplicaId),
                counter,
                time,
                message,
                requests,
                accepted,
                voided: vec![],
            }
        },
    )
}

fn origins() -> impl Strategy<Value = Origin> {
    (bytes32(), times(), bytes32(), option::of(bytes32())).prop_map(|(commit, time, session, replica)| Origin {
        commit: CommitId(commit),
        time,
        session: SessionId(session),
        replica: replica.map(ReplicaId),
    })
}

fn heads() -> impl Strategy<Value = Head> {
    let state = (vec(bytes32(), 0..3), bytes32(), bytes32(), bytes32(), option::of(bytes32()));
    (branches(), state, vec(bytes32(), 0..3), option::of(positions()), any::<[u64; 3]>()).prop_map(
        |(branch, state, accepted_heads, accepted, counts)| {
            let (heads, frontier, judgement, state, root) = state;
            Head {
                branch,
                heads: heads.into_iter().map(CommitId).collect(),
                frontier: FrontierName(frontier),
                judgement: Judgement(judgement),
                state: StateName(state),
                root: root.map(StateRoot),
                accepted_heads: accepted_heads.into_iter().map(CommitId).collect(),
                accepted,
                commits: counts[0],
                documents: counts[1],
                conflicts: counts[2],
            }
        },
    )
}

proptest! {
    #[test]
    fn prop_reads_arrive_as_they_were(place in places(), name in names(), document in documents(), token in vec(any::<u8>(), 0..9), flag: bool) {
        let (state, collection) = (StateName([3; 32]), name.collection.clone());
        let get = Get { place: place.clone(), name: name.clone() };
        prop_assert_eq!(sent::<_, v1::GetRequest>(get.clone()), Ok(get));
        let found = Found { index: 7, result: Ok(Got { document: document.clone(), state }) };
        prop_assert_eq!(sent::<_, v1::GetStreamResponse>(found.clone()), Ok(found));
        let got = Got { document: document.clone(), state };
        prop_assert_eq!(sent::<_, v1::GetResponse>(got.clone()), Ok(got));
        let batch = BatchGet { place: place.clone(), names: vec![name.clone(), name.clone()] };
        prop_assert_eq!(sent::<_, v1::BatchGetRequest>(batch.clone()), Ok(batch));
        let batch = Batch { documents: vec![document.clone()], missing: vec![name.clone()], left_out: vec![name.clone(), name.clone()], state };
        prop_assert_eq!(sent::<_, v1::BatchGetResponse>(batch.clone()), Ok(batch));
        let (prefix, page_token) = ("be".to_owned(), bytes::Bytes::from(token));
        let list = List { place: place.clone(), collection: collection.clone(), prefix: prefix.clone(), page_size: 7, page_token: page_token.clone(), keys_only: flag };
        prop_assert_eq!(sent::<_, v1::ListRequest>(list.clone()), Ok(list));
        let page = Page { documents: vec![document], keys: vec![name.key], next: page_token, state };
        prop_assert_eq!(sent::<_, v1::ListResponse>(page.clone()), Ok(page));
        let count = Count { place, collection: collection.clone(), prefix: prefix.clone() };
        prop_assert_eq!(sent::<_, v1::CountRequest>(count.clone()), Ok(count));
        let counted = Counted { documents: 9, state };
        prop_assert_eq!(sent::<_, v1::CountResponse>(counted), Ok(counted));
        let start = if flag { Start::State(state) } else { Start::Token(vec![1, 2].into()) };
        let watch = Watch { repository: None, branch: None, collection: Some(collection), prefix, start };
        prop_assert_eq!(sent::<_, v1::WatchRequest>(watch.clone()), Ok(watch));
    }

    #[test]
    fn prop_logs_arrive_as_they_were(place in places(), name in names(), session in option::of(bytes32()), summary in summaries()) {
        let log = Log {
            place,
            collection: Some(name.collection),
            key: Some(name.key),
            session: session.map(SessionId),
            replica: session.map(herdbook_model::id::ReplicaId),
            since_millis: 7,
            until_millis: session.map(|_| 9),
            page_size: 12,
            page_token: vec![1].into(),
        };
        prop_assert_eq!(sent::<_, v1::LogRequest>(log.clone()), Ok(log));
        let commits = Commits { commits: vec![summary], next: vec![2].into() };
        prop_assert_eq!(sent::<_, v1::LogResponse>(commits.clone()), Ok(commits));
    }

    #[test]
    fn prop_commits_shown_arrive_as_they_were(commit in summaries(), name in names(), left_out: u32, lost: bool) {
        let show = Show { repository: None, commit: commit.id };
        prop_assert_eq!(sent::<_, v1::ShowRequest>(show), Ok(show));
        let body = Body {
            key: RequestKey([5; 16]),
            principal: "bob".to_owned(),
            preconditions: vec![Precondition { name: name.clone(), must: herdbook_model::request::Must::Exist }],
            edits: vec![Edit { name, operation: Operation::Delete }],
        };
        let fate = if lost { Fate::Lost } else { Fate::Absent };
        let requests = vec![
            ShownRequest { place: 0, fate: Fate::Stands, body: Some(body.clone()), documents: vec![] },
            ShownRequest { place: 1, fate: Fate::Voided { reason: "no".to_owned() }, body: Some(body), documents: vec![] },
            ShownRequest { place: 2, fate, body: None, documents: vec!["cities/a".to_owned()] },
        ];
        let shown = Shown { commit, requests, left_out };
        prop_assert_eq!(sent::<_, v1::ShowResponse>(shown.clone()), Ok(shown));
    }

    #[test]
    fn prop_differences_arrive_as_they_were(from in states(), to in states(), before in documents(), after in documents()) {
        let diff = Diff { repository: None, from, to, collection: None, prefix: "x".to_owned() };
        prop_assert_eq!(sent::<_, v1::DiffRequest>(diff.clone()), Ok(diff));
        let name = before.name.clone();
        for sides in [Sides::Added(after.clone()), Sides::Removed(before.clone()), Sides::Changed { before, after }] {
            let difference = Difference { name: name.clone(), sides };
            prop_assert_eq!(sent::<_, v1::Difference>(difference.clone()), Ok(difference));
        }
    }

    #[test]
    fn prop_reverts_arrive_as_they_were(branch in option::of(branches()), wait in waits(), ack in option::of(acks()), name in names()) {
        let revert = Revert {
            repository: Some(RepositoryId([1; 32])),
            branch,
            commits: vec![CommitId([2; 32])],
            session: Some(SessionId([4; 32])),
            since: Some(crate::document::At::Commit(CommitId([5; 32]))),
            until: Some(crate::document::At::NEWEST),
            collection: Some(name.collection.clone()),
            key: Some(name.key.clone()),
            dry_run: true,
            request: Some(RequestKey([3; 16])),
            message: "sorry".to_owned(),
            wait,
        };
        prop_assert_eq!(sent::<_, v1::RevertRequest>(revert.clone()), Ok(revert));
        let skipped = |field: Option<&str>| Skipped { name: name.clone(), field: field.map(Into::into), reason: "changed since".to_owned() };
        let skipped = vec![skipped(None), skipped(Some("name"))];
        let reverted = Reverted { ack, edits: 4, skipped, commits: vec![CommitId([6; 32])], documents: vec![name.clone()], left: 9 };
        prop_assert_eq!(sent::<_, v1::RevertResponse>(reverted.clone()), Ok(reverted));
    }

    #[test]
    fn prop_blame_and_playback_arrive_as_they_were(place in places(), name in names(), commit in summaries(), value in option::of(values()), shown: bool) {
        let blame = Blame { place: place.clone(), name: name.clone(), field: shown.then(|| "name".into()) };
        prop_assert_eq!(sent::<_, v1::BlameRequest>(blame.clone()), Ok(blame));
        let part = Part {
            field: "name".into(),
            path: vec!["a".into(), "3".into()],
            value,
            commit: shown.then_some(commit.id),
            request: 2,
            shown,
        };
        let blamed = Blamed { parts: vec![part.clone(), part], commits: vec![commit.clone()] };
        prop_assert_eq!(sent::<_, v1::BlameResponse>(blamed.clone()), Ok(blamed));
        let session = shown.then_some(SessionId([7; 32]));
        let playback = Playback { repository: None, from: place.at.clone(), to: place.at, collection: Some(name.collection), prefix: "x".to_owned(), session };
        prop_assert_eq!(sent::<_, v1::PlaybackRequest>(playback.clone()), Ok(playback));
        let played = Played { commit, differences: vec![], left_out: 1, played: 2 };
        prop_assert_eq!(sent::<_, v1::PlaybackResponse>(played.clone()), Ok(played));
    }

    #[test]
    fn prop_merges_arrive_as_they_were(branch in option::of(branches()), from in states(), wait in waits(), ack in option::of(acks()), document in documents()) {
        let rule = |side| Rule { collection: Some(document.name.collection.clone()), prefix: "de".to_owned(), field: None, side };
        let merge = Merge {
            repository: None,
            branch,
            from,
            side: Some(Side::Theirs),
            rules: vec![rule(None), rule(Some(Side::Ours))],
            dry_run: true,
            request: Some(RequestKey([3; 16])),
            message: "in".to_owned(),
            wait,
        };
        prop_assert_eq!(sent::<_, v1::MergeRequest>(merge.clone()), Ok(merge));
        let merged = Merged { ack, commits: 3, decided: 2, conflicts: 1, conflicted: vec![document] };
        prop_assert_eq!(sent::<_, v1::MergeResponse>(merged.clone()), Ok(merged));
    }

    #[test]
    fn prop_conflicts_arrive_as_they_were(
        place in places(), document in documents(), origin in origins(), value in option::of(values()), edit in edits(),
    ) {
        let conflicts = Conflicts { place: place.clone(), collection: None, page_size: 3, page_token: vec![1].into() };
        prop_assert_eq!(sent::<_, v1::ListConflictsRequest>(conflicts.clone()), Ok(conflicts));
        let inspect = Inspect { place, name: document.name.clone() };
        prop_assert_eq!(sent::<_, v1::GetConflictRequest>(inspect.clone()), Ok(inspect));
        let conflicted = Conflicted { documents: vec![document.clone()], next: vec![1].into(), state: StateName([2; 32]) };
        prop_assert_eq!(sent::<_, v1::ListConflictsResponse>(conflicted.clone()), Ok(conflicted));
        let kept = |policy| Kept {
            field: "name".into(),
            policy,
            values: vec![KeptValue { value: value.clone(), entry: "de".to_owned(), origin, shown: true }],
        };
        let resolver = ResolverName::new("longest").expect("a name");
        let fields = [Policy::LastWriter, Policy::Strict, Policy::AddWins, Policy::KeyWise, Policy::Max, Policy::Custom(resolver)].map(kept).to_vec();
        for deletes in [Deletes::EditWins, Deletes::DeleteWins, Deletes::Conflict] {
            let newest = vec![NewestEdit { origin, edit: edit.clone() }];
            let inspected = Inspected { document: Some(document.clone()), alive: vec![origin], fields: fields.clone(), newest, deletes };
            prop_assert_eq!(sent::<_, v1::GetConflictResponse>(inspected.clone()), Ok(inspected));
        }
    }

    #[test]
    fn prop_resolutions_arrive_as_they_were(name in names(), value in values(), version in option::of(bytes32()), wait in waits()) {
        let version = version.map(Leaf);
        let sibling = Choice::Sibling { place: 1, version: Leaf([6; 32]) };
        for choice in [Choice::Value { value, version }, Choice::Clear { version }, sibling] {
            let resolve = Resolve {
                repository: None,
                branch: None,
                name: name.clone(),
                field: "name".into(),
                choice,
                request: None,
                message: String::new(),
                wait,
            };
            prop_assert_eq!(sent::<_, v1::ResolveRequest>(resolve.clone()), Ok(resolve));
        }
    }

    #[test]
    fn prop_a_status_arrives_as_it_was(head in heads(), log in option::of(positions()), promoted in option::of(branches()), restoring: bool) {
        let recovery = Recovery { reporters: vec![ReplicaId([1; 32])], needed: 2, members: 3, missing_commits: 4 };
        for phase in [Phase::Starting, Phase::Serving, Phase::Recovering, Phase::Frozen] {
            let status = Status {
                version: "0.0.1".to_owned(),
                repository: RepositoryId([1; 32]),
                repository_name: "cities".to_owned(),
                replica: ReplicaId([2; 32]),
                name: "alice".to_owned(),
                role: Role::Coordinator,
                session: SessionId([3; 32]),
                phase,
                online: restoring,
                log,
                promoted: promoted.clone(),
                branches: vec![head.clone()],
                outbox: 5,
                quarantine: 6,
                lost: vec![lost()],
                recovery: restoring.then(|| recovery.clone()),
                store_bytes: 7,
            };
            prop_assert_eq!(sent::<_, v1::StatusResponse>(status.clone()), Ok(status));
        }
    }

    #[test]
    fn prop_what_a_member_gets_arrives_as_it_was(epoch in entries(), enrolment in entries(), silent in option::of(any::<u32>())) {
        let peer = Peer {
            replica: ReplicaId([1; 32]),
            name: "bob".to_owned(),
            role: Role::Replica,
            address: "http://bob:7600".to_owned(),
            connected: true,
            revoked: false,
            silent: silent.map(|millis| Duration::from_millis(millis.into())),
            level: true,
        };
        let genesis = Genesis { name: "cities".to_owned(), root: [1; 32], created: Time::from_millis(5), nonce: [2; 16] };
        let joined = Joined { genesis, epoch: epoch.clone(), enrolment: enrolment.clone(), entries: vec![epoch, enrolment], peers: vec![peer] };
        prop_assert_eq!(sent::<_, v1::JoinResponse>(joined.clone()), Ok(joined));
    }

    #[test]
    fn prop_schema_calls_arrive_as_they_were(name in branches(), from in option::of(branches()), position in option::of(positions()), flag: bool) {
        for definition in [Definition::Steps("[]".to_owned()), Definition::Schema("{}".to_owned())] {
            let start = StartSchema { repository: None, branch: Some(name.clone()), from: from.clone(), definition, dry_run: flag };
            prop_assert_eq!(sent::<_, v1::StartSchemaRequest>(start.clone()), Ok(start));
        }
        let status = if flag { BranchStatus::Open } else { BranchStatus::Abandoned };
        let branch = Branch { name: name.clone(), schema: SchemaId([1; 32]), version: 2, from, status, promoted: flag, apart: !flag };
        let started = Started { branch: branch.clone(), schema_json: "{}".to_owned(), position };
        prop_assert_eq!(sent::<_, v1::StartSchemaResponse>(started.clone()), Ok(started));
        let commit = flag.then_some(CommitId([8; 32]));
        let start = StartBranch { repository: None, branch: name.clone(), from: branch.from.clone(), commit };
        prop_assert_eq!(sent::<_, v1::StartBranchRequest>(start.clone()), Ok(start));
        if let Some(position) = position {
            let started = BranchStarted { branch: branch.clone(), position };
            prop_assert_eq!(sent::<_, v1::StartBranchResponse>(started.clone()), Ok(started));
        }
        let schema = BranchSchema { branch, json: "{}".to_owned() };
        prop_assert_eq!(sent::<_, v1::GetSchemaResponse>(schema.clone()), Ok(schema));
        let on = OnBranch { repository: Some(RepositoryId([1; 32])), branch: name };
        prop_assert_eq!(sent::<_, v1::PromoteSchemaRequest>(on.clone()), Ok(on.clone()));
        prop_assert_eq!(sent::<_, v1::AbandonSchemaRequest>(on.clone()), Ok(on));
    }
}

fn lost() -> Lost {
    let request = RequestRef { commit: CommitId([1; 32]), request: 2 };
    Lost { request, documents: vec!["cities/a/b".to_owned(), "cities/c".to_owned()] }
}

#[test]
fn what_a_restore_came_to_arrives_as_it_was() {
    let position = herdbook_model::authority::Position { epoch: 1, seq: 2, id: herdbook_model::id::EntryId([3; 32]) };
    let reopened = Reopened { position, reporters: vec![ReplicaId([4; 32])], lost: vec![lost()] };
    assert_eq!(sent::<_, v1::ReopenAfterRestoreResponse>(reopened.clone()), Ok(reopened));
}

#[test]
fn a_join_arrives_signed() {
    let join = Join::sign("token".to_owned(), "alice".to_owned(), String::new(), &SigningKey::from_bytes(&[7; 32]));
    let arrived: Join = sent::<_, v1::JoinRequest>(join.clone()).expect("well formed");
    assert_eq!(arrived, join);
    assert!(arrived.is_signed());
}

#[test]
fn tokens_for_members_arrive_as_they_were() {
    let create = CreateToken { role: Role::Replica, lifetime: Duration::from_secs(60) };
    assert_eq!(sent::<_, v1::CreateTokenRequest>(create), Ok(create));
    let token = Token { token: "abc".to_owned(), expires_millis: 9 };
    assert_eq!(sent::<_, v1::CreateTokenResponse>(token.clone()), Ok(token));
}

#[test]
fn a_sibling_can_be_picked_only_from_a_known_version() {
    let message = v1::ResolveRequest {
        collection: "cities".to_owned(),
        key: "a".to_owned(),
        field: "name".to_owned(),
        choice: Some(v1::resolve_request::Choice::Sibling(1)),
        ..Default::default()
    };
    let error = Resolve::try_from(message).expect_err("siblings of which version?");
    assert_eq!((error.path(), error.fault()), ("version", &Fault::Missing));
}

#[test]
fn a_key_without_collection_is_refused() {
    let error = Log::try_from(v1::LogRequest { key: "a".to_owned(), ..Default::default() }).expect_err("key of what?");
    assert_eq!(error.path(), "collection");
    let log = Log::try_from(v1::LogRequest { collection: "c".to_owned(), key: "a".to_owned(), ..Default::default() }).expect("well formed");
    assert_eq!(log.key, Some(Key::new("a").expect("short")));
}

#[test]
fn a_request_with_edits_must_have_a_key_of_its_own() {
    let edit = Edit { name: names_of("cities", "a"), operation: Operation::Delete };
    let message = v1::ShownRequest { fate: v1::Fate::Stands.into(), edits: vec![edit.into()], ..Default::default() };
    assert_eq!(ShownRequest::try_from(message).expect_err("whose edits?").path(), "request_id");
}

fn names_of(collection: &str, key: &str) -> crate::document::Name {
    crate::document::Name { collection: collection.into(), key: Key::new(key).expect("short") }
}

#[test]
fn a_difference_without_sides_is_refused() {
    let message = v1::Difference { name: Some(names_of("cities", "a").into()), before: None, after: None };
    assert!(Difference::try_from(message).is_err());
}

#[test]
fn branch_names_are_checked_on_the_way_in() {
    let message = v1::PromoteSchemaRequest { branch: "main 1".to_owned(), ..Default::default() };
    assert_eq!(*OnBranch::try_from(message).expect_err("a space").fault(), Fault::BadName);
    let message = v1::PromoteSchemaRequest { branch: "main@1".to_owned(), ..Default::default() };
    assert_eq!(OnBranch::try_from(message).expect("well formed").branch, BranchName::new("main@1").expect("well formed"));
}

#[test]
fn scalars_keep_their_kind() {
    assert_eq!(sent::<_, v1::Value>(Value::Scalar(Scalar::Timestamp(5))), Ok(Value::Scalar(Scalar::Timestamp(5))));
    assert_ne!(sent::<_, v1::Value>(Value::from(5)), Ok(Value::Scalar(Scalar::Timestamp(5))));
}
