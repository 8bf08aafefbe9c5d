//! Processor time of client and server, by what the threads do: to find out which of them is the one that all wait for.

use std::fs;

/// Threads of the server that each do one thing alone, by the beginning of their names: the writer of the repository, and that of its store.
const MAKER: &str = "actix-rt";
const WRITER: &str = "store-writer";

/// Processor time in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spent {
    /// By all threads that share their work: the client, the server's network, and what is done beside.
    pub(super) shared: f64,
    /// By the thread that makes commits.
    pub(super) maker: f64,
    /// By the thread that writes them.
    pub(super) writer: f64,
}

impl Spent {
    /// Returns what this process and that of the server have taken so far; what is not there took nothing.
    pub(super) fn so_far(server: u32) -> Self {
        let server = server.to_string();
        let of = |name| threads(&server).filter(move |(thread, _)| thread.starts_with(name)).map(|(_, micros)| micros);
        // The authority's thread has the maker's name, and less to do.
        let (maker, writer) = (of(MAKER).fold(0.0, f64::max), of(WRITER).fold(0.0, std::ops::Add::add));
        // Threads that ended meanwhile are in the process's time alone.
        Self { shared: process("self") + process(&server) - maker - writer, maker, writer }
    }

    /// Returns what was taken since, for each of `count`.
    pub(super) fn since(self, earlier: Self, count: f64) -> Self {
        let each = |now: f64, before: f64| (now - before).max(0.0) / count;
        Self {
            shared: each(self.shared, earlier.shared),
            maker: each(self.maker, earlier.maker),
            writer: each(self.writer, earlier.writer),
        }
    }
}

/// Returns the processor time that a process has taken, in microseconds; 0 if it is not there.
fn process(process: &str) -> f64 {
    // Linux counts in hundredths of a second on every machine of today.
    const TICK: f64 = 10_000.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').skip(11).take(2)).into_iter().flatten();
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * TICK
}

/// Returns names and microseconds of the threads of a process.
fn threads(process: &str) -> impl Iterator<Item = (String, f64)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        // The first number is the time on a processor, in nanoseconds.
        let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanos: f64 = times.split(' ').next()?.parse().ok()?;
        Some((name, nanos / 1000.0))
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn burn(name: &str, time: Duration) -> std::thread::JoinHandle<()> {
        let burn = move || {
            let begun = Instant::now();
            while begun.elapsed() < time {
                std::hint::black_box((0..1000u64).map(std::hint::black_box).sum::<u64>());
            }
            // Threads that ended are not counted any more.
            std::thread::sleep(Duration::from_millis(300));
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(burn).expect("it starts")
    }

    #[test]
    fn what_threads_took_is_told_by_what_they_do() {
        let before = Spent::so_far(std::process::id());
        let threads = [burn("store-writer", Duration::from_millis(60)), burn("actix-rt|system:0", Duration::from_millis(60))];
        std::thread::sleep(Duration::from_millis(200));
        let Spent { shared, maker, writer } = Spent::so_far(std::process::id()).since(before, 1.0);
        assert!(maker > 5_000.0 && writer > 5_000.0 && shared > maker.min(writer), "{maker} {writer} {shared}");
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        assert_eq!(Spent::so_far(u32::MAX).writer.to_bits(), 0.0f64.to_bits());
    }
}
