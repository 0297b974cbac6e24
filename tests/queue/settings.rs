// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What is set for single tubes, and answers.

use std::fs;
use std::path::Path;

use virgo_tests::script;
use virgo_tests::{wait_until, SOON};

use crate::client::{ours, Client, PORT};

fn virgo(arguments: &[&str]) -> script::Outcome {
    let arguments: Vec<&str> = ["queue"].iter().chain(arguments).copied().collect();
    script::run("virgo", &arguments)
}

fn set(arguments: &[&str]) {
    let arguments: Vec<&str> = ["set"].iter().chain(arguments).copied().collect();
    let said = virgo(&arguments);
    assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
}

#[test]
fn a_tube_has_a_limit_of_its_own() {
    let _ours = ours("");
    set(&["few", "--limit", "2"]);
    let mut client = Client::connect(PORT);
    assert_eq!(client.ask("use few"), "USING few\r\n");
    let _ = client.put("0 0 9", b"a");
    let _ = client.put("0 0 9", b"b");
    assert_eq!(client.try_put("0 0 9", b"c"), "DRAINING\r\n");
    let mut other = Client::connect(PORT);
    for _ in 0..10 {
        let _ = other.put("0 0 9", b"x");
    }
    let shown = virgo(&["set", "few", "--json"]).out;
    assert_eq!(
        shown,
        "{\"copies\":[],\"keep\":\"default\",\"limit\":2,\"tries\":0}\n"
    );
    set(&["few", "--clear"]);
    let _ = client.put("0 0 9", b"c");
    for (arguments, what) in [
        (&["few", "--keep", "always"][..], "keeping without a log"),
        (&["few", "--copy", "few"][..], "a copy to itself"),
        (&["few", "--copy", "a b"][..], "no name"),
    ] {
        let arguments: Vec<&str> = ["set"].iter().chain(arguments).copied().collect();
        assert_eq!(virgo(&arguments).code, 1, "{what}");
    }
}

#[test]
fn a_request_that_nobody_can_deal_with_ends_among_the_dead() {
    let _ours = ours("");
    set(&["poison", "--tries", "3"]);
    let mut client = Client::connect(PORT);
    assert_eq!(client.ask("use poison"), "USING poison\r\n");
    let id = client.put("7 0 5", b"poison");
    let take = |how: &str| {
        let mut worker = Client::connect(PORT);
        assert_eq!(worker.ask("watch poison"), "WATCHING 2\r\n");
        let taken = format!("RESERVED {id} 6\r\npoison\r\n");
        assert_eq!(worker.ask("reserve-with-timeout 20"), taken, "{how}");
        worker
    };
    // Its worker goes, gives it back, and lets its time pass.
    drop(take("first"));
    let released = take("second").ask(&format!("release {id} 7 0"));
    assert_eq!(released, "RELEASED\r\n");
    let late = take("third");
    let dead = wait_until(SOON, || {
        let stats = client.ask(&format!("stats-job {id}"));
        stats.contains("tube: \"poison.dead\"") && stats.contains("state: ready")
    });
    assert!(dead, "{}", client.ask(&format!("stats-job {id}")));
    drop(late);
    assert_eq!(client.number("stats-tube poison", "current-jobs-ready"), 0);
    assert_eq!(client.number(&format!("stats-job {id}"), "reserves"), 3);
    // From there it can be taken like any other, and given back as often as anybody likes.
    for _ in 0..4 {
        let mut worker = Client::connect(PORT);
        assert_eq!(worker.ask("watch poison.dead"), "WATCHING 2\r\n");
        assert!(worker
            .ask("reserve-with-timeout 20")
            .starts_with("RESERVED"));
    }
    let mut worker = Client::connect(PORT);
    assert_eq!(worker.ask("watch poison.dead"), "WATCHING 2\r\n");
    assert!(worker
        .ask("reserve-with-timeout 20")
        .starts_with("RESERVED"));
    assert_eq!(worker.ask(&format!("delete {id}")), "DELETED\r\n");
}

