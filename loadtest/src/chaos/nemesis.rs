//! Does what a schedule says, and tells of each fault what it saw of it: a fault of which nothing was seen has not taken place.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_proto::{
    ack::{Level, Wait},
    document::Place,
    edit::{Edit, Operation, Write},
    read::Get,
};
use serde::{Deserialize, Serialize};
use tokio::{process::Command, time::sleep};

use super::{
    clients::Shared,
    fault::{Fault, Kind, member_name},
    herd::{Herd, files},
    means::Means,
    relay::Lie,
    switch::{Condition, Count},
};
use crate::{
    Error,
    ledger::Finding,
    node::{connect, name},
    workload::{DOCUMENTS, Rng, mix, record},
};

/// How late everything comes on a slow link.
const DELAY: Duration = Duration::from_millis(100);

/// How many chunks of a hundred a bad link loses once.
const LOSS: u8 = 10;

/// Most seconds by which a clock is wrong: below what members tolerate of each other.
const WRONG: u64 = 30;

/// How long a member stays cut off after its power came back, so that nobody can have helped it when its clients read again.
const ALONE: Duration = Duration::from_millis(1000);

/// How long a slow disk takes nothing at a time.
const STALL: Duration = Duration::from_millis(200);

/// How long members may take to meet again over a link that somebody lies on, beyond the time of the fault.
const MEET: Duration = Duration::from_secs(15);

/// How long what was written may take over such a link.
const THROUGH: Duration = Duration::from_secs(20);

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a process may take to be as a signal says.
const SIGNAL: Duration = Duration::from_secs(2);

/// A fault that took place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// Which, as planned.
    pub fault: Fault,
    /// When it began: milliseconds since the load began.
    pub began_millis: u64,
    /// When all was well again.
    pub ended_millis: u64,
    /// What was seen of it.
    pub evidence: String,
}

/// Why a fault did not take place as planned.
enum Trouble {
    /// It was not seen, or cannot be done.
    Unseen(String),
    /// The member did not come back.
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Unseen(error.to_string())
    }
}

type Seen = Result<String, Trouble>;

/// Makes the faults of a run.
pub(super) struct Nemesis<'a> {
    pub(super) herd: &'a mut Herd,
    pub(super) shared: Arc<Shared>,
    pub(super) means: &'a Means,
    /// The program that members are restarted from one after another.
    pub(super) upgrade: Option<&'a Path>,
    /// When the load began.
    pub(super) begun: Instant,
    pub(super) rng: Rng,
    /// When the copies of the disks were taken.
    pub(super) copied: Option<Instant>,
}

