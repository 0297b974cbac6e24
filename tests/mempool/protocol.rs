// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! memcached's protocol: each command, what it answers, and its errors.

use crate::net::{pool, Client};

/// A conversation: each line is a request and its answer, with CR LF understood at the end of both
/// and `|` for a CR LF inside.
fn conversation(client: &mut Client, lines: &[(&str, &str)]) {
    for (request, answer) in lines {
        let request = format!("{}\r\n", request.replace('|', "\r\n"));
        let answer = if answer.is_empty() {
            String::new()
        } else {
            format!("{}\r\n", answer.replace('|', "\r\n"))
        };
        client.expect(request, answer);
    }
    client.in_step();
}

#[test]
fn storage_commands() {
    let _pool = pool("");
    let mut client = Client::new();
    conversation(
        &mut client,
        &[
            ("get a", "END"),
            ("set a 5 0 3|abc", "STORED"),
            ("get a", "VALUE a 5 3|abc|END"),
            ("get a b a", "VALUE a 5 3|abc|VALUE a 5 3|abc|END"),
            ("add a 0 0 1|x", "NOT_STORED"),
            ("add b 4294967295 0 0|", "STORED"),
            ("get  b   a ", "VALUE b 4294967295 0||VALUE a 5 3|abc|END"),
            ("replace c 0 0 1|x", "NOT_STORED"),
            ("replace a 0 0 2|xy", "STORED"),
            ("append a 9 0 2|zz", "STORED"),
            ("prepend a 9 0 1|_", "STORED"),
            ("get a", "VALUE a 0 5|_xyzz|END"),
            ("append nothere 0 0 1|x", "NOT_STORED"),
            ("prepend nothere 0 0 1|x", "NOT_STORED"),
            ("delete a", "DELETED"),
            ("delete a", "NOT_FOUND"),
            ("delete b 0", "DELETED"),
            (
                "delete b 5",
                "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
            ),
            ("get a", "END"),
            ("set a 0 0 1 noreply|x", ""),
            ("add a 0 0 1 noreply|y", ""),
            ("get a", "VALUE a 0 1|x|END"),
            ("delete a noreply", ""),
            ("set a 0 0 5|a|b\0", "STORED"),
            ("get a", "VALUE a 0 5|a|b\0|END"),
        ],
    );
}

#[test]
fn numbers() {
    let _pool = pool("");
    let mut client = Client::new();
    conversation(
        &mut client,
        &[
            ("incr n 1", "NOT_FOUND"),
            ("set n 3 0 2|10", "STORED"),
            ("incr n 5", "15"),
            ("decr n 6", "9"),
            ("get n", "VALUE n 3 2|9 |END"),
            ("decr n 100", "0"),
            ("set n 3 0 20|18446744073709551615", "STORED"),
            ("incr n 2", "1"),
            ("set n 3 0 1|9", "STORED"),
            ("incr n 1", "10"),
            ("get n", "VALUE n 3 2|10|END"),
            ("incr n 18446744073709551615", "9"),
            (
                "incr n 18446744073709551616",
                "CLIENT_ERROR invalid numeric delta argument",
            ),
            ("incr n x", "CLIENT_ERROR invalid numeric delta argument"),
            ("incr n -1", "CLIENT_ERROR invalid numeric delta argument"),
            ("incr n", "ERROR"),
            ("set t 0 0 3|abc", "STORED"),
            (
                "incr t 1",
                "CLIENT_ERROR cannot increment or decrement non-numeric value",
            ),
            ("incr n 1 noreply", ""),
            ("decr missing 1 noreply", ""),
        ],
    );
}

#[test]
fn cas_and_touch() {
    let _pool = pool("");
    let mut client = Client::new();
    client.expect("set a 1 0 1\r\nx\r\n", "STORED\r\n");
    let line = client.ask("gets a\r\n");
    let cas: u64 = line
        .strip_prefix("VALUE a 1 1 ")
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{line}"));
    client.expect("", "x\r\nEND\r\n");
    client.expect(format!("cas a 2 0 1 {}\r\ny\r\n", cas + 1), "EXISTS\r\n");
    client.expect(format!("cas a 2 0 1 {cas}\r\ny\r\n"), "STORED\r\n");
    client.expect(format!("cas a 2 0 1 {cas}\r\nz\r\n"), "EXISTS\r\n");
    client.expect(format!("cas b 2 0 1 {cas}\r\nz\r\n"), "NOT_FOUND\r\n");
    conversation(
        &mut client,
        &[
            ("get a", "VALUE a 2 1|y|END"),
            ("touch a 100", "TOUCHED"),
            ("touch b 100", "NOT_FOUND"),
            ("touch a x", "CLIENT_ERROR invalid exptime argument"),
            ("touch a", "ERROR"),
            ("gat 100 a b", "VALUE a 2 1|y|END"),
            ("gat x a", "CLIENT_ERROR invalid exptime argument"),
            ("touch a -1", "TOUCHED"),
            ("get a", "END"),
            ("set a 0 -1 1|x", "STORED"),
            ("get a", "END"),
            ("set a 0 1 1|x", "STORED"),
            ("get a", "VALUE a 0 1|x|END"),
        ],
    );
    // It goes by itself, within two seconds, with or without being asked for.
    assert!(virgo_tests::wait_until(virgo_tests::SOON, || {
        client.ask("mg a s\r\n") == "EN"
    }));
}

