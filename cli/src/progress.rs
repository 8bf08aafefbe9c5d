//! How far long work has come: a bar on a terminal, elsewhere a line every five seconds.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{Output, bytes, thousands};

/// Time between two lines where no bar can be shown.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things of this name.
    Things(&'static str),
    /// Bytes.
    Bytes,
}

/// How far work has come.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    unit: Unit,
    begun: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
    quiet: bool,
    total: Option<u64>,
}

impl Progress {
    /// Begins work called `what`; `total` is how much there is, if known.
    pub(crate) fn begin(out: &Output, what: &'static str, unit: Unit, total: Option<u64>) -> Self {
        let bar = out.is_lively().then(|| Self::bar(what, total));
        let now = Instant::now();
        Self { what, unit, begun: now, told: now, bar, quiet: out.is_quiet(), total }
    }

    fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), "{prefix} {bar:30} {percent:>3}%  {msg}"),
            None => (ProgressBar::new_spinner(), "{prefix} {spinner}  {msg}"),
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
        bar.with_style(style.progress_chars("━╸ ")).with_prefix(what)
    }

    /// Tells that `done` of the total is done, in which `count` things were.
    pub(crate) fn at(&mut self, done: u64, count: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(self.text(count));
            bar.set_position(done);
        } else if !self.quiet && self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            let share = self.total.filter(|total| *total > 0).map_or_else(String::new, |total| format!("{}%, ", done * 100 / total));
            eprintln!("{}: {share}{}", self.what, self.text(count));
        }
    }

    fn text(&self, count: u64) -> String {
        let rate = count as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        match self.unit {
            Unit::Things(noun) => format!("{} {noun}, {}/s", thousands(count), thousands(rate as u64)),
            Unit::Bytes => format!("{}, {}/s", bytes(count), bytes(rate as u64)),
        }
    }

    /// Ends the bar; returns how long it took.
    pub(crate) fn end(&mut self) -> Duration {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.begun.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
