// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Three guests as the nodes of a cluster: this one is node 1.

mod peer;
mod world;

use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use virgo_proto::frame::{Header, Kind, HEADER, TAG};
use virgo_tests::nodes::KEY;

use peer::{plain, Client};
use world::{call, wait_state, Call, Cluster, ADDRESSES, MODULE};

const EHOSTDOWN: i32 = 112;
const ETIMEDOUT: i32 = 110;
const EMSGSIZE: i32 = 90;
const ENOTCONN: i32 = 107;
const EOPNOTSUPP: i32 = 95;
const ENODEV: i32 = 19;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;
const EBUSY: i32 = 16;

/// A node that is killed, stopped or back is seen as such within this; the figure.
const NOTICED: Duration = Duration::from_millis(3000);

#[test]
fn without_a_table_there_is_this_node_alone() {
    let cluster = Cluster::none();
    let nodes = cluster.nodes();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    assert_eq!((nodes[0].state.as_str(), nodes[0].me), ("up", true));
    call(&Call::echo("me").size(100)).expect("served here");
    assert_eq!(call(&Call::echo("0000beef")), Err(ENOTCONN));
    // No port is open.
    assert!(TcpStream::connect("127.0.0.1:40000").is_err());
}

#[test]
fn every_node_sees_every_node() {
    let cluster = Cluster::up();
    for from in 1..=3 {
        let nodes = cluster.nodes_of(from);
        assert_eq!(nodes.len(), 3);
        for (node, address) in nodes.iter().zip(ADDRESSES) {
            assert!(node.address.starts_with(address), "{node:?}");
            assert_eq!(node.state, "up", "{nodes:?}");
            assert!(node.cpus > 0, "{node:?}");
            assert!(node.me || node.rtt_ms > 0.0, "{node:?}");
        }
    }
    // The same numbers everywhere.
    let ids = |from| {
        let mut ids: Vec<String> = cluster
            .nodes_of(from)
            .iter()
            .map(|node| node.id.clone())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(1), ids(2));
    assert_eq!(ids(1), ids(3));
    // And the same owners.
    for key in ["a", "some key", "x/y"] {
        let owner = |from| cluster.virgo(from, &["nodes", "pick", "--key", key]);
        assert_eq!(owner(1), owner(2));
        assert_eq!(owner(1), owner(3));
    }
    let ping = cluster.virgo(1, &["nodes", "ping"]);
    assert_eq!(ping.lines().count(), 2, "{ping}");
}

#[test]
fn requests_and_their_errors_cross() {
    let cluster = Cluster::up();
    let two = cluster.id(2);
    for size in [0, 1, 4, 100, 4096, 65_536, 1 << 20, 2 << 20] {
        call(&Call::echo(&two).size(size)).unwrap_or_else(|error| panic!("{size} bytes: {error}"));
    }
    call(&Call::echo(&two).size(64).count(500)).expect("one after the other");
    call(&Call::new(&two, 5)).expect("it knows who asks");
    call(&Call::new(&two, 4).number(2 << 20).limit(2 << 20)).expect("the longest answer");
    let errors = [
        (Call::echo(&two).size((2 << 20) + 1), EMSGSIZE),
        (Call::new(&two, 4).number(1001).limit(1000), EMSGSIZE),
        (Call::new(&two, 3).number(2), ENOENT),
        (Call::new(&two, 3).number(28), ENOSPC),
        (Call::new(&two, 77), EOPNOTSUPP),
        (Call::new(&two, 2).number(3000).timeout(200), ETIMEDOUT),
        (Call::echo("0000beef"), ENOENT),
        // The same by the short way.
        (Call::new("me", 4).number(1001).limit(1000), EMSGSIZE),
        (Call::new("me", 3).number(28), ENOSPC),
        (Call::new("me", 77), EOPNOTSUPP),
        (Call::echo("me").size((2 << 20) + 1), EMSGSIZE),
    ];
    for (request, errno) in errors {
        assert_eq!(call(&request), Err(errno), "{request:?}");
    }
    // A module that is not there.
    cluster.on(2, &["rmmod", "virgo-nodetest"]);
    assert_eq!(call(&Call::echo(&two)), Err(ENODEV));
    cluster.on(2, &["insmod", "/virgo/ko/virgo-nodetest.ko"]);
    call(&Call::echo(&two)).expect("it is back");
}

