//! The cluster that faults are made in: members as processes, each behind links that can fail, each with a disk of its own where that can be
//! had. Addresses stay as they are when members start anew.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use herdbook_model::{
    SigningKey,
    id::{ChunkId, ReplicaId},
};
use herdbook_proto::{client::Client, cluster::Phase};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{
    disk::Disk,
    fault::member_name,
    relay::{Lie, Relay},
    switch::{Condition, Count, Link, Target},
    wires::Wires,
};
use crate::{
    Error,
    cluster::{Server, temporary_folder, write},
    node::connect,
    sampler::Subject,
    workload::{DOCS_SCHEMA, mix},
};

/// How long a member may take until it serves, after whatever happened to it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a process may take to end after SIGTERM.
const END: Duration = Duration::from_secs(30);

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(50);

/// How a herd is made.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The `herdbook` program.
    pub(super) binary: PathBuf,
    /// Replicas beside the coordinator.
    pub(super) replicas: usize,
    /// Where the data folders are made; none: the system's folder for temporary files.
    pub(super) folder: Option<PathBuf>,
    /// Whether members get disks of their own.
    pub(super) has_disks: bool,
    /// Whether members get networks of their own.
    pub(super) has_wires: bool,
    /// Seed of what links lose.
    pub(super) seed: u64,
}

/// A member.
#[derive(Debug)]
struct Member {
    binary: PathBuf,
    /// Where clients find it.
    front: Link,
    child: Option<Child>,
    /// Where it listens while it runs.
    server: Option<SocketAddr>,
    process: Arc<AtomicU32>,
    /// Its data folder: on its own disk, if it has one.
    data: PathBuf,
    disk: Option<Disk>,
    starts: u32,
}

/// The cluster. Dropped, its processes are killed and its data is removed.
#[derive(Debug)]
pub(super) struct Herd {
    members: Vec<Member>,
    /// From whom, to whom.
    links: BTreeMap<(usize, usize), Link>,
    /// Which member signs with which key now.
    identities: Arc<Mutex<BTreeMap<ReplicaId, usize>>>,
    /// The networks that members live in, if they have their own.
    wires: Option<Wires>,
    // Below the members: their disks are in it.
    folder: TempDir,
}

impl Herd {
    /// Starts all members and waits until they serve.
    ///
    /// # Errors
    /// As [`Herd::start`]; [`Error::File`] if a disk cannot be made.
    pub(super) async fn begin(settings: &Settings) -> Result<Self, Error> {
        let folder = temporary_folder(settings.folder.as_deref())?;
        write(&folder.path().join("schema.json"), DOCS_SCHEMA)?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        write(&folder.path().join("token"), &secret.map(|byte| format!("{byte:02x}")).concat())?;
        let count = settings.replicas + 1;
        let wires = settings.has_wires.then(|| Wires::create(count)).transpose().map_err(Error::Switch)?;
        let (mut members, mut links) = (Vec::with_capacity(count), BTreeMap::new());
        for member in 0..count {
            let home = folder.path().join(member_name(member));
            let at = |name: &str| home.join(name);
            fs::create_dir_all(&home).map_err(|source| Error::File { what: "make", path: home.clone(), source })?;
            let disk = settings.has_disks.then(|| Disk::create(at("disk.img"), at("disk"))).transpose();
            let disk = disk.map_err(|source| Error::File { what: "make a disk in", path: home.clone(), source })?;
            let data = disk.as_ref().map_or_else(|| at("data"), |disk| disk.path().join("data"));
            members.push(Member {
                binary: settings.binary.clone(),
                front: Link::new(mix(settings.seed ^ member as u64)).await?,
                child: None,
                server: None,
                process: Arc::default(),
                data,
                disk,
                starts: 0,
            });
            // A replica calls the coordinator and the replicas before it; so each pair has one way, whoever calls.
            for other in 0..member {
                let seed = mix(settings.seed ^ (member * count + other) as u64);
                let link = match &wires {
                    Some(wires) => Link::wired(seed, &wires.plug(member, other))?,
                    None => Link::new(seed).await?,
                };
                links.insert((member, other), link);
            }
        }
        let mut herd = Self { members, links, identities: Arc::default(), wires, folder };
        for member in 0..count {
            herd.start(member, None).await?;
        }
        Ok(herd)
    }

