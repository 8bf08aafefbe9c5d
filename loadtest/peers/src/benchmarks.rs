//! BENCHMARKS.md: the table of goals, written from the JSON of the rows, between its marks.

use std::{fs, path::Path};

use herdbook_loadtest::report::Host;

use crate::{contest::Held, error::Error, rows::number};

const BEGIN: &str = "<!-- rows: written by `herdbook loadtest compare --all --benchmarks BENCHMARKS.md` -->";
const END: &str = "<!-- end of rows -->";

/// Writes the table into a file that has the marks.
///
/// # Errors
/// [`Error::Load`] if the file cannot be read or written; [`Error::NoMarks`] if it has none.
pub(crate) fn write(path: &Path, host: &Host, rows: &[Held]) -> Result<(), Error> {
    let failed = |what: &'static str| move |source| herdbook_loadtest::Error::File { what, path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(failed("read"))?;
    let text = replaced(&text, &table(host, rows)).ok_or_else(|| Error::NoMarks { path: path.to_owned(), mark: BEGIN })?;
    fs::write(path, text).map_err(failed("write"))?;
    Ok(())
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn table(host: &Host, rows: &[Held]) -> String {
    let Host { processor, cores, kernel, version, optimised } = host;
    let build = if *optimised { "release build" } else { "unoptimised build: no figures" };
    let mut text =
        format!("\n{processor}, {cores} threads shared by clients and servers, Linux {kernel}; herdbook {version}, {build}.\n\n");
    text += "| row | what | goal | peer | theirs | ours | ratio | met | command |\n|---|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let Held { name, what, goal, peer, peer_value, ours, unit, ratio, comparable, met, command, .. } = row;
        let value = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{} {unit}", number(value)));
        let (theirs, ours, met) = (value(peer_value), value(ours), if *met { "yes" } else { "no" });
        let ratio = match ratio {
            _ if !comparable => "not comparable".to_owned(),
            None => "–".to_owned(),
            Some(ratio) => format!("{ratio:.2}"),
        };
        let peer = peer.as_deref().unwrap_or("–");
        text += &format!("| {name} | {what} | {goal} | {peer} | {theirs} | {ours} | {ratio} | {met} | `{command}` |\n");
    }
    let notes = rows.iter().filter(|row| !row.note.is_empty());
    text += "\n";
    text += &notes.map(|row| format!("- {}: {}.\n", row.name, row.note)).collect::<String>();
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(replaced(&text, "new\n").expect("it has marks"), format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replaced("no marks", "new"), None);
    }

    #[test]
    fn a_row_says_goal_peer_ours_ratio_and_command() {
        let row = Held {
            name: "read-64".to_owned(),
            goal: "≥ 2 × the peer".to_owned(),
            peer: Some("etcd 3.5".to_owned()),
            peer_value: Some(10_000.0),
            ours: Some(25_000.0),
            unit: "/s".to_owned(),
            ratio: Some(2.5),
            comparable: true,
            met: true,
            command: "herdbook loadtest compare read-64".to_owned(),
            what: "point reads".to_owned(),
            note: "alone".to_owned(),
            peer_samples: vec![10_000.0],
            our_samples: vec![25_000.0],
        };
        let text = table(&Host::here(), &[row]);
        let line = "| read-64 | point reads | ≥ 2 × the peer | etcd 3.5 | 10,000 /s | 25,000 /s | 2.50 | yes | `herdbook loadtest compare read-64` |";
        assert!(text.contains(line) && text.contains("- read-64: alone."), "{text}");
    }
}