#[test]
fn slow_requests_stop_no_others() {
    let cluster = Cluster::up();
    let two = cluster.id(2);
    let slow = Call::new(&two, 2).number(5000).timeout(60_000);
    thread::scope(|scope| {
        let sleepers: Vec<_> = (0..20).map(|_| scope.spawn(|| call(&slow))).collect();
        let begin = Instant::now();
        cluster.wait_in_flight(2, 20);
        // Among twenty that sleep.
        call(&Call::echo(&two).size(64).count(20)).expect("quick ones pass");
        let elapsed = begin.elapsed();
        assert!(elapsed < Duration::from_millis(4900), "{elapsed:?}");
        for sleeper in sleepers {
            sleeper
                .join()
                .expect("a thread")
                .expect("slow ones are served");
        }
        // Side by side, not one after the other, which would be 100 s.
        let elapsed = begin.elapsed();
        assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
    });
}

#[test]
fn requests_under_way_are_bounded() {
    let cluster = Cluster::up();
    let two = cluster.id(2);
    let slow = Call::new(&two, 2).number(1000).timeout(30_000);
    let results: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..300).map(|_| scope.spawn(|| call(&slow))).collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("a thread"))
            .collect()
    });
    let busy = results
        .iter()
        .filter(|result| **result == Err(EBUSY))
        .count();
    let good = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(busy + good, 300, "{results:?}");
    assert!(good >= 200, "{good} of 300 were served");
    call(&Call::echo(&two)).expect("afterwards all is well");
}

#[test]
fn killed_stopped_and_back() {
    let cluster = Cluster::up();
    let (two, three) = (cluster.id(2), cluster.id(3));

    // Frozen, with a request under way: it fails as soon as the node is down, and others at once.
    thread::scope(|scope| {
        let request = Call::new(&two, 2).number(9000).timeout(60_000);
        let under_way = scope.spawn(move || (call(&request), Instant::now()));
        cluster.wait_in_flight(2, 1);
        let begin = Instant::now();
        cluster.power(2, "--stop");
        let (result, ended) = under_way.join().expect("a thread");
        assert_eq!(result, Err(EHOSTDOWN));
        assert!(ended - begin < NOTICED, "down after {:?}", ended - begin);
        let begin = Instant::now();
        assert_eq!(call(&Call::echo(&two).timeout(60_000)), Err(EHOSTDOWN));
        assert!(begin.elapsed() < Duration::from_millis(300));
        let error = cluster.virgo_error(1, &["nodes", "ping", ADDRESSES[1]]);
        assert!(
            error.contains(ADDRESSES[1]) && error.contains("EHOSTDOWN"),
            "{error}"
        );
        let down = cluster.nodes().swap_remove(1);
        assert!(down.error.contains("silent"), "{down:?}");
    });
    // The others are as they were.
    call(&Call::echo(&three)).expect("node 3 is there");
    let begin = Instant::now();
    cluster.power(2, "--cont");
    wait_state(&cluster, 2, "up");
    assert!(
        begin.elapsed() < NOTICED,
        "back after {:?}",
        begin.elapsed()
    );
    call(&Call::echo(&two).size(1000)).expect("back");

    // A request that is given up in time, though the node is only just frozen.
    cluster.power(2, "--stop");
    let begin = Instant::now();
    assert_eq!(call(&Call::echo(&two).timeout(300)), Err(ETIMEDOUT));
    assert!(
        begin.elapsed() < Duration::from_millis(900),
        "{:?}",
        begin.elapsed()
    );
    wait_state(&cluster, 2, "suspect");
    wait_state(&cluster, 2, "down");
    cluster.power(2, "--cont");
    wait_state(&cluster, 2, "up");

    // Its power cut, and on again.
    let begin = Instant::now();
    cluster.power(3, "--kill");
    wait_state(&cluster, 3, "down");
    assert!(
        begin.elapsed() < NOTICED,
        "down after {:?}",
        begin.elapsed()
    );
    assert_eq!(call(&Call::echo(&three)), Err(EHOSTDOWN));
    cluster.power(3, "--start");
    cluster.configure(3);
    let begin = Instant::now();
    wait_state(&cluster, 3, "up");
    assert!(
        begin.elapsed() < NOTICED,
        "back after {:?}",
        begin.elapsed()
    );
    call(&Call::echo(&three)).expect("back");
}

