//! What single documents and stretches of history went through: blame, and playback piece by piece.

use std::{collections::BTreeMap, sync::Arc};

use futures::stream;
use herdbook_model::{
    id::{CommitId, SessionId},
    state::Change,
    value::Step,
};
use herdbook_proto::{
    document::Place,
    history::{Difference, Summary},
    past::{Blame, Blamed, Part, Playback, Played},
    v1,
};
use prost::Message as _;
use tonic::Status;

use super::{
    diff,
    document::Answers,
    failure::Error,
    host::{Host, blocking},
    log,
};
use crate::{
    error::Error as RepositoryError,
    repository::{self, Repository, Scope},
};

/// Bytes at which the differences of a commit are cut.
const SHOWN: usize = 3 << 20;

impl Host {
    pub(super) async fn blame(&self, blame: Blame) -> Result<Blamed, Error> {
        let Blame { place, name, field } = blame;
        let state = self.state(place).await?;
        let repository = self.repository().clone();
        blocking(move || {
            let view = repository.view();
            let blamed = repository.blame(&view, &state, &name.collection, &name.key, field.as_deref())?;
            let mut commits = BTreeMap::<CommitId, Summary>::new();
            for (id, _) in blamed.iter().filter_map(|blamed| blamed.by) {
                if let std::collections::btree_map::Entry::Vacant(slot) = commits.entry(id)
                    && let Some(commit) = repository.signed(&id)?
                {
                    slot.insert(log::summarised(&repository, &view, &commit)?);
                }
            }
            let mut commits: Vec<_> = commits.into_values().collect();
            commits.sort_unstable_by_key(|commit| std::cmp::Reverse((commit.time, commit.id)));
            Ok(Blamed { parts: blamed.into_iter().map(part).collect(), commits })
        })
        .await
    }
}

fn part(repository::Blamed { part, by }: repository::Blamed) -> Part {
    let step = |step: &Step| -> Option<Arc<str>> {
        match step {
            Step::Key(key) => Some(key.clone()),
            Step::At(position) => Some(position.to_string().into()),
            Step::Element(_) => None,
        }
    };
    Part {
        path: part.path.iter().filter_map(step).collect(),
        field: part.field,
        value: part.value,
        commit: by.map(|(commit, _)| commit),
        request: by.map_or(0, |(_, request)| request),
        shown: part.is_shown,
    }
}

/// A playback under way.
struct Pieces {
    repository: Repository,
    playback: repository::Playback,
    scope: Scope,
    session: Option<SessionId>,
    played: u64,
}

/// Opens a stream of commits with what they changed. A commit is replayed when the caller has taken the one before.
pub(super) async fn open(host: Arc<Host>, playback: Playback) -> Result<Answers<v1::PlaybackResponse>, Error> {
    let Playback { repository, from, to, collection, prefix, session } = playback;
    let from = host.state(Place { repository, at: from }).await?;
    let to = host.state(Place { repository, at: to }).await?;
    let collection = collection.map(|name| from.schema().collection(&name).map(|collection| collection.id)).transpose()?;
    let here = host.repository().clone();
    let playback = blocking(move || Ok(here.playback(&from, &to)?)).await?;
    let pieces = Pieces { repository: host.repository().clone(), playback, scope: Scope { collection, prefix }, session, played: 0 };
    let answers = stream::unfold(Some(pieces), |pieces| async {
        let pieces = pieces?;
        match blocking(move || next(pieces)).await {
            Ok(Some((answer, rest))) => Some((Ok(answer), Some(rest))),
            Ok(None) => None,
            Err(error) => Some((Err(Status::from(error)), None)),
        }
    });
    Ok(Box::pin(answers))
}

/// Returns the next commit that is asked for.
fn next(mut pieces: Pieces) -> Result<Option<(v1::PlaybackResponse, Pieces)>, Error> {
    while let Some(step) = pieces.playback.next() {
        let step = step?;
        pieces.played += 1;
        let unknown = || RepositoryError::UnknownCommit { id: step.commit.to_string() };
        let commit = pieces.repository.signed(&step.commit)?.ok_or_else(unknown)?;
        if pieces.session.is_some_and(|session| session != commit.header().session) {
            continue;
        }
        let touched: Vec<_> = step.touched.iter().filter(|(collection, key)| pieces.scope.has(*collection, key)).collect();
        if touched.is_empty() && (pieces.scope.collection.is_some() || !pieces.scope.prefix.is_empty()) {
            continue;
        }
        let view = pieces.repository.view();
        let commit = log::summarised(&pieces.repository, &view, &commit)?;
        let mut answer = v1::PlaybackResponse::from(Played { commit, differences: Vec::new(), left_out: 0, played: pieces.played });
        let mut bytes = answer.encoded_len();
        for (collection, key) in touched {
            if let Some(difference) = difference(&pieces.repository, &step, *collection, key)? {
                let difference = v1::Difference::from(difference);
                bytes += difference.encoded_len();
                if bytes > SHOWN {
                    answer.left_out += 1;
                } else {
                    answer.differences.push(difference);
                }
            }
        }
        return Ok(Some((answer, pieces)));
    }
    Ok(None)
}

fn difference(
    repository: &Repository,
    step: &repository::Step,
    collection: herdbook_model::schema::CollectionId,
    key: &herdbook_model::value::Key,
) -> Result<Option<Difference>, Error> {
    let read = |state: &herdbook_model::state::State| state.document(repository.nodes(), collection, key).map_err(RepositoryError::from);
    let change = Change { collection, key: key.clone(), old: read(&step.before)?, new: read(&step.after)? };
    diff::difference(repository, &step.before, &step.after, &change)
}