#[test]
fn copies_go_to_all_tubes_or_to_none() {
    let _ours = ours("");
    set(&["orders", "--copy", "audit", "--copy", "mail"]);
    set(&["mail", "--limit", "1"]);
    let mut client = Client::connect(PORT);
    assert_eq!(client.ask("use orders"), "USING orders\r\n");
    let id = client.put("3 0 9", b"one");
    for tube in ["orders", "audit", "mail"] {
        let mut worker = Client::connect(PORT);
        assert_eq!(worker.ask(&format!("watch {tube}")), "WATCHING 2\r\n");
        let taken = worker.ask("reserve-with-timeout 0");
        assert!(taken.ends_with(" 3\r\none\r\n"), "{tube}: {taken}");
        let own = taken.split(' ').nth(1).expect("a number").to_owned();
        assert_eq!(tube == "orders", own == id.to_string());
        let stats = worker.ask(&format!("stats-job {own}"));
        assert!(stats.contains("pri: 3"), "{stats}");
        if tube != "mail" {
            assert_eq!(worker.ask(&format!("delete {own}")), "DELETED\r\n");
        }
    }
    // The tube mail is full, so nothing is put anywhere.
    assert_eq!(client.try_put("3 0 9", b"two"), "DRAINING\r\n");
    assert_eq!(client.number("stats", "current-jobs-ready"), 1);
    // Through the other doors too.
    set(&["mail", "--clear"]);
    assert_eq!(virgo(&["put", "orders", "three"]).code, 0);
    assert_eq!(client.number("stats-tube audit", "current-jobs-ready"), 1);
}

#[test]
fn settings_are_kept_and_each_tube_as_it_is_set() {
    let folder = Path::new("/var/tmp/virgo-queue-settings");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).expect("a folder");
    let log = folder.display();
    let parameters = format!("log={log} fsync=never fsync_ms=3600000 log_segment_mb=1");
    {
        let _ours = ours(&parameters);
        set(&["a", "--tries", "1", "--copy", "b", "--keep", "always"]);
        set(&["gone", "--keep", "none"]);
        set(&["forgotten", "--limit", "9"]);
        set(&["forgotten", "--clear"]);
        let mut client = Client::connect(PORT);
        let syncs = || client_number("binlog-records-written");
        let before = syncs();
        assert_eq!(client.ask("use gone"), "USING gone\r\n");
        let _ = client.put("0 0 9", b"lost");
        assert_eq!(syncs(), before, "nothing is written of it");
        assert_eq!(client.ask("use a"), "USING a\r\n");
        // The log is written only every while with fsync=never, but not for this tube.
        let id = client.put("0 0 9", b"kept");
        let there = fs::read(folder.join("queue.0")).expect("the log");
        assert!(there.windows(4).any(|part| part == b"kept"));
        let mut worker = Client::connect(PORT);
        assert_eq!(worker.ask("watch a"), "WATCHING 2\r\n");
        assert!(worker.ask("reserve").starts_with(&format!("RESERVED {id}")));
        drop(worker);
        assert!(wait_until(SOON, || client
            .ask(&format!("stats-job {id}"))
            .contains("a.dead")));
        // So much traffic that the first files go: the settings must not go with them.
        assert_eq!(client.ask("use default"), "USING default\r\n");
        let body = [b'x'; 10_000];
        for _ in 0..800 {
            let id = client.put("0 0 30", &body);
            assert_eq!(client.ask(&format!("delete {id}")), "DELETED\r\n");
        }
        assert!(wait_until(SOON, || client_number("binlog-oldest-index") > 2));
    }
    let _ours = ours(&parameters);
    let mut client = Client::connect(PORT);
    assert_eq!(
        virgo(&["set", "a", "--json"]).out,
        "{\"copies\":[\"b\"],\"keep\":\"always\",\"limit\":0,\"tries\":1}\n"
    );
    assert_eq!(virgo(&["set", "forgotten"]).code, 1);
    assert_eq!(client.number("stats-tube gone", "current-jobs-ready"), 0);
    let there = virgo(&["export"]).out;
    assert_eq!(
        client.number("stats-tube a.dead", "current-jobs-ready"),
        1,
        "{there}"
    );
    assert_eq!(client.number("stats-tube a", "current-jobs-ready"), 0);
    assert_eq!(client.number("stats-tube b", "current-jobs-ready"), 1);
    let _ = fs::remove_dir_all(folder);
}

fn client_number(name: &str) -> u64 {
    Client::connect(PORT).number("stats", name)
}

