//! Hello and proof: each side learns who the other is before it says anything of its content.
//!
//! Law: a proof is over both fresh nonces, both names, the repository, the purpose and the direction, so it can neither be replayed nor
//! reflected.

use herdbook_model::{
    authority::{Role, is_signed, sign},
    id::{Domain, ReplicaId, RepositoryId},
};

use super::{Exchange, Now, Output, Phase, Side};
use crate::{
    enrolment,
    local::Local,
    message::{Hello, Message, Purpose, Refusal, Summary, VERSION},
};

/// What is known of the peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) replica: ReplicaId,
    pub(super) purpose: Purpose,
    pub(super) summary: Summary,
    /// How many commits it held when it said hello.
    pub(super) commits: u64,
    nonce: [u8; 32],
}

impl Peer {
    pub(super) const fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self { replica: ReplicaId([0; 32]), purpose: Purpose::Converge, summary: Summary::default(), commits: 0, nonce: [0; 32] }
    }
}

/// Returns what a speaker signs to prove that it holds its key. `speaker` and `hearer` are the replicas with their nonces.
pub fn possession(
    repository: RepositoryId,
    side: Side,
    purpose: Purpose,
    speaker: (ReplicaId, [u8; 32]),
    hearer: (ReplicaId, [u8; 32]),
) -> [u8; 32] {
    let purpose = match purpose {
        Purpose::Converge => 1,
        Purpose::Recover => 2,
    };
    Domain::Possession.hash(&[&repository.0, &[side as u8, purpose], speaker.0.as_bytes(), &speaker.1, hearer.0.as_bytes(), &hearer.1])
}

impl Exchange {
    pub(super) fn greet<L: Local>(&mut self, now: Now, local: &L) {
        let summary = self.told_summary(local);
        self.settling.told_at(now);
        self.opening.push_back(Message::Hello(Hello {
            version: VERSION,
            repository: self.repository,
            replica: self.replica,
            nonce: self.nonce,
            purpose: self.settings.purpose,
            enrolment: local.enrolment(),
            summary,
            commits: self.settling.told_held().commits(),
        }));
    }

    pub(super) fn greeted<L: Local>(&mut self, hello: Hello, local: &L) {
        let Hello { version, repository, replica, nonce, purpose, enrolment, summary, commits } = hello;
        if version != VERSION {
            return self.refuse(Refusal::Version);
        }
        if repository != self.repository {
            return self.refuse(Refusal::Repository);
        }
        if replica == self.replica || nonce == self.nonce {
            return self.refuse(Refusal::Broken);
        }
        let role = enrolment::role(&local.log(), replica, enrolment.as_ref());
        let admitted = match purpose {
            Purpose::Converge => role.is_some(),
            Purpose::Recover => role == Some(Role::Coordinator),
        };
        if !admitted {
            return self.refuse(Refusal::NotAMember);
        }
        self.peer = Peer { replica, purpose, summary, commits, nonce };
        let speaker = (self.replica, self.nonce);
        let message = possession(self.repository, self.side, self.settings.purpose, speaker, (replica, nonce));
        let signature = sign(&self.key, &message);
        self.opening.push_back(Message::Proof { signature });
        self.phase = Phase::Proving;
    }

    pub(super) fn proved<L: Local>(&mut self, signature: &[u8; 64], now: Now, local: &L) -> Result<(), L::Error> {
        let Peer { replica, purpose, nonce, .. } = self.peer;
        let hearer = (self.replica, self.nonce);
        let message = possession(self.repository, self.side.other(), purpose, (replica, nonce), hearer);
        if !is_signed(replica.as_bytes(), &message, signature) {
            self.refuse(Refusal::NotAMember);
            return Ok(());
        }
        self.phase = Phase::Open;
        self.outputs.push_back(Output::Opened { peer: replica, purpose });
        self.ask_entries(now, local);
        if self.settings.states_first {
            self.fetch_states(true);
        } else if self.agrees(&self.settling.told(), &self.peer.summary) {
            // The peer holds what this side held when it said hello; what came since is news to it.
            let (then, held) = (self.settling.told_held(), local.held().vector);
            self.vectors.equal(&then);
            self.aim(&then);
            for range in then.missing_from(&held) {
                self.outgoing.add(range, &held, local)?;
            }
            self.outputs.push_back(Output::Holds((*then).clone()));
            self.settle(now, local);
        } else {
            self.begin_comparing(now, local);
        }
        Ok(())
    }
}