/// A node whose programs leave its kernel's threads no time is busy, not gone: its network stack
/// acknowledges. What it is asked for meanwhile it answers when it can.
#[test]
fn a_busy_node_is_not_down() {
    // At a real-time priority, and without what the scheduler holds back for ordinary threads.
    let busy = |seconds: u32| {
        format!(
            "echo -1 > /proc/sys/kernel/sched_rt_runtime_us && \
             {{ mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug; }} && \
             for cpu in /sys/kernel/debug/sched/fair_server/cpu*; do echo 0 > $cpu/runtime; done && \
             for cpu in $(seq $(nproc)); do \
                 chrt -f 60 timeout {seconds} chrt -f 50 sh -c 'while :; do :; done' & \
             done; wait"
        )
    };
    let cluster = Cluster::up();
    let two = cluster.id(2);
    let state = || cluster.nodes().swap_remove(1).state;
    thread::scope(|scope| {
        let hog = scope.spawn(|| cluster.on(2, &["sh", "-c", &busy(6)]));
        wait_state(&cluster, 2, "suspect");
        let begin = Instant::now();
        let request = scope.spawn(|| call(&Call::echo(&two).timeout(20_000)));
        let mut states = Vec::new();
        while !hog.is_finished() {
            states.push(state());
        }
        let took = begin.elapsed();
        assert!(
            took > Duration::from_secs(3),
            "it was busy for {took:?} only"
        );
        assert!(!states.contains(&String::from("down")), "{states:?}");
        assert_eq!(request.join().expect("a thread"), Ok(()));
    });
    wait_state(&cluster, 2, "up");
    // There is an end to that, too.
    thread::scope(|scope| {
        scope.spawn(|| cluster.on(2, &["sh", "-c", &busy(14)]));
        wait_state(&cluster, 2, "suspect");
        assert_eq!(call(&Call::echo(&two).timeout(20_000)), Err(EHOSTDOWN));
        let error = cluster.nodes().swap_remove(1).error;
        assert!(error.contains("its machine is there"), "{error}");
    });
    wait_state(&cluster, 2, "up");
}

#[test]
fn modules_go_and_tables_change_under_load() {
    let cluster = Cluster::up();
    let two = cluster.id(2);
    let traffic = cluster.traffic(&two, 8);
    cluster.wait_served(2, 100);

    // The module that serves, on the other node.
    for _ in 0..5 {
        cluster.on(2, &["rmmod", "virgo-nodetest"]);
        cluster.on(2, &["insmod", "/virgo/ko/virgo-nodetest.ko"]);
        cluster.wait_served(2, 10);
    }
    // The table here: the same again does not disturb, without node 2 and with it again does.
    for _ in 0..20 {
        cluster.load(1, &ADDRESSES);
    }
    for _ in 0..5 {
        cluster.load(1, &[ADDRESSES[0], ADDRESSES[2]]);
        cluster.load(1, &ADDRESSES);
        wait_state(&cluster, 2, "up");
    }
    let errors = traffic.stop();
    // What went wrong meanwhile is what must.
    for error in errors {
        assert!(
            [ENODEV, ENOENT, EHOSTDOWN].contains(&error),
            "errno {error}"
        );
    }
    // The same table again: not one request fails.
    let traffic = cluster.traffic(&two, 4);
    for _ in 0..20 {
        cluster.load(1, &ADDRESSES);
    }
    assert_eq!(traffic.stop(), Vec::<i32>::new());

    // And the whole of it on the other node, and here.
    let traffic = cluster.traffic(&two, 8);
    cluster.wait_served(2, 10);
    cluster.on(2, &["rmmod", "virgo-nodetest", "virgo-core"]);
    wait_state(&cluster, 2, "down");
    let errors = traffic.stop();
    assert!(!errors.is_empty());
    cluster.on(1, &["rmmod", "virgo-nodetest", "virgo-core"]);
}

