//! Waits and acknowledgements, and positions in the head log.

use std::time::Duration;

use herdbook_model::authority::{Position, RequestRef, Void};

use super::{Result, branch, choice, id, ids, optional, raw};
use crate::{
    Fault, Malformed,
    ack::{Ack, Condition, Level, Wait},
    limits, v1,
};

pub(super) fn level(field: &str, value: i32) -> Result<Level> {
    Ok(match choice(field, value)? {
        v1::Level::Unspecified => return Err(Malformed::missing(field)),
        v1::Level::Memory => Level::Memory,
        v1::Level::Process => Level::Process,
        v1::Level::Durable => Level::Durable,
    })
}

impl From<Level> for v1::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Memory => Self::Memory,
            Level::Process => Self::Process,
            Level::Durable => Self::Durable,
        }
    }
}

fn condition(field: &str, value: i32) -> Result<Condition> {
    Ok(match choice(field, value)? {
        v1::Condition::Unspecified => return Err(Malformed::missing(field)),
        v1::Condition::Local => Condition::Local,
        v1::Condition::Accepted => Condition::Accepted,
    })
}

impl From<Condition> for v1::Condition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Local => Self::Local,
            Condition::Accepted => Self::Accepted,
        }
    }
}

impl TryFrom<v1::Wait> for Wait {
    type Error = Malformed;

    fn try_from(message: v1::Wait) -> Result<Self> {
        let v1::Wait { local, accepted, copies, timeout_millis } = message;
        if copies > limits::COPIES {
            return Err(Malformed::new("copies", Fault::AboveLimit { actual: copies.into(), limit: limits::COPIES.into() }));
        }
        Ok(Self { local: level("local", local)?, accepted, copies, timeout: timeout_millis.map(Duration::from_millis) })
    }
}

impl From<Wait> for v1::Wait {
    fn from(Wait { local, accepted, copies, timeout }: Wait) -> Self {
        let timeout_millis = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        Self { local: v1::Level::from(local).into(), accepted, copies, timeout_millis }
    }
}

/// Reads what to wait for; what is left open waits until it is durable here.
pub(super) fn wait(wait: Option<v1::Wait>) -> Result<Wait> {
    Ok(optional("wait", wait)?.unwrap_or(Wait::DURABLE))
}

impl TryFrom<v1::Position> for Position {
    type Error = Malformed;

    fn try_from(message: v1::Position) -> Result<Self> {
        let v1::Position { epoch, seq, entry } = message;
        Ok(Self { epoch, seq, id: id("entry", &entry)? })
    }
}

impl From<Position> for v1::Position {
    fn from(Position { epoch, seq, id }: Position) -> Self {
        Self { epoch, seq, entry: raw(id.as_bytes()) }
    }
}

impl TryFrom<v1::Ack> for Ack {
    type Error = Malformed;

    fn try_from(message: v1::Ack) -> Result<Self> {
        let v1::Ack { commit, request, branch: name, state, local, accepted, copies, condition: checked, repeated_request } = message;
        Ok(Self {
            commit: id("commit", &commit)?,
            request,
            branch: branch("branch", name)?,
            state: id("state", &state)?,
            local: level("local", local)?,
            accepted: optional("accepted", accepted)?,
            copies: ids("copies", &copies)?,
            condition: condition("condition", checked)?,
            repeated: repeated_request,
        })
    }
}

impl From<Ack> for v1::Ack {
    fn from(Ack { commit, request, branch, state, local, accepted, copies, condition, repeated }: Ack) -> Self {
        Self {
            commit: raw(commit.as_bytes()),
            request,
            branch: branch.to_string(),
            state: raw(state.as_bytes()),
            local: v1::Level::from(local).into(),
            accepted: accepted.map(Into::into),
            copies: copies.iter().map(|copy| raw(copy.as_bytes())).collect(),
            condition: v1::Condition::from(condition).into(),
            repeated_request: repeated,
        }
    }
}

impl TryFrom<v1::Voided> for Void {
    type Error = Malformed;

    fn try_from(message: v1::Voided) -> Result<Self> {
        let v1::Voided { commit, request, reason } = message;
        Ok(Self { request: RequestRef { commit: id("commit", &commit)?, request }, reason })
    }
}

impl From<Void> for v1::Voided {
    fn from(Void { request: RequestRef { commit, request }, reason }: Void) -> Self {
        Self { commit: raw(commit.as_bytes()), request, reason }
    }
}