#[test]
fn meta_commands() {
    let _pool = pool("");
    let mut client = Client::new();
    conversation(
        &mut client,
        &[
            ("mn", "MN"),
            ("mg a v", "EN"),
            ("mg a v q", ""),
            ("mg a v k Oxyz", "EN ka Oxyz"),
        ],
    );
    let line = client.ask("ms a 2 c\r\nhi\r\n");
    assert!(line.starts_with("HD c"), "{line}");
    conversation(
        &mut client,
        &[
            ("mg a", "HD"),
            ("mg a v", "VA 2|hi"),
            ("mg a s v t f h k O1", "VA 2 s2 t-1 f0 h1 ka O1|hi"),
            ("ms a 1 F7 T100 E99|x", "HD"),
            ("mg a c f s t v", "VA 1 c99 f7 s1 t100|x"),
            ("ms a 1 C98|y", "EX"),
            ("ms a 1 C99 E100|y", "HD"),
            ("ms b 1 C99|y", "NF"),
            ("ms b 1 MR|y", "NS"),
            ("ms a 1 ME|y", "NS"),
            ("ms a 2 MA s|zz", "HD s3"),
            ("ms a 1 MP q|_", ""),
            ("mg a v", "VA 4|_yzz"),
            ("ms q 1 MA N60|1", "HD"),
            ("mg q v t", "VA 1 t60|1"),
            ("ms x 1 MX|1", "CLIENT_ERROR invalid mode for ms M token"),
            ("ms x 1 z|1", "CLIENT_ERROR invalid flag"),
            ("mg x c c", "CLIENT_ERROR duplicate flag"),
            ("mg x T", "CLIENT_ERROR bad token in command line format"),
            (
                "mg x O12345678901234567890123456789012",
                "CLIENT_ERROR opaque token too long",
            ),
            // Stale, and who may bring a newer value.
            ("ms s 1 E5|x", "HD"),
            ("md s I T30 C4", "EX"),
            ("md s I T30 E6", "HD"),
            ("mg s v c", "VA 1 c6 X W|x"),
            ("mg s v c", "VA 1 c6 Z X|x"),
            ("ms s 1 C5 I E7|o", "HD"),
            ("mg s v c", "VA 1 c7 X W|o"),
            ("ms s 1 E8|n", "HD"),
            ("mg s v c", "VA 1 c8|n"),
            ("md s q", ""),
            ("md s", "NF"),
            ("md s q O7", "NF O7"),
            // Made by who asks first.
            ("mg viv N30 v t", "VA 0 t30 W|"),
            ("mg viv N30 v t h", "VA 0 t30 h1 Z|"),
            ("ms r 1 T20|1", "HD"),
            ("mg r R30", "HD W"),
            ("mg r R30", "HD Z"),
            ("mg r R10", "HD Z"),
            // Numbers.
            ("ma n", "NF"),
            ("ma n N0 J13 v", "VA 2|13"),
            ("ma n v", "VA 2|14"),
            ("ma n D10 MD v", "VA 1|4"),
            ("ma n q", ""),
            ("ma n MX", "CLIENT_ERROR invalid mode for ma M token"),
            // Keys in base64.
            ("ms Zm9v 3 b|bar", "HD"),
            ("get foo", "VALUE foo 0 3|bar|END"),
            ("mg Zm9v b k v", "VA 3 kZm9v b|bar"),
            ("mg AAECIA== b v", "EN"),
            ("ms AAECIA== 1 b|x", "HD"),
            ("mg AAECIA== b k v", "VA 1 kAAECIA== b|x"),
            ("mg A b", "CLIENT_ERROR error decoding key"),
            ("md foo x", "HD"),
            ("mg foo v f", "VA 0 f0|"),
            ("me nothere", "EN"),
        ],
    );
    let line = client.ask("me foo\r\n");
    assert!(line.starts_with("ME foo exp=-1 la="), "{line}");
}