impl Nemesis<'_> {
    /// Takes the copies that members are put back to.
    ///
    /// # Errors
    /// If a member does not come back.
    pub(super) async fn copy(&mut self) -> Result<(), Error> {
        for member in 1..self.herd.len() {
            self.herd.stop(member).await?;
            let (from, to) = (self.herd.data(member).to_owned(), self.herd.copy(member));
            duplicate(&from, &to).map_err(|source| Error::File { what: "copy", path: from, source })?;
            self.herd.start(member, None).await?;
        }
        self.copied = Some(Instant::now());
        Ok(())
    }

    /// Makes all faults of a schedule, each when it is due or the one before is over. Those that did not take place are findings.
    pub(super) async fn run(&mut self, faults: &[Fault], mut tell: impl FnMut(Option<&Fault>)) -> Vec<Fired> {
        let mut fired = Vec::new();
        for fault in faults {
            tokio::time::sleep_until((self.begun + Duration::from_millis(fault.at_millis)).into()).await;
            tell(Some(fault));
            let began_millis = millis(self.begun);
            if fault.member >= self.herd.len() {
                self.shared.find(Finding::NeverFired { fault: fault.to_string(), why: "there is no such member".to_owned() });
                continue;
            }
            self.rng = Rng::new(mix(self.rng.draw() ^ fault.at_millis));
            match self.make(fault).await {
                Ok(evidence) => fired.push(Fired { fault: fault.clone(), began_millis, ended_millis: millis(self.begun), evidence }),
                Err(Trouble::Unseen(why)) => self.shared.find(Finding::NeverFired { fault: fault.to_string(), why }),
                Err(Trouble::Error(error)) => {
                    let why = format!("after {fault}: {error}");
                    self.shared.find(Finding::Stuck { node: member_name(fault.member), why });
                    // The run has failed, and what comes now would tell of a cluster that lacks a member.
                    tell(None);
                    break;
                }
            }
            tell(None);
        }
        fired
    }

    async fn make(&mut self, Fault { kind, member, lasts_millis, .. }: &Fault) -> Seen {
        let (member, lasts) = (*member, Duration::from_millis(*lasts_millis));
        match kind {
            Kind::Kill => self.kill(member, lasts).await,
            Kind::Stop => self.stop(member, lasts).await,
            Kind::Restart => self.restart(member).await,
            Kind::Wipe => self.wipe(member, lasts).await,
            Kind::Rollback => self.roll_back(member, lasts).await,
            Kind::Partition => {
                let held = self.link(member, lasts, Condition { is_cut: true, ..Condition::default() }, |count| count.held).await;
                seen(held, "times something was held back")
            }
            Kind::Sever => self.sever(member, lasts).await,
            Kind::Delay => {
                let delayed = self.link(member, lasts, Condition { delay: DELAY, ..Condition::default() }, |count| count.delayed).await;
                seen(delayed, "chunks came late")
            }
            Kind::Loss => {
                let lost = self.link(member, lasts, Condition { loss_percent: LOSS, ..Condition::default() }, |count| count.lost).await;
                seen(lost, "chunks were lost once")
            }
            Kind::Power => self.cut_power(member, lasts).await,
            Kind::Full => self.fill(member, lasts).await,
            Kind::Slow => self.slow_down(member, lasts).await,
            Kind::Clock => self.set_clock(member, lasts).await,
            Kind::Corrupt => self.corrupt(member).await,
            Kind::Flip => self.flip(member).await,
            Kind::Roll => self.roll().await,
            Kind::Alter => self.lie(member, lasts, Lie::Alter).await,
            Kind::Omit => self.lie(member, lasts, Lie::Omit).await,
            Kind::Reorder => self.lie(member, lasts, Lie::Reorder).await,
            Kind::Backdate => {
                let authority = self.herd.authority()?;
                self.lie(member, lasts, Lie::Backdate(Arc::new(authority))).await
            }
        }
    }

    async fn kill(&mut self, member: usize, lasts: Duration) -> Seen {
        let status = self.herd.kill(member).await?;
        sleep(lasts).await;
        self.herd.start(member, None).await?;
        if Herd::was_killed(status) { Ok(format!("it ended by {status}")) } else { Err(Trouble::Unseen(format!("it ended by {status}"))) }
    }

    async fn stop(&mut self, member: usize, lasts: Duration) -> Seen {
        self.herd.signal(member, "STOP").await?;
        let begun = Instant::now();
        while self.herd.process_state(member) != Some('T') && begun.elapsed() < SIGNAL {
            sleep(Duration::from_millis(5)).await;
        }
        let state = self.herd.process_state(member);
        sleep(lasts).await;
        self.herd.signal(member, "CONT").await?;
        if state == Some('T') {
            Ok("the system called it stopped".to_owned())
        } else {
            Err(Trouble::Unseen(format!("its state was {state:?}")))
        }
    }

    async fn restart(&mut self, member: usize) -> Seen {
        let status = self.herd.stop(member).await?;
        self.herd.start(member, None).await?;
        if status.success() {
            Ok("it ended when it was asked to".to_owned())
        } else {
            self.shared.find(Finding::Unsound { node: member_name(member), why: format!("asked to end, it ended by {status}") });
            Ok(format!("it ended by {status}"))
        }
    }

    async fn wipe(&mut self, member: usize, lasts: Duration) -> Seen {
        self.herd.kill(member).await?;
        let count = self.wiped(member)?;
        sleep(lasts).await;
        self.herd.start(member, None).await?;
        seen(count, "files were removed")
    }

    /// Removes the data of a member that does not run.
    fn wiped(&self, member: usize) -> Result<u64, Error> {
        let count = self.herd.wipe(member)?;
        self.lose(member, None, None);
        Ok(count)
    }

    async fn roll_back(&mut self, member: usize, lasts: Duration) -> Seen {
        let Some(copied) = self.copied else {
            return Err(Trouble::Unseen("no copy was taken".to_owned()));
        };
        sleep(lasts).await;
        self.herd.kill(member).await?;
        let (data, copy) = (self.herd.data(member).to_owned(), self.herd.copy(member));
        fs::remove_dir_all(&data)?;
        duplicate(&copy, &data)?;
        self.lose(member, None, Some(copied));
        let count = files(&data)?.len() as u64;
        self.herd.start(member, None).await?;
        seen(count, "files were put back")
    }

    /// Puts the links of a member into a condition for a while, and until somebody met it; returns how often that was by `of`.
    async fn link(&self, member: usize, lasts: Duration, condition: Condition, of: fn(&Count) -> u64) -> u64 {
        let before = of(&self.herd.link_count(member));
        let met = || of(&self.herd.link_count(member)) - before;
        self.herd.link(member, condition);
        let begun = Instant::now();
        sleep(lasts).await;
        // Members that lost each other before try again after a pause that has grown.
        while met() == 0 && begun.elapsed() < lasts + MEET {
            sleep(PAUSE).await;
        }
        let met = met();
        self.herd.link(member, Condition::default());
        met
    }

    async fn sever(&self, member: usize, lasts: Duration) -> Seen {
        let wires = self.herd.wires().ok_or_else(|| Trouble::Unseen("members have no networks of their own".to_owned()))?;
        let before = wires.dropped()?;
        wires.sever(member)?;
        let begun = Instant::now();
        sleep(lasts).await;
        let mut dropped = wires.dropped();
        // Members that lost each other before send again after a pause that has grown.
        while dropped.as_ref().is_ok_and(|dropped| *dropped == before) && begun.elapsed() < lasts + MEET {
            sleep(PAUSE).await;
            dropped = wires.dropped();
        }
        wires.mend()?;
        seen(dropped? - before, "packets were dropped")
    }

    async fn cut_power(&mut self, member: usize, lasts: Duration) -> Seen {
        // What clients are told from here on nobody else can hold.
        self.herd.link(member, Condition { is_cut: true, ..Condition::default() });
        sleep(lasts).await;
        let outcome = self.power_failed(member).await;
        sleep(ALONE).await;
        self.herd.link(member, Condition::default());
        outcome
    }

    async fn power_failed(&mut self, member: usize) -> Seen {
        self.herd.kill(member).await?;
        let disk = self.herd.disk(member).ok_or_else(|| Trouble::Unseen("it has no disk of its own".to_owned()))?;
        let was_lost = disk.cut_power()?;
        self.lose(member, Some(Level::Durable), None);
        self.herd.start(member, None).await?;
        Ok(if was_lost { "what was not synced was lost" } else { "all had been synced" }.to_owned())
    }

    async fn fill(&mut self, member: usize, lasts: Duration) -> Seen {
        let disk = self.herd.disk(member).ok_or_else(|| Trouble::Unseen("it has no disk of its own".to_owned()))?;
        disk.fill()?;
        sleep(lasts).await;
        let disk = self.herd.disk(member).ok_or_else(|| Trouble::Unseen("its disk is gone".to_owned()))?;
        disk.empty()?;
        // Once a write failed it writes nothing more: its operator makes room and starts it again.
        let ended = self.herd.has_ended(member);
        let status = self.herd.kill(member).await?;
        self.herd.start(member, None).await?;
        Ok(ended.map_or_else(
            || "the disk took no byte more; it went on".to_owned(),
            |_| format!("the disk took no byte more; it ended by {status}"),
        ))
    }

    async fn slow_down(&self, member: usize, lasts: Duration) -> Seen {
        let disk = self.herd.disk(member).ok_or_else(|| Trouble::Unseen("it has no disk of its own".to_owned()))?;
        let (begun, mut stalls) = (Instant::now(), 0);
        while begun.elapsed() < lasts {
            tokio::task::block_in_place(|| disk.stall(STALL))?;
            stalls += 1;
            sleep(STALL / 4).await;
        }
        seen(stalls, &format!("times its disk took nothing for {} ms", STALL.as_millis()))
    }

    async fn set_clock(&mut self, member: usize, lasts: Duration) -> Seen {
        let Some(library) = self.means.faketime().map(Path::to_path_buf) else {
            return Err(Trouble::Unseen("there is no libfaketime".to_owned()));
        };
        let seconds = 1 + self.rng.below(WRONG);
        let offset = format!("{}{seconds}s", if self.rng.below(2) == 0 { '+' } else { '-' });
        self.herd.stop(member).await?;
        self.herd.start(member, Some((&library, &offset))).await?;
        let is_wrong = self.herd.has_loaded(member, "libfaketime");
        sleep(lasts).await;
        self.herd.stop(member).await?;
        self.herd.start(member, None).await?;
        if is_wrong { Ok(format!("its clock went {offset} wrong")) } else { Err(Trouble::Unseen("it did not load the library".to_owned())) }
    }

    async fn corrupt(&mut self, member: usize) -> Seen {
        let commit = self.shared.history.lock().expect("nobody panics with it").newest_of(member);
        let Some(commit) = commit else {
            return Err(Trouble::Unseen("it holds no commit that was acknowledged".to_owned()));
        };
        self.herd.stop(member).await?;
        let data = self.herd.data(member).to_string_lossy().into_owned();
        let commit = commit.to_string();
        let drill = self.offline(member, &["--yes", "drill", "corrupt-edit", "--data", &data, "--commit", &commit]).await;
        let check = fsck(self.herd.binary(member), &data).await;
        self.wiped(member)?;
        self.herd.start(member, None).await?;
        drill.map_err(Trouble::Unseen)?;
        if check.is_ok() {
            let what = format!("a byte of commit {commit} was changed");
            self.shared.find(Finding::Undetected { node: member_name(member), what });
        }
        Ok("a byte of what it stored was changed".to_owned())
    }

    async fn flip(&mut self, member: usize) -> Seen {
        self.herd.kill(member).await?;
        self.shared.history.lock().expect("nobody panics with it").begin_anew(member);
        let files = files(self.herd.data(member))?;
        let files: Vec<_> = files.into_iter().filter(|path| is_of_store(path)).collect();
        if files.is_empty() {
            return Err(Trouble::Unseen("it has no files".to_owned()));
        }
        let file = &files[self.rng.index(files.len())];
        let at = flip(file, &mut self.rng)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let data = self.herd.data(member).to_string_lossy().into_owned();
        let check = fsck(self.herd.binary(member), &data).await;
        let began = if check.is_ok() { self.herd.start(member, None).await } else { Ok(()) };
        let outcome = if check.is_err() || began.is_err() {
            // Its process may be there, refusing to serve.
            let _ = self.herd.kill(member).await;
            self.wiped(member)?;
            self.herd.start(member, None).await?;
            "it was noticed"
        } else {
            "it was in no byte that counts"
        };
        Ok(format!("bit flipped in byte {at} of {name}; {outcome}"))
    }

    async fn roll(&mut self) -> Seen {
        for member in 0..self.herd.len() {
            if let Some(binary) = self.upgrade {
                self.herd.upgrade(member, binary);
            }
            self.herd.stop(member).await?;
            self.herd.start(member, None).await?;
        }
        Ok(format!("{} members ended when they were asked to, one after another", self.herd.len()))
    }

    /// Leaves a member one link, and a liar on it.
    async fn lie(&mut self, member: usize, lasts: Duration, lie: Lie) -> Seen {
        let others: Vec<_> = (1..self.herd.len()).filter(|other| *other != member).collect();
        // Where there is no other replica it is the coordinator.
        let other = if others.is_empty() { 0 } else { others[self.rng.index(others.len())] };
        let must_come_through = matches!(lie, Lie::Reorder);
        let relay = self.herd.isolate(member, other, lie).await?;
        let begun = Instant::now();
        // Members that lost each other call again after a pause that may have grown.
        while (begun.elapsed() < lasts || relay.told() == 0) && begun.elapsed() < lasts + MEET {
            sleep(PAUSE).await;
        }
        let came = if must_come_through { self.comes_through(other, member).await } else { Ok(()) };
        self.herd.mend(member, other);
        if let Err(why) = came {
            self.shared.find(Finding::Stuck { node: member_name(member), why });
        }
        seen(relay.told(), "lies were told")
    }

    /// Whether what is written at one member comes to another, with all that was there before.
    async fn comes_through(&self, from: usize, to: usize) -> Result<(), String> {
        let key = format!("through/{:016x}", millis(self.begun));
        let told = |failed: Error| failed.to_string();
        let edit = Edit { name: name(DOCUMENTS, &key), operation: Operation::Put(record(0, 0)) };
        let client = connect(&self.herd.address(from)).await.map_err(told)?;
        let write = Write { wait: Wait::DURABLE, ..Write::new(self.shared.requests.draw(), vec![edit]) };
        client.commit(write).await.map_err(|failed| failed.to_string())?;
        let client = connect(&self.herd.address(to)).await.map_err(told)?;
        let begun = Instant::now();
        while begun.elapsed() < THROUGH {
            if let Ok(Some(_)) = client.get(Get { place: Place::NEWEST, name: name(DOCUMENTS, &key) }).await {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        let (from, seconds) = (member_name(from), THROUGH.as_secs());
        Err(format!("what was written at {from} did not come within {seconds} s over a link that only changes the order"))
    }

    fn lose(&self, member: usize, survives: Option<Level>, since: Option<Instant>) {
        self.shared.history.lock().expect("nobody panics with it").lose(member, survives, since);
    }

    async fn offline(&self, member: usize, args: &[&str]) -> Result<(), String> {
        command(self.herd.binary(member), args).await
    }
}

/// Checks a data folder that nobody has open; the error is what is wrong.
pub(super) async fn fsck(binary: &Path, data: &str) -> Result<(), String> {
    command(binary, &["fsck", "--data", data]).await
}

/// Checks the head log in a data folder that nobody has open; the error is what is wrong.
pub(super) async fn audit(binary: &Path, data: &str) -> Result<(), String> {
    command(binary, &["audit", "verify", "--data", data]).await
}

async fn command(binary: &Path, args: &[&str]) -> Result<(), String> {
    const MOST: usize = 500;
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HERDBOOK_")) {
        command.env_remove(name);
    }
    let output = command.args(args).stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let told = [output.stdout, output.stderr].concat();
    let told: String = String::from_utf8_lossy(&told).trim().chars().take(MOST).collect();
    Err(told)
}