#[test]
fn tables_that_cannot_be_are_refused_in_words() {
    let cluster = Cluster::up();
    let before = cluster.nodes();
    let refused = |arguments: &[&str], text: &str, words: &str| {
        std::fs::write("/tmp/nodes", text).expect("write the file");
        let error = cluster.virgo_error(1, &[&["nodes", "load", "/tmp/nodes"], arguments].concat());
        assert!(error.contains(words), "{text}: {error}");
    };
    let all = ADDRESSES.join(",");
    std::fs::write("/tmp/open-key", "0123456789abcdef0123").expect("write the file");
    std::fs::write("/tmp/short-key", "0123456789").expect("write the file");
    world::mode("/tmp/short-key", 0o600);
    world::mode("/tmp/open-key", 0o640);
    refused(&["--key", "/tmp/open-key"], &all, "chmod 600");
    refused(&["--key", "/tmp/short-key"], &all, "16 bytes");
    refused(&["--key", "/tmp/none"], &all, "new-key");
    refused(&[], &all, "without a key");
    refused(
        &["--bind", "0.0.0.0"],
        ADDRESSES[0],
        "0.0.0.0:40000 was asked for",
    );
    refused(
        &["--key", KEY],
        "10.77.0.2,10.77.0.3",
        "none of the 2 nodes",
    );
    refused(&["--key", KEY], "10.77.0.1,nonsense", "nonsense");
    refused(&["--key", KEY], "10.77.0.1;0", "weight");
    refused(&["--key", KEY], "", "names no node");
    refused(
        &["--key", KEY, "--bind", "10.77.0.2"],
        &all,
        "not an address of this machine",
    );
    let many: Vec<String> = (1..=65).map(|last| format!("10.77.0.{last}")).collect();
    refused(&["--key", KEY], &many.join("\n"), "at most 64");
    let nobody = cluster.run_as_nobody(&["nodes", "clear"]);
    assert!(
        nobody.contains("permission") || nobody.contains("EPERM"),
        "{nobody}"
    );
    // All as it was.
    let ids = |nodes: &[world::Node]| nodes.iter().map(|node| node.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&cluster.nodes()), ids(&before));
    wait_state(&cluster, 2, "up");
}

#[test]
fn nodes_are_reached_by_ipv6() {
    let cluster = Cluster::up();
    let addresses = ["fd77::1", "[fd77::2]:40000", "fd77::3"];
    for (index, address) in ["fd77::1/64", "fd77::2/64", "fd77::3/64"]
        .iter()
        .enumerate()
    {
        let add = ["ip", "addr", "replace", address, "dev", "eth0", "nodad"];
        cluster.on(index + 1, &add);
    }
    for node in 1..=3 {
        cluster.load(node, &addresses);
    }
    cluster.wait_all_up();
    let nodes = cluster.nodes();
    let told: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    assert_eq!(
        told,
        ["[fd77::1]:40000", "[fd77::2]:40000", "[fd77::3]:40000"]
    );
    for node in &nodes {
        call(&Call::echo(&node.id).size(100_000)).expect("an answer");
    }
    // By name, as a person has it.
    for name in ["fd77::2", "[fd77::2]:40000"] {
        cluster.virgo(1, &["nodes", "pick", "--node", name]);
    }
    // A client of IPv4 is a stranger to a node that listens for IPv6.
    assert!(std::net::TcpStream::connect("10.77.0.2:40000").is_err());
    cluster.power(3, "--stop");
    wait_state(&cluster, 3, "down");
    cluster.power(3, "--cont");
    wait_state(&cluster, 3, "up");
}