#[test]
fn the_publisher_gets_its_reply() {
    let _ours = ours("");
    let mut publisher = Client::connect(PORT);
    let mut other = Client::connect(PORT);
    let queued = |said: String| {
        let mut words = said.trim_end().split(' ').skip(1).map(str::to_owned);
        let id = words.next().expect("a number");
        (id, words.next().expect("an exchange"))
    };
    let (first, exchange) = queued(publisher.ask("what time is it"));
    let (second, _) = queued(publisher.ask("and the date"));
    let _ = other.ask("mine");
    let mut worker = Client::connect(PORT);
    assert_eq!(worker.ask("watch kingcobra"), "WATCHING 2\r\n");
    assert!(worker.ask("reserve").contains(&exchange));
    // By a line, on any connection; an answer to what was answered, or never asked, is nothing.
    let mut answering = Client::connect(PORT);
    answering.send(format!("REPLY#{exchange}#ten past\r\n").as_bytes());
    let heard = String::from_utf8_lossy(&publisher.answer()).into_owned();
    assert_eq!(heard, format!("REPLY#{exchange}#ten past\r\n"));
    answering.send(format!("REPLY#{exchange}#eleven\r\n").as_bytes());
    answering.send(b"REPLY#7f000001#1:2#to nobody\r\n");
    assert!(answering.ask("one more").starts_with("QUEUED "));
    assert_eq!(virgo(&["result", &first]).out, "ten past");
    assert_eq!(worker.ask(&format!("delete {first}")), "DELETED\r\n");
    // By the command.
    let none = virgo(&["result", &second]);
    assert!(none.code == 1 && none.err.contains("yet"), "{}", none.err);
    let said = virgo(&["take", "kingcobra", "--reply", "--", "echo", "today"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let heard = String::from_utf8_lossy(&publisher.answer()).into_owned();
    assert!(heard.starts_with("REPLY#7f000001#") && heard.ends_with("#today\r\n"));
    assert_eq!(virgo(&["result", &second]).out, "today\n");
    // The other one heard nothing, nor did who answered; and no reply became a request.
    assert_eq!((other.poll(), answering.poll()), (None, None));
    assert_eq!(
        worker.number("stats-tube kingcobra", "current-jobs-ready"),
        2
    );
    let none = virgo(&["result", "999"]);
    assert!(none.code == 1 && none.err.contains("no such request"));
}

#[test]
fn who_subscribes_is_told_of_what_comes() {
    let _ours = ours("");
    let mut one = Client::connect(PORT);
    let mut two = Client::connect(PORT);
    assert_eq!(one.ask("SUBSCRIBE#news"), "SUBSCRIBED news\r\n");
    assert_eq!(one.ask("SUBSCRIBE#news"), "SUBSCRIBED news\r\n");
    assert_eq!(two.ask("SUBSCRIBE#news"), "SUBSCRIBED news\r\n");
    assert_eq!(two.ask("SUBSCRIBE#other"), "SUBSCRIBED other\r\n");
    let mut publisher = Client::connect(PORT);
    assert_eq!(publisher.ask("PUBLISH#news#it rains"), "PUBLISHED 2\r\n");
    assert_eq!(publisher.ask("PUBLISH#nobody#listens"), "PUBLISHED 0\r\n");
    for client in [&mut one, &mut two] {
        assert_eq!(client.answer(), b"MESSAGE#news#it rains\r\n");
    }
    // Beside the work queue: a request is told too, and waits to be taken all the same.
    assert_eq!(virgo(&["put", "news", "work\nmore"]).code, 0);
    for client in [&mut one, &mut two] {
        assert_eq!(client.answer(), b"MESSAGE#news#work\r\n");
    }
    assert_eq!(virgo(&["take", "news"]).out, "work\nmore");
    assert_eq!(one.ask("UNSUBSCRIBE#news"), "UNSUBSCRIBED news\r\n");
    assert_eq!(publisher.ask("PUBLISH#news#more"), "PUBLISHED 1\r\n");
    assert_eq!(two.answer(), b"MESSAGE#news#more\r\n");
    drop(two);
    // With the last subscriber the topic goes.
    assert!(wait_until(SOON, || publisher.ask("PUBLISH#news#again")
        == "PUBLISHED 0\r\n"));
    assert_eq!(one.poll(), None);
    assert!(!virgo(&["ls"]).out.contains("news"));
    // A line that is none of these is a request, as ever.
    assert!(publisher.ask("PUBLISH#a b#c").starts_with("QUEUED "));
    assert!(publisher.ask("SUBSCRIBE#").starts_with("QUEUED "));
}

#[test]
fn answers_have_a_bound_and_a_publisher_may_be_gone() {
    let _ours = ours("max_mb=1");
    let mut client = Client::connect(PORT);
    let mut ids = Vec::new();
    for n in 0..20 {
        let asked = client.ask(&format!("request {n}"));
        let id = asked.split(' ').nth(1).expect("a number").to_owned();
        ids.push(id);
    }
    // In its place comes somebody else, who must not hear what was asked before.
    drop(client);
    let mut next = Client::connect(PORT);
    let _ = next.ask("list-tube-used");
    // A quarter of a megabyte holds four of these and no more.
    for id in &ids {
        let script = "head -c 60000 /dev/zero | tr '\\0' y";
        let said = virgo(&["take", "kingcobra", "--reply", "--", "sh", "-c", script]);
        assert_eq!(said.code, 0, "{id}: {}", said.err);
    }
    let there = ids.iter().filter(|id| virgo(&["result", id]).code == 0);
    assert_eq!(there.count(), 4);
    let last = virgo(&["result", ids.last().expect("one")]);
    assert_eq!(last.out.len(), 60_000);
    assert_eq!(next.poll(), None);
}
