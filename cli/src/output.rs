//! Where answers go: standard output, as text for people or one JSON object a line for programs. Remarks go to standard error.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value as Json;

use crate::errors::Error;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a text means, and so how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Something came to be.
    Added,
    /// Something is gone.
    Removed,
    /// Something needs a person.
    Alarm,
    /// Less important than what is beside it.
    Quiet,
    /// A name.
    Name,
}

/// How a command answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    color: bool,
    quiet: bool,
}

impl Output {
    /// Returns the output that the flags ask for.
    pub(crate) fn new(json: bool, color: ColorChoice, quiet: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto => set("CLICOLOR_FORCE") || io::stdout().is_terminal(),
        };
        Self { json, color: color && !json, quiet }
    }

    /// Whether programs read along.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a bar that moves is welcome.
    pub(crate) fn is_lively(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }

    /// Whether remarks are unwelcome.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Writes a line.
    ///
    /// # Errors
    /// [`Error::Output`], as the other methods.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), Error> {
        writeln!(io::stdout().lock(), "{text}").map_err(Error::Output)
    }

    /// Writes a JSON value as one line.
    pub(crate) fn json(&self, value: &Json) -> Result<(), Error> {
        self.line(value)
    }

    /// Writes `value` for programs, or what `text` says for people.
    pub(crate) fn either(&self, value: impl FnOnce() -> Json, text: impl FnOnce() -> String) -> Result<(), Error> {
        if self.json { self.json(&value()) } else { self.line(text()) }
    }

    /// Writes a table; columns are cut to the width of a terminal, and never elsewhere.
    pub(crate) fn table<const N: usize>(&self, head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Result<(), Error> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(head.map(|title| self.paint(Style::Quiet, title)));
        let arrangement = if io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        table.set_content_arrangement(arrangement);
        table.add_rows(rows);
        let last = table.column_count().saturating_sub(1);
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if at == last { 0 } else { 2 }));
        }
        self.line(table.trim_fmt())
    }

    /// Writes a remark for people to standard error.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Returns `text` in a style.
    pub(crate) fn paint(&self, style: Style, text: impl Display) -> String {
        if !self.color {
            return text.to_string();
        }
        let code = match style {
            Style::Added => 32,
            Style::Removed => 31,
            Style::Alarm => 33,
            Style::Quiet => 2,
            Style::Name => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Asks whether to go on; `yes` is the answer given in advance.
    ///
    /// # Errors
    /// [`Error::Declined`]; [`Error::Unconfirmed`] if nobody is at a terminal.
    pub(crate) fn confirm(&self, question: &str, yes: bool) -> Result<(), Error> {
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Error::Unconfirmed { question: question.to_owned() });
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(|error| Error::file("read", "standard input", error))?;
        if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Error::Declined) }
    }
}

/// Returns a number with its thousands apart: 34,006.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns a count with its noun: `1 document`, `2 documents`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// Returns a size for people: 1.5 MiB.
pub(crate) fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}

/// Returns the first digits of a name, enough for people.
pub(crate) fn short(id: &impl Display) -> String {
    let mut text = id.to_string();
    text.truncate(12);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let all = [0, 12, 999, 1000, 34_006, 1_234_567].map(thousands);
        assert_eq!(all, ["0", "12", "999", "1,000", "34,006", "1,234,567"]);
        assert_eq!((counted(1, "document"), counted(2, "document")), ("1 document".to_owned(), "2 documents".to_owned()));
    }
}
