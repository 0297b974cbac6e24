// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Files and streams of settings, and the command `virgo analytics`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use virgo::analytics::{Options, Source};

use crate::{define_level, open, ours, virgo};

#[test]
fn the_originals_file_is_read_in_all_its_forms() {
    let _ours = ours("");
    let settings = open();
    define_level(&settings);
    let conf = "match=True,kernel_analytics1=v1,kernel_analytics2=v2,kernel_analytics3=v3\n\
                ,frequently_read_filedescriptors={'22', '20', '48', '3'}\n\
                ,localhost_load=[1.31 3.68 4.47 2/935 7677\n]\n,level=9\n";
    std::fs::write("/etc/virgo_kernel_analytics.conf", conf).expect("a file");
    let outcome = virgo(&["analytics", "load"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    assert_eq!(outcome.out, "7 settings set, 0 faults\n");
    for (key, value) in [
        ("match", "True"),
        ("kernel_analytics3", "v3"),
        ("frequently_read_filedescriptors", "{'22', '20', '48', '3'}"),
        ("localhost_load", "[1.31 3.68 4.47 2/935 7677 ]"),
        ("level", "9"),
    ] {
        let setting = settings.get(key).expect(key);
        assert_eq!(
            (setting.value.as_str(), setting.source),
            (value, Source::File)
        );
        assert_eq!(setting.why, "loaded from /etc/virgo_kernel_analytics.conf");
    }
    // Faults are told with their lines, and the rest is set.
    std::fs::write("/tmp/bad.conf", "a=1\nnothing\n\nlevel=99\nb=[1,2\nc=3\n").expect("a file");
    let outcome = virgo(&["analytics", "load", "/tmp/bad.conf"]);
    assert_eq!(outcome.code, 1);
    for part in [
        "/tmp/bad.conf:2: ",
        "/tmp/bad.conf:4: ",
        "from 1 to 10",
        "/tmp/bad.conf:5: ",
        "never closed",
    ] {
        assert!(outcome.err.contains(part), "{part}: {}", outcome.err);
    }
    assert_eq!(outcome.out, "2 settings set, 3 faults\n");
    assert_eq!(settings.get("c").expect("c").value, "3");
    let outcome = virgo(&["analytics", "load", "/tmp/bad.conf", "--check"]);
    assert_eq!(outcome.code, 1, "{}", outcome.out);
    let outcome = virgo(&["analytics", "load", "/nonexistent"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.contains("/nonexistent"), "{}", outcome.err);
}

#[test]
fn a_stream_sets_what_no_person_has() {
    let _ours = ours("");
    let settings = open();
    define_level(&settings);
    settings
        .set("level", "3", &Options::default())
        .expect("set");
    let port = TcpListener::bind("127.0.0.1:64000").expect("a port");
    let server = thread::spawn(move || {
        let (mut peer, _) = port.accept().expect("a client");
        let mut hello = [0; 1000];
        peer.read_exact(&mut hello).expect("a greeting");
        let word = b"KERNEL_ANALYTICS_STREAMING_START";
        assert_eq!(&hello[..word.len()], word);
        assert!(hello[word.len()..].iter().all(|byte| *byte == 0));
        // As the original gets them: in pieces, padded, and lines typed into nc.
        for piece in [
            "k1=v1,k2=",
            "v2,",
            "k3=[1,",
            "2]\nlevel=9\n",
            "k4=v4\0\0\0",
            "k5=v5",
        ] {
            peer.write_all(piece.as_bytes()).expect("sent");
            peer.flush().expect("sent");
        }
    });
    let outcome = virgo(&["analytics", "stream", "127.0.0.1:64000"]);
    server.join().expect("the server");
    assert_eq!(outcome.code, 1, "a person's value stands");
    assert!(
        outcome.err.contains("what a person has set stands"),
        "{}",
        outcome.err
    );
    assert_eq!(outcome.out, "5 settings set, 1 fault\n");
    for (key, value) in [
        ("k1", "v1"),
        ("k2", "v2"),
        ("k3", "[1,2]"),
        ("k4", "v4"),
        ("k5", "v5"),
    ] {
        let setting = settings.get(key).expect(key);
        assert_eq!(
            (setting.value.as_str(), setting.source),
            (value, Source::Stream)
        );
    }
    assert_eq!(settings.get("level").expect("level").number, 3);
    let outcome = virgo(&["analytics", "stream", "127.0.0.1:1"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.err.contains("cannot connect to 127.0.0.1:1"),
        "{}",
        outcome.err
    );
}

#[test]
fn the_command_shows_and_sets() {
    let _ours = ours("");
    let good = |arguments: &[&str]| {
        let outcome = virgo(arguments);
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (0, ""),
            "{arguments:?}"
        );
        outcome.out
    };
    let words = "analytics define web.mode --kind choice --words fast,safe --reader server";
    good(&words.split(' ').collect::<Vec<_>>());
    good(&[
        "analytics",
        "define",
        "web.workers",
        "--kind",
        "int",
        "--range",
        "-4..64",
        "--initial",
        "4",
    ]);
    good(&[
        "analytics",
        "set",
        "web.workers",
        "-2",
        "--why",
        "few users",
    ]);
    assert_eq!(good(&["analytics", "get", "web.workers"]), "-2\n");
    let all = good(&["analytics", "get", "web.workers", "--all"]);
    for part in ["-4..64", "few users", "uid 0", "person"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let table = good(&["analytics", "ls", "web."]);
    for part in ["web.mode", "fast|safe", "server", "web.workers", "-4..64"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&good(&["--json", "analytics", "get", "web.workers"])).expect("JSON");
    assert_eq!(
        (json["number"].as_i64(), json["high"].as_i64()),
        (Some(-2), Some(64))
    );
    good(&["analytics", "unset", "web.workers"]);
    assert_eq!(good(&["analytics", "get", "web.workers"]), "4\n");
    good(&["analytics", "undo"]);
    assert_eq!(good(&["analytics", "get", "web.workers"]), "-2\n");
    let log = good(&["analytics", "log"]);
    assert_eq!(log.lines().count(), 3, "{log}");
    assert_eq!(good(&["analytics", "watch", "--log", "-n", "3"]), log);
    assert!(good(&["analytics", "stat"]).contains("4 of at most 16384"));
    for (arguments, code) in [
        (&["analytics", "set", "web.workers", "65"][..], 1),
        (&["analytics", "set", "web.mode", "slow"], 1),
        (&["analytics", "get", "nothing"], 1),
        (&["analytics", "define", "x", "--kind", "choice"], 2),
        (&["analytics", "define", "x", "--range", "1..2"], 2),
        (&["analytics", "undo", "0"], 2),
    ] {
        let outcome = virgo(arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.err);
        assert!(!outcome.err.is_empty(), "{arguments:?}");
    }
}