    /// Returns how many members there are.
    pub(super) const fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns where clients find a member, whatever happens to it.
    pub(super) fn address(&self, member: usize) -> String {
        self.members[member].front.address().to_string()
    }

    /// Returns where clients find the members.
    pub(super) fn addresses(&self) -> Vec<String> {
        (0..self.len()).map(|member| self.address(member)).collect()
    }

    /// Returns which member signs with which key.
    pub(super) fn identities(&self) -> Arc<Mutex<BTreeMap<ReplicaId, usize>>> {
        Arc::clone(&self.identities)
    }

    /// Returns the members for the sampler.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let subject = |(number, member): (usize, &Member)| Subject {
            name: member_name(number),
            address: self.address(number),
            process: Arc::clone(&member.process),
        };
        self.members.iter().enumerate().map(subject).collect()
    }

    /// Returns a member's data folder.
    pub(super) fn data(&self, member: usize) -> &Path {
        &self.members[member].data
    }

    /// Returns a place for a copy of a member's data, beside it.
    pub(super) fn copy(&self, member: usize) -> PathBuf {
        self.members[member].data.with_file_name("copy")
    }

    /// Returns a member's disk.
    pub(super) fn disk(&self, member: usize) -> Option<&Disk> {
        self.members[member].disk.as_ref()
    }

    /// Returns the program a member is started from.
    pub(super) fn binary(&self, member: usize) -> &Path {
        &self.members[member].binary
    }

    /// Starts a member from another program from now on.
    pub(super) fn upgrade(&mut self, member: usize, binary: &Path) {
        self.members[member].binary = binary.to_owned();
    }

    /// Starts a member and waits until it serves; a coordinator without data waits for its members until it is told to open nevertheless.
    /// With `clock`, the name of a library and an offset, its clock is wrong.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::NotReady`].
    pub(super) async fn start(&mut self, member: usize, clock: Option<(&Path, &str)>) -> Result<(), Error> {
        let (name, home) = (member_name(member), self.folder.path());
        let Member { binary, data, starts, .. } = &mut self.members[member];
        *starts += 1;
        let log = format!("{name}-{starts}");
        let mut command = match &self.wires {
            Some(wires) => wires.command(member, &binary.to_string_lossy()).into(),
            None => Command::new(&*binary),
        };
        let url = |link: &Link| format!("http://{}", link.address());
        if member == 0 {
            command.arg("coordinator").arg("--keys").arg(home.join("keys")).arg("--schema").arg(home.join("schema.json"));
            command.arg("--join-token-file").arg(home.join("token")).arg("--join-token-reusable");
        } else {
            command.arg("replica").arg("--name").arg(&name).arg("--token-file").arg(home.join("token"));
            command.arg("--coordinator").arg(url(&self.links[&(member, 0)]));
            for other in 1..member {
                command.arg("--peer").arg(url(&self.links[&(member, other)]));
            }
        }
        // Nobody may find a way around the links.
        command.arg("--data").arg(&*data).arg("--advertise=");
        if let Some((library, offset)) = clock {
            command.env("LD_PRELOAD", library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let host = self.wires.as_ref().map_or(Ipv4Addr::LOCALHOST, |_| Wires::home(member));
        let Server { address, child } = Server::start_at(host, command, &log, home).await?;
        let target: SocketAddr = address.parse().map_err(|_| Error::NotReady { name: name.clone(), log: address.clone() })?;
        self.members[member].process.store(child.id().unwrap_or(0), Ordering::SeqCst);
        self.members[member].child = Some(child);
        self.members[member].server = Some(target);
        self.members[member].front.lead(self.target(member, member));
        for ((from, to), link) in &self.links {
            if *to == member {
                link.lead(self.target(*from, member));
            }
        }
        self.serving(member).await
    }

    /// Returns how the link between two members reaches the one that listens; between a member and itself: its clients' link.
    fn target(&self, caller: usize, listener: usize) -> Option<Target> {
        let plug = self.wires.as_ref().map(|wires| wires.plug(caller, listener));
        Some(Target { address: self.members[listener].server?, plug })
    }

    /// Waits until a member serves, and notes its key.
    async fn serving(&self, member: usize) -> Result<(), Error> {
        let (begun, address) = (Instant::now(), self.address(member));
        loop {
            let status = match connect(&address).await {
                Ok(client) => client.status().await.ok().map(|status| (client, status)),
                Err(_) => None,
            };
            match status {
                Some((_, status)) if status.phase == Phase::Serving && status.promoted.is_some() => {
                    self.identities.lock().expect("nobody panics with it").insert(status.replica, member);
                    return Ok(());
                }
                Some((client, status)) if status.phase == Phase::Recovering => self.reopen(&client, &status).await,
                _ => {}
            }
            if begun.elapsed() >= PATIENCE {
                return Err(Error::NotReady { name: member_name(member), log: "it did not serve in time".to_owned() });
            }
            sleep(PAUSE).await;
        }
    }

    /// Gives the operator's word to a coordinator that restores itself, once all replicas that there are have told it all they hold: members
    /// that were wiped and joined anew leave a name behind that will never report.
    async fn reopen(&self, client: &Client, status: &herdbook_proto::cluster::Status) {
        let Some(recovery) = &status.recovery else { return };
        let reporters = {
            let identities = self.identities.lock().expect("nobody panics with it");
            let is_of_replica = |replica: &&ReplicaId| identities.get(*replica).is_some_and(|member| *member > 0);
            recovery.reporters.iter().filter(is_of_replica).count()
        };
        if reporters + 1 == self.len() && recovery.missing_commits == 0 {
            // It may have opened by itself meanwhile.
            let _ = client.reopen_after_restore("all members that are left have reported".to_owned()).await;
        }
    }

    /// Sends a signal to a member's process.
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub(super) async fn signal(&self, member: usize, signal: &str) -> Result<(), Error> {
        let failed = |source| Error::Signal { name: member_name(member), source };
        let process = self.members[member].process.load(Ordering::SeqCst);
        if process == 0 {
            return Err(failed(io::Error::other("it does not run")));
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("kill -{signal} {process}")).stdin(Stdio::null()).stderr(Stdio::null());
        let status = command.status().await.map_err(failed)?;
        if status.success() { Ok(()) } else { Err(failed(io::Error::other("there is no such process"))) }
    }

    /// Returns how the system says a member's process is: `R`, `S`, `T` for stopped, …; none: it is not there.
    pub(super) fn process_state(&self, member: usize) -> Option<char> {
        let process = self.members[member].process.load(Ordering::SeqCst);
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Whether a member's process has a library loaded.
    pub(super) fn has_loaded(&self, member: usize, library: &str) -> bool {
        let process = self.members[member].process.load(Ordering::SeqCst);
        fs::read_to_string(format!("/proc/{process}/maps")).is_ok_and(|maps| maps.contains(library))
    }

    /// Kills a member and returns how it ended.
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub(super) async fn kill(&mut self, member: usize) -> Result<ExitStatus, Error> {
        if let Some(child) = &mut self.members[member].child {
            // It may have ended by itself; then there is nothing to kill, and how it ended is told below.
            let _ = child.start_kill();
        }
        self.ended(member).await
    }

    /// Asks a member to end and returns how it did.
    ///
    /// # Errors
    /// [`Error::Signal`], also if it does not end in time.
    pub(super) async fn stop(&mut self, member: usize) -> Result<ExitStatus, Error> {
        self.signal(member, "TERM").await?;
        self.ended(member).await
    }

    /// Returns how a member ended, if it did by itself.
    pub(super) fn has_ended(&mut self, member: usize) -> Option<ExitStatus> {
        self.members[member].child.as_mut()?.try_wait().ok().flatten()
    }

    async fn ended(&mut self, member: usize) -> Result<ExitStatus, Error> {
        let failed = |source| Error::Signal { name: member_name(member), source };
        let Some(child) = &mut self.members[member].child else {
            return Err(failed(io::Error::other("it does not run")));
        };
        let status = timeout(END, child.wait()).await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
        let member = &mut self.members[member];
        member.child = None;
        member.server = None;
        member.process.store(0, Ordering::SeqCst);
        member.front.lead(None);
        Ok(status)
    }

    /// Whether a member was ended by SIGKILL.
    pub(super) fn was_killed(status: ExitStatus) -> bool {
        status.signal() == Some(9)
    }

    /// Removes a member's data; the coordinator's keys are elsewhere. Returns how many files there were.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) fn wipe(&self, member: usize) -> Result<u64, Error> {
        let data = self.data(member);
        let failed = |source| Error::File { what: "remove", path: data.to_owned(), source };
        let count = files(data).map_err(failed)?.len() as u64;
        fs::remove_dir_all(data).map_err(failed)?;
        // Whom it knew by its old key has lost it.
        self.identities.lock().expect("nobody panics with it").retain(|_, holder| *holder != member || member == 0);
        Ok(count)
    }

    /// Puts the links of a member to the others into a condition.
    pub(super) fn link(&self, member: usize, condition: Condition) {
        self.links_of(member).for_each(|link| link.set(condition));
    }

    /// Returns what the links of a member to the others did.
    pub(super) fn link_count(&self, member: usize) -> Count {
        self.links_of(member).map(Link::count).fold(Count::default(), |sum, count| Count {
            held: sum.held + count.held,
            delayed: sum.delayed + count.delayed,
            lost: sum.lost + count.lost,
            bytes: sum.bytes + count.bytes,
        })
    }

    /// Returns the networks that members live in, if they have their own.
    pub(super) const fn wires(&self) -> Option<&Wires> {
        self.wires.as_ref()
    }

    /// Cuts a member off from all others but one, and lets somebody lie to them.
    ///
    /// # Errors
    /// [`Error::Switch`].
    pub(super) async fn isolate(&self, member: usize, other: usize, lie: Lie) -> Result<Relay, Error> {
        let (caller, listener) = (member.max(other), member.min(other));
        let relay = Relay::start(self.members[listener].front.address(), lie).await?;
        self.link(member, Condition { is_cut: true, ..Condition::default() });
        let link = &self.links[&(caller, listener)];
        link.set(Condition::default());
        link.lead(Some(relay.address().into()));
        link.break_off();
        Ok(relay)
    }

    /// Lets a member reach all others again, and `other` without anybody between.
    pub(super) fn mend(&self, member: usize, other: usize) {
        let (caller, listener) = (member.max(other), member.min(other));
        let link = &self.links[&(caller, listener)];
        link.lead(self.target(caller, listener));
        link.break_off();
        self.link(member, Condition::default());
    }

    /// Returns the key that signs the head log.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read.
    pub(super) fn authority(&self) -> Result<SigningKey, Error> {
        let path = self.folder.path().join("keys").join("authority.key");
        let failed = |source| Error::File { what: "read", path: path.clone(), source };
        let text = fs::read_to_string(&path).map_err(failed)?;
        let secret = ChunkId::from_hex(text.trim()).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        Ok(SigningKey::from_bytes(&secret.0))
    }

    fn links_of(&self, member: usize) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |((from, to), _)| *from == member || *to == member).map(|(_, link)| link)
    }

    /// Leaves the data and logs where they are, and returns where.
    pub(super) fn keep(mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

/// Returns all files below a folder; none if there is no folder.
///
/// # Errors
/// What the system says.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort_unstable();
    Ok(files)
}
