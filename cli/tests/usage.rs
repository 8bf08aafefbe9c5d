//! The command line without a server: help, completions, and bad input that is told before anything is done.

mod support;

use support::{command, file, herdbook};

/// An address where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn help_lists_commands_examples_and_exit_codes() {
    let help = herdbook(&["--help"]).done();
    for text in ["import", "conflicts", "First steps:", "Exit codes:", "HERDBOOK_ENDPOINT", "http://127.0.0.1:7710"] {
        assert!(help.contains(text), "{text} is not in\n{help}");
    }
    assert!(!help.contains("drill"), "drills are hidden");
    let import = herdbook(&["import", "--help"]).done();
    assert!(import.contains("herdbook import cities15000.jsonl.gz --collection cities --key geonameid"), "{import}");
}

#[test]
fn completions_are_made_for_every_shell() {
    for (shell, text) in
        [("bash", "complete -F"), ("zsh", "#compdef herdbook"), ("fish", "complete -c herdbook"), ("elvish", "edit:completion")]
    {
        let script = herdbook(&["completions", shell]).done();
        assert!(script.contains(text) && script.contains("conflicts"), "{shell}:\n{script}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_what_is_wanted() {
    for (args, says) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&["get"], "<DOCUMENT>"),
        (&["get", "cities"], "COLLECTION/KEY"),
        (&["get", "1st/2"], "cannot be the name of a collection"),
        (&["get", "cities/1", "--at", "not a branch"], "state:NAME"),
        (&["get", "cities/1", "--timeout", "soon"], "500ms"),
        (&["patch", "cities/1"], "--set"),
        (&["patch", "cities/1", "--set", "name"], "FIELD=VALUE"),
        (&["put", "cities/1"], "<JSON>"),
        (&["put", "cities/1", "{}", "--if-version", "12"], "64 hex digits"),
        (&["rm"], "<DOCUMENT>"),
        (&["branch", "start"], "--schema"),
        (&["branch", "promote", "two words"], "not a valid name"),
        (&["conflicts", "resolve", "cities/1", "name"], "--sibling"),
        (&["import", "x.jsonl"], "--collection"),
        (&["import", "x.jsonl", "-c", "cities", "--batch", "0"], "1..=65536"),
        (&["replica"], "--data"),
        (&["coordinator", "--data", "x"], "--keys"),
        (&["coordinator", "--data", "x", "--keys", "y", "--join-token-file", "z"], "--join-token-reusable"),
        (&["drill", "corrupt-edit", "--data", "x", "--commit", "ab"], "64 hex digits"),
    ] {
        let ended = herdbook(args);
        ended.failed(2, &[says]);
        assert_eq!(ended.out, "", "{args:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_named_with_what_to_do() {
    for args in
        [&["status"][..], &["get", "cities/1"], &["ls", "cities"], &["log"], &["peers"], &["branch", "list"], &["put", "cities/1", "{}"]]
    {
        let mut args = args.to_vec();
        args.extend(["--endpoint", NOBODY]);
        herdbook(&args).failed(6, &["error: no server answers at", NOBODY, "hint:"]);
    }
    herdbook(&["status", "-e", "http://"]).failed(7, &["is not the address of a server", "host:port"]);
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let told = |ended: support::Ended| -> serde_json::Value { serde_json::from_str(&ended.err).expect("one JSON object") };
    let ended = herdbook(&["status", "--json", "--endpoint", NOBODY]);
    assert_eq!((ended.code, ended.out.as_str()), (6, ""));
    let error = told(ended);
    assert_eq!(error["error"]["code"], "UNAVAILABLE");
    assert_eq!(error["error"]["reason"], "UNREACHABLE");
    assert_eq!(error["error"]["endpoints"][0], NOBODY);
    let ended = command(&["fsck", "--data", "/nonexistent"]).env("HERDBOOK_JSON", "1").output().expect("the binary starts").into();
    assert_eq!(told(ended)["error"]["code"], "NOT_FOUND");
}

#[test]
fn the_environment_names_server_and_form() {
    let ended: support::Ended = command(&["status"]).env("HERDBOOK_ENDPOINT", NOBODY).output().expect("the binary starts").into();
    ended.failed(6, &[NOBODY]);
    let both: support::Ended =
        command(&["status", "-e", "127.0.0.1:2"]).env("HERDBOOK_ENDPOINT", NOBODY).output().expect("the binary starts").into();
    both.failed(6, &["127.0.0.1:2"]);
    assert!(!both.err.contains("127.0.0.1:1/"), "a flag goes before the environment: {}", both.err);
}

#[test]
fn input_that_cannot_be_read_is_named_before_any_server_is_asked() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let broken = file(folder.path(), "broken.json", "{\"name\": ");
    herdbook(&["import", "/nonexistent.jsonl", "-c", "cities", "-e", NOBODY]).failed(3, &["cannot read /nonexistent.jsonl"]);
    herdbook(&["put", "cities/1", "--file", "/nonexistent.json", "-e", NOBODY]).failed(3, &["cannot read /nonexistent.json"]);
    herdbook(&["put", "cities/1", "--file", &broken, "-e", NOBODY]).failed(7, &["broken.json", "EOF"]);
    herdbook(&["put", "cities/1", "{name: 1}", "-e", NOBODY]).failed(7, &["JSON", "line 1 column 2"]);
    herdbook(&["branch", "start", "--steps", "/nonexistent.json", "-e", NOBODY]).failed(3, &["cannot read /nonexistent.json"]);
}

#[test]
fn a_question_that_nobody_can_answer_needs_yes() {
    let commit = "ab".repeat(32);
    let ended = herdbook(&["drill", "corrupt-edit", "--data", "/nonexistent", "--commit", &commit]);
    ended.failed(2, &["Damage the store", "--yes"]);
    herdbook(&["drill", "corrupt-edit", "--data", "/nonexistent", "--commit", &commit, "--yes"]).failed(3, &["no store in /nonexistent"]);
}
