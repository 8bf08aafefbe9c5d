//! Garbage and horizons from the command line: what goes, what stays, and what is answered about it.

mod support;

use support::{Cluster, herdbook};

#[test]
fn edits_before_a_horizon_go_on_every_member_and_states_stay() {
    let cluster = Cluster::start();
    let put = |number: u32| {
        let text = format!(r#"{{"text": "note {number}"}}"#);
        let written = cluster.json(&["put", "notes/1", &text, "--accepted"]).json();
        written["commit"].as_str().expect("a commit").to_owned()
    };
    let first = put(1);
    let second = put(2);
    let at_authority = |args: &[&str]| cluster.run_at("coordinator", args);

    at_authority(&["horizon", "set"]).failed(2, &["--before"]);
    cluster.run(&["horizon", "set", "--keep", "0s", "--yes"]).failed(4, &["authority"]);
    let told = at_authority(&["horizon", "set", "--keep", "0s", "--dry-run", "--json"]).json();
    assert_eq!((&told["commits"], &told["documents"], told["entry"].is_null()), (&2.into(), &1.into(), true), "{told}");
    assert!(cluster.run(&["get", "notes/1", "--at", &first]).done().contains("note 1"), "it was only told");
    let set = at_authority(&["horizon", "set", "--keep", "0s", "--yes", "--json"]).json();
    assert!(set["entry"].is_u64(), "{set}");
    assert!(at_authority(&["horizon", "set", "--keep", "0s", "--yes"]).done().contains("nothing more to cover"));

    // The entry comes to the replica by itself; until then there is nothing to take away.
    let gone = (0..200).find_map(|_| {
        let commits = cluster.json(&["gc"]).json()["commits"].as_u64().expect("a number");
        std::thread::sleep(std::time::Duration::from_millis(20));
        (commits > 0).then_some(commits)
    });
    assert_eq!(gone, Some(2));
    cluster.run(&["get", "notes/1", "--at", &first]).failed(3, &["before the horizon"]);
    assert!(cluster.run(&["get", "notes/1", "--at", &second]).done().contains("note 2"), "the state at the horizon");
    assert_eq!(cluster.json(&["log"]).lines().len(), 2, "commits keep their names");
    let third = put(3);
    assert!(cluster.run(&["get", "notes/1", "--at", &third]).done().contains("note 3"));

    let (code, folder) = cluster.stop();
    assert_eq!(code, Some(0));
    for member in ["coordinator", "replica-1", "replica-2"] {
        let data = folder.path().join("cluster").join(member);
        let data = data.to_str().expect("UTF-8");
        let dry = herdbook(&["gc", "--data", data, "--dry-run", "--json"]).json();
        assert_eq!(dry["disk_before"], dry["disk_after"], "a dry run removes nothing: {dry}");
        herdbook(&["gc", "--data", data, "--json"]).json();
        herdbook(&["fsck", "--data", data]).done();
        assert_eq!(herdbook(&["gc", "--data", data, "--json"]).json()["commits"], 0, "once");
    }
}
