//! Faults: what is done to which member, when, and for how long. As text, one a line: `5s kill replica-1 2s`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL; started again at the end.
    Kill,
    /// SIGSTOP; SIGCONT at the end.
    Stop,
    /// SIGTERM, and a new start at once.
    Restart,
    /// Killed and its data removed; started again at the end, with nothing but keys if it is the coordinator.
    Wipe,
    /// Put back to a copy of its disk that was taken at the beginning.
    Rollback,
    /// Cut off from all other members: what passes is held back.
    Partition,
    /// The same by the system's packet filter, in a network of its own: every packet is dropped.
    Sever,
    /// All it says to members and they to it comes 100 ms late.
    Delay,
    /// One chunk in ten between it and other members is lost once.
    Loss,
    /// Cut off, then the power fails: what was not synced is gone.
    Power,
    /// Its disk is full.
    Full,
    /// Its disk is slow: it stalls again and again.
    Slow,
    /// Its clock goes wrong, by up to half a minute.
    Clock,
    /// A byte of what it stores changes, past every checksum of the engine; its operator checks, wipes it and lets it join anew.
    Corrupt,
    /// A byte of one of its files changes; where it does not start, or its check finds something, it is wiped and joins anew.
    Flip,
    /// All members are restarted, one after another, from the other program if one is given.
    Roll,
    /// What it and another member, the only one that it still reaches, tell each other is changed on the way: a letter of each edit.
    Alter,
    /// The same, and every second commit is left out.
    Omit,
    /// The same, and the last of several commits comes first. They must get through nevertheless.
    Reorder,
    /// The same, and behind the head log's entries stands one more, signed by the authority itself, of an epoch that is not open.
    Backdate,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Kill,
        Self::Stop,
        Self::Restart,
        Self::Wipe,
        Self::Rollback,
        Self::Partition,
        Self::Delay,
        Self::Loss,
        Self::Power,
        Self::Full,
        Self::Clock,
        Self::Corrupt,
        Self::Flip,
        Self::Roll,
        Self::Alter,
        Self::Omit,
        Self::Reorder,
        Self::Backdate,
        Self::Slow,
        Self::Sever,
    ];

    /// Whether it takes from its member what nobody else may have, so that clients of it begin anew.
    pub const fn destroys(self) -> bool {
        matches!(self, Self::Wipe | Self::Rollback | Self::Power | Self::Corrupt | Self::Flip)
    }

    /// Whether somebody lies to its member.
    pub const fn lies(self) -> bool {
        matches!(self, Self::Alter | Self::Omit | Self::Reorder | Self::Backdate)
    }

    /// Whether the coordinator is spared: its member joins anew, or is lied to by somebody who may have the authority's key.
    pub const fn is_of_replicas_only(self) -> bool {
        matches!(self, Self::Rollback | Self::Corrupt | Self::Flip) || self.lies()
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Wipe => "wipe",
            Self::Rollback => "rollback",
            Self::Partition => "partition",
            Self::Sever => "sever",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Power => "power",
            Self::Full => "full",
            Self::Slow => "slow",
            Self::Clock => "clock",
            Self::Corrupt => "corrupt",
            Self::Flip => "flip",
            Self::Roll => "roll",
            Self::Alter => "alter",
            Self::Omit => "omit",
            Self::Reorder => "reorder",
            Self::Backdate => "backdate",
        }
    }
}

/// A fault that is planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins: milliseconds since the load began.
    pub at_millis: u64,
    /// What is done.
    pub kind: Kind,
    /// To which member: 0 is the coordinator, replicas follow. A fault of all members names the first.
    pub member: usize,
    /// How long it lasts, in milliseconds.
    pub lasts_millis: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_millis, kind, member, lasts_millis } = self;
        write!(f, "{at_millis}ms {} {} {lasts_millis}ms", kind.name(), member_name(*member))
    }
}

/// Returns what a member is called.
pub fn member_name(member: usize) -> String {
    if member == 0 { "coordinator".to_owned() } else { format!("replica-{member}") }
}

/// What is wrong with a fault as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no fault: write when, which, to whom and for how long, as `5s kill replica-1 2s`")]
pub struct NoFault(String);

impl FromStr for Fault {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Self, NoFault> {
        let parse = || {
            let mut words = text.split_whitespace();
            let at_millis = millis(words.next()?)?;
            let name = words.next()?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
            let member = match words.next()? {
                "coordinator" => 0,
                replica => replica.strip_prefix("replica-")?.parse().ok().filter(|number| *number > 0)?,
            };
            let lasts_millis = millis(words.next()?)?;
            words.next().is_none().then_some(Self { at_millis, kind, member, lasts_millis })
        };
        parse().ok_or_else(|| NoFault(text.to_owned()))
    }
}

fn millis(text: &str) -> Option<u64> {
    match text.strip_suffix("ms") {
        Some(number) => number.parse().ok(),
        None => text.strip_suffix('s')?.parse::<u64>().ok()?.checked_mul(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        for kind in Kind::ALL {
            for member in [0, 3] {
                let fault = Fault { at_millis: 1500, kind, member, lasts_millis: 2000 };
                assert_eq!(fault.to_string().parse(), Ok(fault));
            }
        }
        let fault = Fault { at_millis: 5000, kind: Kind::Kill, member: 1, lasts_millis: 2000 };
        assert_eq!("5s kill replica-1 2s".parse(), Ok(fault));
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for wrong in ["", "5s", "5s kill", "5s kill replica-0 1s", "5s burn replica-1 1s", "5 kill replica-1 1s", "5s kill replica-1 1s x"]
        {
            assert_eq!(wrong.parse::<Fault>(), Err(NoFault(wrong.to_owned())));
        }
    }
}
