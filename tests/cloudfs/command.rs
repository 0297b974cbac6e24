// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo fs`, every verb of it.

use virgo_tests::script;

use crate::*;

fn virgo(arguments: &[&str]) -> script::Outcome {
    let arguments: Vec<&str> = ["fs"].iter().chain(arguments).copied().collect();
    script::run("virgo", &arguments)
}

fn good(arguments: &[&str]) -> String {
    let said = virgo(arguments);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
    said.out
}

#[test]
fn the_command_does_what_it_says() {
    let served = serve("");
    let here = folder("here", 0);
    let text = |path: &Path| path.display().to_string();
    let source = here.join("notes.txt");
    fs::write(&source, b"notes\n").expect("a file");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o640)).expect("chmod");
    let there = |path: &str| format!("127.0.0.1:/{path}");

    good(&["mkdir", "-p", &there("a/b")]);
    good(&["mkdir", "-p", &there("a/b")]);
    good(&["put", "-q", &text(&source), &there("a/b")]);
    assert_eq!(good(&["cat", &there("a/b/notes.txt")]), "notes\n");
    let listed = good(&["ls", &there("a/b")]);
    let row = listed.lines().last().unwrap_or("");
    assert!(
        row.starts_with("-rw-r-----") && row.ends_with("notes.txt"),
        "{listed}"
    );
    let stat: serde_json::Value =
        serde_json::from_str(&good(&["stat", "--json", &there("a/b/notes.txt")])).expect("JSON");
    assert_eq!((&stat["size"], &stat["uid"]), (&6.into(), &NOBODY.into()));
    // A file of some megabytes, there, there again, and back: every byte the same.
    let blob: Vec<u8> = (0..5_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(here.join("blob"), &blob).expect("a file");
    good(&["cp", "-q", &text(&here.join("blob")), &there("blob")]);
    good(&["cp", "-q", &there("blob"), &there("a/copy")]);
    good(&["get", "-q", &there("a/copy"), &text(&here.join("back"))]);
    assert!(fs::read(here.join("back")).expect("it") == blob);
    assert!(fs::read(served.root.join("blob")).expect("it") == blob);

    good(&["mv", &there("blob"), &there("a/moved")]);
    assert!(!served.root.join("blob").exists() && served.root.join("a/moved").exists());
    let free: serde_json::Value =
        serde_json::from_str(&good(&["df", "--json", &there("")])).expect("JSON");
    assert!(free["bytes"].as_u64() > free["available"].as_u64());
    let full = virgo(&["rm", &there("a")]);
    assert!(
        full.code == 1 && full.err.contains("not empty"),
        "{}",
        full.err
    );
    good(&["rm", "-r", &there("a")]);
    assert!(!served.root.join("a").exists());
}

#[test]
fn what_goes_wrong_is_told_in_words() {
    let _served = serve("");
    for (arguments, code, words) in [
        (
            &["ls", "127.0.0.1:/none"][..],
            1,
            "cannot list 127.0.0.1:/none",
        ),
        (&["cat", "no-node"], 2, "names no node"),
        (&["mv", "127.0.0.1:/a", "127.0.0.2:/b"], 2, "on one node"),
        (&["put", "/etc", "127.0.0.1:/"], 1, "it is a folder"),
        (&["ls", "127.0.0.1:1:/"], 1, "cannot reach virgo-cloudfs"),
        (&["cat", "127.0.0.1:/../../etc/passwd"], 1, "cannot read"),
    ] {
        let said = virgo(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
    }
}