#[test]
fn another_key_is_not_let_in() {
    let cluster = Cluster::up();
    cluster.on(
        2,
        &[
            "sh",
            "-c",
            "echo a-key-that-nobody-else-has > /tmp/key2; chmod 600 /tmp/key2",
        ],
    );
    cluster.on(
        2,
        &["virgo", "nodes", "load", "/tmp/nodes", "--key", "/tmp/key2"],
    );
    wait_state(&cluster, 2, "down");
    let two = cluster.nodes().swap_remove(1);
    let told = world::eventually(|| cluster.nodes()[1].error.contains("wrong tag"));
    assert!(told, "{two:?}");
    assert_eq!(call(&Call::echo(&two.id)), Err(EHOSTDOWN));
    cluster.configure(2);
    wait_state(&cluster, 2, "up");
}

/// What a client that is not ours may send, and what becomes of it.
#[test]
fn frames_are_from_who_holds_the_key_and_in_turn() {
    let cluster = Cluster::up();
    let key = world::key();
    // Node 3 leaves, and this test speaks in its place, to node 1, from node 1's own address: so
    // the table here has node 1's address a second time, with another port.
    let (me, other) = cluster.pose();

    // It works as it should, to begin with.
    let mut client = Client::connect(&key, other, me).expect("let in");
    let request = |operation, id| Header {
        id,
        words: [MODULE, operation, 4096, 1000],
        ..plain(Kind::Request)
    };
    client.send(&request(1, 7), b"hello");
    let (header, payload) = client.receive().expect("an answer");
    assert_eq!(
        (header.kind, header.id, header.words[0]),
        (Kind::Reply, 7, 0)
    );
    assert_eq!(payload, b"hello");
    client.send(&request(77, 8), b"");
    let (header, _) = client.receive().expect("an answer");
    assert_eq!((header.id, header.words[0]), (8, EOPNOTSUPP as u32));
    // Several at once, answered as they are done.
    for id in 10..30 {
        client.send(&request(1, id), &[id as u8; 100]);
    }
    let mut seen = [false; 30];
    for _ in 10..30 {
        let (header, payload) = client.receive().expect("an answer");
        assert_eq!(payload, vec![header.id as u8; 100]);
        seen[header.id as usize] = true;
    }
    assert!(seen[10..].iter().all(|seen| *seen));

    // Wrong keys, and none.
    for wrong in [&b"another key of good length"[..], b""] {
        let error = Client::connect(wrong, other, me).err().expect("not let in");
        assert!(error.contains("wrong tag"), "{error}");
    }
    let error = Client::connect(&key, other, me ^ 1)
        .err()
        .expect("not let in");
    assert!(error.contains("tables differ"), "{error}");
    let error = Client::connect(&key, other ^ 1, me)
        .err()
        .expect("not let in");
    assert!(error.contains("not in the table"), "{error}");

    // A frame that is sent twice, a later one in place of the next, one of another connection, one
    // of ours sent back, one without a tag, one with a wrong tag.
    let told = |client: &mut Client| client.refusal();
    let mut client = Client::connect(&key, other, me).expect("let in");
    let frame = client.seal(&request(1, 1), b"once");
    client.raw(&frame);
    assert_eq!(client.receive().expect("an answer").0.id, 1);
    client.raw(&frame);
    assert!(told(&mut client).contains("repeated"));
    let mut second = Client::connect(&key, other, me).expect("let in");
    second.raw(&frame);
    assert!(told(&mut second).contains("repeated"));
    let mut client = Client::connect(&key, other, me).expect("let in");
    let _lost = client.seal(&request(1, 1), b"first");
    client.send(&request(1, 2), b"second");
    assert!(told(&mut client).contains("out of turn"));
    let mut client = Client::connect(&key, other, me).expect("let in");
    client.send(&request(1, 1), b"x");
    let back = client.receive_raw().expect("an answer");
    client.raw(&back);
    assert!(told(&mut client).contains("wrong tag"));
    let mut client = Client::connect(&key, other, me).expect("let in");
    client.raw(&peer::untagged(&request(1, 1), b"x"));
    assert!(told(&mut client).contains("without a tag"));
    for kind in [
        Kind::Hello,
        Kind::Proof,
        Kind::Welcome,
        Kind::Pong,
        Kind::Reply,
    ] {
        let mut client = Client::connect(&key, other, me).expect("let in");
        client.send(&plain(kind), b"");
        assert!(told(&mut client).contains("out of turn"), "{kind:?}");
    }
    assert!(world::eventually(|| cluster.connections() <= 1));
}

