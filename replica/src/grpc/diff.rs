//! Differences of two states, streamed piece by piece.

use std::sync::Arc;

use futures::stream;
use herdbook_model::state::{Change, State};
use herdbook_proto::{
    document::{Name, Place},
    history::{Diff, Difference, Sides},
    limits, v1,
};
use tonic::Status;

use super::{
    document::Answers,
    failure::Error,
    host::{Host, blocking},
    names,
};
use crate::repository::{Comparison, Reached, Repository, Scope};

/// Two states under comparison, with where the piece before ended.
struct Pieces {
    repository: Repository,
    comparison: Arc<Comparison>,
    sides: Arc<(State, State)>,
    reached: Option<Reached>,
}

/// Opens a stream of what differs. A piece is computed when the caller has taken the one before.
pub(super) async fn open(host: Arc<Host>, diff: Diff) -> Result<Answers<v1::DiffResponse>, Error> {
    let Diff { repository, from, to, collection, prefix } = diff;
    let old = host.state(Place { repository, at: from }).await?;
    let new = host.state(Place { repository, at: to }).await?;
    // A collection that a migration brought or dropped is in one of both.
    let collection = match collection {
        Some(name) => Some(new.schema().collection(&name).or_else(|error| old.schema().collection(&name).map_err(|_| error))?.id),
        None => None,
    };
    let here = host.repository().clone();
    let sides = Arc::new((old, new));
    let states = sides.clone();
    let comparison = blocking(move || Ok(here.comparison(&states.0, &states.1, Scope { collection, prefix })?)).await?;
    let pieces = Pieces { repository: host.repository().clone(), comparison: Arc::new(comparison), sides, reached: None };
    let answers = stream::unfold(Some(pieces), |pieces| async {
        match next(pieces?).await {
            Ok((answer, rest)) => Some((Ok(answer), rest)),
            Err(error) => Some((Err(Status::from(error)), None)),
        }
    });
    let answers = futures::StreamExt::filter(answers, |answer| {
        let is_empty = answer.as_ref().is_ok_and(|answer: &v1::DiffResponse| answer.differences.is_empty());
        std::future::ready(!is_empty)
    });
    Ok(Box::pin(answers))
}

async fn next(mut pieces: Pieces) -> Result<(v1::DiffResponse, Option<Pieces>), Error> {
    let (repository, comparison, sides) = (pieces.repository.clone(), pieces.comparison.clone(), pieces.sides.clone());
    let reached = pieces.reached.take();
    let (differences, reached) = blocking(move || {
        let (changes, reached) = comparison.piece(reached.as_ref(), limits::STREAM_BYTES)?;
        let mut differences = Vec::with_capacity(changes.len());
        for change in changes {
            differences.extend(difference(&repository, &sides.0, &sides.1, &change)?.map(Into::into));
        }
        Ok((differences, reached))
    })
    .await?;
    let rest = reached.map(|reached| Pieces { reached: Some(reached), ..pieces });
    Ok((v1::DiffResponse { differences }, rest))
}

/// Returns how a document differs for a reader; `None` where only stamps do.
pub(super) fn difference(repository: &Repository, old: &State, new: &State, change: &Change) -> Result<Option<Difference>, Error> {
    let side = |state: &State, document: Option<&herdbook_model::document::Document>| {
        let (Ok(collection), Some(document)) = (state.schema().by_id(change.collection), document) else { return Ok(None) };
        names::document(repository, state, collection, &change.key, document)
    };
    let sides = match (side(old, change.old.as_deref())?, side(new, change.new.as_deref())?) {
        (None, None) => return Ok(None),
        (None, Some(after)) => Sides::Added(after),
        (Some(before), None) => Sides::Removed(before),
        (Some(before), Some(after)) if before.fields == after.fields && before.conflicts == after.conflicts => return Ok(None),
        (Some(before), Some(after)) => Sides::Changed { before, after },
    };
    let name: Name = match &sides {
        Sides::Added(document) | Sides::Removed(document) | Sides::Changed { after: document, .. } => document.name.clone(),
    };
    Ok(Some(Difference { name, sides }))
}