#[test]
fn what_is_wrong_is_said_and_the_connection_goes_on() {
    let _pool = pool("");
    let mut client = Client::new();
    let long = "k".repeat(251);
    let fits = "k".repeat(250);
    conversation(
        &mut client,
        &[
            ("", "ERROR"),
            ("nonsense", "ERROR"),
            ("get", "ERROR"),
            ("get ", "ERROR"),
            ("set a", "ERROR"),
            ("set a 0 0", "ERROR"),
            ("set a x 0 1|y", "CLIENT_ERROR bad command line format"),
            (
                "set a 4294967296 0 1|y",
                "CLIENT_ERROR bad command line format",
            ),
            ("set a 0 x 1|y", "CLIENT_ERROR bad command line format"),
            ("set a 0 0 -1", "CLIENT_ERROR bad command line format"),
            ("set a 0 0 x", "CLIENT_ERROR bad command line format"),
            (
                "set a 0 0 2147483648",
                "CLIENT_ERROR bad command line format",
            ),
            (
                "set a 0 0 9223372036854775808",
                "CLIENT_ERROR bad command line format",
            ),
            (
                "set a 0 0 18446744073709551616",
                "CLIENT_ERROR bad command line format",
            ),
            ("cas a 0 0 1|y", "ERROR|ERROR"),
            // No data follow these: a line with words too many is no line that stores.
            ("set a 0 0 1 noreply extra", "ERROR"),
            ("append a 0 0 1 a b", "ERROR"),
            ("cas a 0 0 1 1 noreply extra", "ERROR"),
            ("incr a 1 a b", "ERROR"),
            ("get a", "END"),
            ("set a +3 +100 +1|y", "STORED"),
            ("mg a f t", "HD f3 t100"),
            ("delete a", "DELETED"),
            ("gat 0", "END"),
            ("gat x noreply", "CLIENT_ERROR invalid exptime argument"),
            ("md a q q", "CLIENT_ERROR invalid or duplicate flag"),
            ("ma a Jx", "CLIENT_ERROR invalid or duplicate flag"),
            ("ma a Md", "CLIENT_ERROR invalid mode for ma M token"),
            ("ms a 1 Me|y", "CLIENT_ERROR invalid mode for ms M token"),
            ("mg a F-1", "CLIENT_ERROR bad command line format"),
            ("mg a M", "CLIENT_ERROR incorrect length for M token"),
            ("cas a 0 0 1 x|y", "CLIENT_ERROR bad command line format"),
            (
                &format!("get {long}"),
                "CLIENT_ERROR bad command line format",
            ),
            (
                &format!("get a {long}"),
                "CLIENT_ERROR bad command line format",
            ),
            (
                &format!("set {long} 0 0 1|x"),
                "CLIENT_ERROR bad command line format",
            ),
            (
                &format!("delete {long}"),
                "CLIENT_ERROR bad command line format",
            ),
            (
                &format!("mg {long}"),
                "CLIENT_ERROR bad command line format",
            ),
            (&format!("set {fits} 0 0 1|x"), "STORED"),
            (&format!("get {fits}"), &format!("VALUE {fits} 0 1|x|END")),
            ("set a 0 0 3|abcd", "CLIENT_ERROR bad data chunk|ERROR"),
        ],
    );
    // Too large: said at once, what follows is passed over, what was there is gone.
    client.expect("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    client.expect(
        "set a 0 0 1048576\r\n",
        "SERVER_ERROR object too large for cache\r\n",
    );
    client.send(vec![b'z'; 1048576]);
    client.expect("\r\nget a\r\n", "END\r\n");
    client.in_step();
}