fn seen(count: u64, what: &str) -> Seen {
    if count > 0 { Ok(format!("{count} {what}")) } else { Err(Trouble::Unseen(format!("no {what}"))) }
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn is_of_store(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_data = path.extension().is_some_and(|extension| ["sst", "log", "blob"].iter().any(|known| extension == *known));
    (is_data || name.starts_with("MANIFEST")) && fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

/// Changes one bit of a file; returns in which byte.
fn flip(path: &Path, rng: &mut Rng) -> io::Result<u64> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let at = rng.below(file.metadata()?.len().max(1));
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 1 << rng.below(8);
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&byte)?;
    file.sync_all()?;
    Ok(at)
}

/// Copies a folder with all that is in it, onto the disk: a later loss of power must not take it.
fn duplicate(from: &Path, to: &Path) -> io::Result<()> {
    let mut folders = BTreeSet::from([to.to_owned()]);
    for file in files(from)? {
        let within = file.strip_prefix(from).map_err(io::Error::other)?;
        let copy = to.join(within);
        let within_copy = copy.ancestors().skip(1).take_while(|folder| folder.starts_with(to));
        folders.extend(within_copy.map(Path::to_path_buf));
        fs::create_dir_all(copy.parent().unwrap_or(to))?;
        fs::copy(&file, &copy)?;
        File::open(&copy)?.sync_all()?;
    }
    folders.extend(to.parent().map(Path::to_path_buf));
    folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::temporary_folder;

    #[test]
    fn a_flip_changes_one_bit_of_the_file() {
        let folder = temporary_folder(None).expect("made");
        let path = folder.path().join("000001.sst");
        fs::write(&path, [0; 64]).expect("written");
        assert!(is_of_store(&path));
        let at = usize::try_from(flip(&path, &mut Rng::new(3)).expect("it can be done")).expect("small");
        let bytes = fs::read(&path).expect("there");
        assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_eq!(bytes[at].count_ones(), 1);
    }

    #[test]
    fn a_copy_of_a_folder_has_all_of_it() {
        let folder = temporary_folder(None).expect("made");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("a/b")).expect("made");
        fs::write(from.join("a/b/c"), "deep").expect("written");
        duplicate(&from, &to).expect("copied");
        assert_eq!(fs::read(to.join("a/b/c")).expect("there"), b"deep");
    }

    #[test]
    fn what_was_not_seen_did_not_take_place() {
        assert!(matches!(seen(3, "chunks came late"), Ok(text) if text == "3 chunks came late"));
        assert!(matches!(seen(0, "chunks came late"), Err(Trouble::Unseen(_))));
    }

    #[tokio::test]
    async fn a_check_that_fails_is_told_with_its_words() {
        assert_eq!(command(Path::new("true"), &[]).await, Ok(()));
        assert_eq!(command(Path::new("sh"), &["-c", "echo bad tree; exit 8"]).await, Err("bad tree".to_owned()));
    }
}