/// Of a recorded session, every truncation and many changes: none is served, none does harm.
#[test]
fn damaged_sessions_do_no_harm() {
    let cluster = Cluster::up();
    let key = world::key();
    let (me, other) = cluster.pose();
    let served = cluster.served_here();
    let request = Header {
        id: 5,
        words: [MODULE, 1, 4096, 1000],
        ..plain(Kind::Request)
    };
    let payload = b"sixteen bytes...";
    let length = HEADER + payload.len() + TAG;
    // Each truncation of the request, then the end.
    for end in 0..length {
        let mut client = Client::connect(&key, other, me).expect("let in");
        let frame = client.seal(&request, payload);
        assert_eq!(frame.len(), length);
        client.raw(&frame[..end]);
        client.stream.shutdown(Shutdown::Write).expect("shut down");
        assert_eq!(client.receive().err().map(|_| ()), Some(()), "at {end}");
    }
    // Each bit of the header and the tag, and some of the payload.
    let step = if virgo_tests::long() { 1 } else { 5 };
    for bit in (0..length * 8).step_by(step) {
        let mut client = Client::connect(&key, other, me).expect("let in");
        let mut frame = client.seal(&request, payload);
        frame[bit / 8] ^= 1 << (bit % 8);
        client.raw(&frame);
        client.stream.shutdown(Shutdown::Write).expect("shut down");
        match client.receive() {
            Err(_) => {}
            Ok((header, _)) => assert_eq!(header.kind, Kind::Refused, "bit {bit}"),
        }
    }
    // Truncations of the hello and of the proof, and noise.
    for end in 0..HEADER + 44 {
        let stream = peer::connect();
        peer::write(&stream, &peer::hello(other, me)[..end]);
        stream.shutdown(Shutdown::Write).expect("shut down");
        peer::drain(&stream);
    }
    for seed in 0..200_u64 {
        let stream = peer::connect();
        let mut state = seed;
        let noise: Vec<u8> = (0..300)
            .map(|index| match index {
                0..5 if seed % 2 == 0 => b"VRGO\x02"[index],
                _ => virgo_logic_next(&mut state),
            })
            .collect();
        peer::write(&stream, &noise);
        let _ = stream.shutdown(Shutdown::Write);
        peer::drain(&stream);
    }
    assert_eq!(
        cluster.served_here(),
        served,
        "a damaged request was served"
    );
    // Nothing of them is left, and all works.
    assert!(world::eventually(|| cluster.connections() <= 1));
    let mut client = Client::connect(&key, other, me).expect("let in");
    client.send(&request, payload);
    assert_eq!(client.receive().expect("an answer").1, payload);
}

