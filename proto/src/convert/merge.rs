//! Merges of branches.

use herdbook_model::{id::RequestKey, merge::Side};

use super::{
    Result,
    ack::wait,
    all,
    document::{collection, repository},
    each, inner, limited, optional, optional_branch, optional_id, optional_text, raw_or_empty, text_or_empty,
};
use crate::{
    Fault, Malformed, limits,
    merge::{Merge, Merged, Rule},
    v1,
};

fn side(field: &str, value: i32) -> Result<Option<Side>> {
    match v1::Side::try_from(value) {
        Ok(v1::Side::Unspecified) => Ok(None),
        Ok(v1::Side::Ours) => Ok(Some(Side::Ours)),
        Ok(v1::Side::Theirs) => Ok(Some(Side::Theirs)),
        Err(_) => Err(Malformed::new(field, Fault::UnknownValue { value })),
    }
}

fn side_from(side: Option<Side>) -> i32 {
    let side = match side {
        None => v1::Side::Unspecified,
        Some(Side::Ours) => v1::Side::Ours,
        Some(Side::Theirs) => v1::Side::Theirs,
    };
    side.into()
}

impl TryFrom<v1::MergeRule> for Rule {
    type Error = Malformed;

    fn try_from(message: v1::MergeRule) -> Result<Self> {
        let v1::MergeRule { collection, prefix, field, side: decides } = message;
        limited("prefix", prefix.len(), limits::KEY)?;
        Ok(Self { collection: optional_text(collection), prefix, field: optional_text(field), side: side("side", decides)? })
    }
}

impl From<Rule> for v1::MergeRule {
    fn from(Rule { collection: name, prefix, field, side }: Rule) -> Self {
        Self { collection: collection(name), prefix, field: text_or_empty(field.as_deref()), side: side_from(side) }
    }
}

impl TryFrom<v1::MergeRequest> for Merge {
    type Error = Malformed;

    fn try_from(request: v1::MergeRequest) -> Result<Self> {
        let v1::MergeRequest { repository, branch, from, side: decides, rules, dry_run, request_id, message, wait: until } = request;
        limited("message", message.len(), limits::COMMIT_MESSAGE)?;
        limited("rules", rules.len(), limits::RULES)?;
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: optional_branch("branch", branch)?,
            from: inner("from", from)?,
            side: side("side", decides)?,
            rules: each("rules", rules)?,
            dry_run,
            request: optional_id("request_id", &request_id)?,
            message,
            wait: wait(until)?,
        })
    }
}

impl From<Merge> for v1::MergeRequest {
    fn from(merge: Merge) -> Self {
        let Merge { repository: id, branch, from, side, rules, dry_run, request, message, wait } = merge;
        Self {
            repository: repository(id),
            branch: text_or_empty(branch.as_ref()),
            from: Some(from.into()),
            side: side_from(side),
            rules: all(rules),
            dry_run,
            request_id: raw_or_empty(request.as_ref().map(RequestKey::as_bytes)),
            message,
            wait: Some(wait.into()),
        }
    }
}

impl TryFrom<v1::MergeResponse> for Merged {
    type Error = Malformed;

    fn try_from(message: v1::MergeResponse) -> Result<Self> {
        let v1::MergeResponse { ack, commits, decided, conflicts, conflicted } = message;
        Ok(Self { ack: optional("ack", ack)?, commits, decided, conflicts, conflicted: each("conflicted", conflicted)? })
    }
}

impl From<Merged> for v1::MergeResponse {
    fn from(Merged { ack, commits, decided, conflicts, conflicted }: Merged) -> Self {
        Self { ack: ack.map(Into::into), commits, decided, conflicts, conflicted: all(conflicted) }
    }
}