#[test]
fn flush_stats_and_the_rest() {
    let _pool = pool("");
    let mut client = Client::new();
    conversation(
        &mut client,
        &[
            ("set a 0 0 1|x", "STORED"),
            ("flush_all", "OK"),
            ("get a", "END"),
            ("set a 0 0 1|x", "STORED"),
            ("flush_all noreply", ""),
            ("get a", "END"),
            ("flush_all x", "CLIENT_ERROR invalid exptime argument"),
            ("verbosity 1", "OK"),
            ("verbosity", "ERROR"),
            ("verbosity x", "CLIENT_ERROR bad command line format"),
            ("version", "VERSION 1.6.0-virgo-0.1.0"),
            ("cache_memlimit 32", "OK"),
            ("stats nonsense", "ERROR"),
            ("stats reset", "RESET"),
            ("set a 0 0 1|x", "STORED"),
            ("get a b", "VALUE a 0 1|x|END"),
        ],
    );
    for (name, value) in [
        ("cmd_get", 2),
        ("cmd_set", 1),
        ("get_hits", 1),
        ("get_misses", 1),
        ("curr_items", 1),
        ("limit_maxbytes", 32 << 20),
        ("curr_connections", 1),
    ] {
        assert_eq!(client.stat(name), value, "{name}");
    }
    for what in ["items", "slabs", "settings", "sizes"] {
        client.send(format!("stats {what}\r\n"));
        while client.line() != "END" {}
    }
    client.in_step();
    // A flush to come.
    client.expect("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    client.expect("flush_all 1\r\n", "OK\r\n");
    client.expect("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    assert!(virgo_tests::wait_until(virgo_tests::SOON, || {
        client.ask("mg a\r\n") == "EN"
    }));
    client.send("quit\r\n");
    assert_eq!(client.rest(), b"");
}

#[test]
fn requests_in_every_cut() {
    let _pool = pool("");
    let request = b"set key 1 0 5\r\nhello\r\nget key\r\nms k2 2 c\r\nhi\r\n";
    for cut in 1..request.len() {
        let mut client = Client::new();
        client.send(&request[..cut]);
        client.expect(
            &request[cut..],
            "STORED\r\nVALUE key 1 5\r\nhello\r\nEND\r\nHD c",
        );
    }
    let mut client = Client::new();
    for byte in request {
        client.send([*byte]);
    }
    client.expect("", "STORED\r\nVALUE key 1 5\r\nhello\r\nEND\r\nHD c");
}

#[test]
fn many_at_a_time() {
    let _pool = pool("");
    let mut client = Client::new();
    // A pipeline.
    let (mut request, mut answer) = (String::new(), String::new());
    for n in 0..2000 {
        request.push_str(&format!("set k{n} 0 0 4\r\n{n:04}\r\nget k{n}\r\n"));
        answer.push_str(&format!("STORED\r\nVALUE k{n} 0 4\r\n{n:04}\r\nEND\r\n"));
    }
    client.expect(request, answer);
    // Many keys in one request, whose answer is far longer than is gathered at once.
    let value = "v".repeat(4000);
    let (mut request, mut answer) = (String::from("get"), String::new());
    for n in 0..3000 {
        let key = n % 100;
        if n < 100 {
            client.expect(format!("set m{n} 0 0 4000\r\n{value}\r\n"), "STORED\r\n");
        }
        request.push_str(&format!(" m{key}"));
        answer.push_str(&format!("VALUE m{key} 0 4000\r\n{value}\r\n"));
    }
    request.push_str("\r\n");
    answer.push_str("END\r\n");
    client.expect(request, answer);
    client.in_step();
}

#[test]
fn values_of_every_size() {
    let _pool = pool("memory_mb=200");
    let mut client = Client::new();
    let mut length = 0;
    while length < 1048576 - 100 {
        let value: Vec<u8> = (0..length).map(|n| (n * 7 + length) as u8).collect();
        let mut request = format!("set v{length} 1 0 {length}\r\n").into_bytes();
        request.extend_from_slice(&value);
        request.extend_from_slice(format!("\r\nget v{length}\r\n").as_bytes());
        let mut answer = format!("STORED\r\nVALUE v{length} 1 {length}\r\n").into_bytes();
        answer.extend_from_slice(&value);
        answer.extend_from_slice(b"\r\nEND\r\n");
        client.expect(request, answer);
        length = length * 5 / 4 + 1;
    }
    // Values that grow over the border between the two ways to keep them.
    client.expect("set grow 3 0 1\r\n0\r\n", "STORED\r\n");
    let part = "x".repeat(1000);
    let mut whole = String::from("0");
    for n in 0..30 {
        let verb = if n % 2 == 0 { "append" } else { "prepend" };
        client.expect(format!("{verb} grow 0 0 1000\r\n{part}\r\n"), "STORED\r\n");
        whole = if n % 2 == 0 {
            whole + &part
        } else {
            part.clone() + &whole
        };
        let answer = format!("VALUE grow 3 {}\r\n{whole}\r\nEND\r\n", whole.len());
        client.expect("get grow\r\n", answer);
    }
    client.expect("flush_all\r\n", "OK\r\n");
    assert_eq!(client.stat("curr_items"), 0);
    assert_eq!(client.stat("bytes"), 0);
}