fn virgo_logic_next(state: &mut u64) -> u8 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 56) as u8
}

#[test]
fn strangers_are_not_listened_to() {
    let cluster = Cluster::up();
    // Node 3 is taken out of the table of node 1, and knocks.
    cluster.load(1, &[ADDRESSES[0], ADDRESSES[1]]);
    let counted = world::eventually(|| cluster.strangers() > 0);
    assert!(counted);
    let error = world::eventually(|| {
        cluster
            .nodes_of(3)
            .iter()
            .any(|node| node.address.starts_with(ADDRESSES[0]) && node.state == "down")
    });
    assert!(error);
}

#[test]
fn policies_choose_over_three_nodes() {
    let cluster = Cluster::up();
    cluster.virgo(1, &["nodes", "policy", "random", "--seed", "42"]);
    let first = cluster.pick(&["-n", "3000"]);
    cluster.virgo(1, &["nodes", "policy", "--seed", "42"]);
    assert_eq!(
        cluster.pick(&["-n", "3000"]),
        first,
        "the same seed, the same choices"
    );
    // Chi-square against k/N, 99.9th percentile for two degrees of freedom.
    let statistic: f64 = first
        .iter()
        .map(|count| (*count as f64 - 1000.0).powi(2) / 1000.0)
        .sum();
    assert!(statistic < 13.82, "chi-square {statistic}: {first:?}");
    // Weights.
    cluster.load(1, &["10.77.0.1", "10.77.0.2;2", "10.77.0.3;3"]);
    wait_state(&cluster, 2, "up");
    wait_state(&cluster, 3, "up");
    let counts = cluster.pick(&["-n", "6000", "--policy", "random"]);
    let expected = [1000.0, 2000.0, 3000.0];
    let statistic: f64 = counts
        .iter()
        .zip(expected)
        .map(|(count, expected)| (*count as f64 - expected).powi(2) / expected)
        .sum();
    assert!(statistic < 13.82, "chi-square {statistic}: {counts:?}");
    cluster.load(1, &ADDRESSES);
    wait_state(&cluster, 2, "up");
    wait_state(&cluster, 3, "up");

    // Two of the three are kept busy: the least loaded gets it all, and p2c never the worst.
    let busy: Vec<_> = [2, 3]
        .into_iter()
        .map(|node| cluster.burn(node, 8))
        .collect();
    let seen = world::eventually(|| {
        let nodes = cluster.nodes();
        nodes[1].load > nodes[0].load + 1500 && nodes[2].load > nodes[0].load + 1500
    });
    assert!(seen, "{:?}", cluster.nodes());
    // Eight tasks on two processors: some wait nearly always, as the node's kernel counts it.
    let waiting = world::eventually(|| cluster.nodes()[1].pressure > Some(500));
    let told = cluster.on(2, &["cat", "/sys/fs/cgroup/cpu.pressure"]);
    assert!(waiting, "{:?}, {told}", cluster.nodes());
    assert_eq!(
        cluster.pick(&["-n", "100", "--policy", "least-loaded"]),
        [100, 0, 0]
    );
    let counts = cluster.pick(&["-n", "900", "--policy", "p2c"]);
    // The idle one is among the two drawn in 5 of 9 cases.
    assert!((400..600).contains(&counts[0]), "{counts:?}");
    drop(busy);
    // A node that is down is not chosen.
    cluster.power(3, "--stop");
    wait_state(&cluster, 3, "down");
    let counts = cluster.pick(&["-n", "300", "--policy", "random"]);
    assert_eq!(counts[2], 0, "{counts:?}");
    let error = cluster.virgo_error(1, &["nodes", "pick", "--node", ADDRESSES[2]]);
    assert!(error.contains("EHOSTDOWN"), "{error}");
    cluster.power(3, "--cont");
    wait_state(&cluster, 3, "up");
    cluster.virgo(1, &["nodes", "policy", "least-loaded", "--seed", "0"]);
}
