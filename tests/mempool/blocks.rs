// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Blocks, by the original's words.

use std::thread;

use virgo_tests::child::Child;

use crate::net::{pool, Client};

#[test]
fn the_words_of_the_original() {
    let _pool = pool("");
    let mut client = Client::new();
    let vuid = client.ask("virgo_cloud_malloc(100)\r\n");
    assert_eq!(vuid.len(), 32, "{vuid}");
    assert!(vuid.bytes().all(|byte| byte.is_ascii_hexdigit()), "{vuid}");
    client.expect(format!("virgo_cloud_get({vuid})\r\n"), "\r\n");
    client.expect(
        format!("virgo_cloud_set({vuid},setdata)\r\n"),
        format!("{vuid}\r\n"),
    );
    client.expect(format!("virgo_cloud_get({vuid})\r\n"), "setdata\r\n");
    // With quotes: round the handle they do not count, in the data they stay.
    client.expect(
        format!("virgo_cloud_set(\"{vuid}\",\"d3\")\n"),
        format!("{vuid}\r\n"),
    );
    client.expect(format!("virgo_cloud_get(\"{vuid}\") \r\n"), "\"d3\"\r\n");
    let upper = vuid.to_uppercase();
    client.expect(format!("virgo_cloud_get({upper})\0\0\0"), "\"d3\"\r\n");
    client.expect(
        format!("virgo_cloud_free({vuid})\r\n"),
        "kernel memory freed\r\n",
    );
    let gone = "ERR vuid no such block, or it was freed\r\n";
    client.expect(format!("virgo_cloud_get({vuid})\r\n"), gone);
    client.expect(format!("virgo_cloud_set({vuid},x)\r\n"), gone);
    client.expect(format!("virgo_cloud_free({vuid})\r\n"), gone);
    // In between, the other protocol.
    client.expect("get a\r\nvirgo_cloud_get(1)\r\n", format!("END\r\n{gone}"));
    // The next block has another handle, in the same slot.
    let next = client.ask("virgo_cloud_malloc(100)\r\n");
    assert_ne!(next, vuid);
    client.expect(format!("virgo_cloud_get({vuid})\r\n"), gone);
    // One request, and the end of the sender's half: no line end is needed.
    client.send(format!("virgo_cloud_set({next},last)"));
    client
        .0
        .shutdown(std::net::Shutdown::Write)
        .expect("shut down");
    assert_eq!(client.rest(), format!("{next}\r\n").as_bytes());
    let mut client = Client::new();
    client.expect(format!("virgo_cloud_get({next})\n"), "last\r\n");
}

#[test]
fn bytes_of_any_kind() {
    let _pool = pool("");
    let mut client = Client::new();
    for length in [1_usize, 100, 2048, 2049, 4096, 5000, 70_000, 1 << 20] {
        let vuid = client.ask(format!("virgo_cloud_malloc({length})\r\n"));
        let bytes: Vec<u8> = (0..length).map(|n| (n * 31 + n / 256) as u8).collect();
        client.send(format!("virgo_cloud_set({vuid},0,{length})\r\n"));
        client.send(&bytes);
        client.expect("\r\n", format!("{vuid}\r\n"));
        let mut answer = format!("DATA {length}\r\n").into_bytes();
        answer.extend_from_slice(&bytes);
        answer.extend_from_slice(b"\r\n");
        client.expect(format!("virgo_cloud_get({vuid},0,{length})\r\n"), &answer);
        // More than there is: up to the end.
        let more = length * 2;
        client.expect(format!("virgo_cloud_get({vuid},0,{more})\r\n"), &answer);
        if length >= 4096 {
            // A part, over the border of a page.
            client.send(format!("virgo_cloud_set({vuid},4090,6)\n\r\n\0),("));
            client.expect("\n", format!("{vuid}\r\n"));
            let mut answer = b"DATA 8\r\n".to_vec();
            answer.push(bytes[4089]);
            answer.extend_from_slice(b"\r\n\0),(");
            answer.push(*bytes.get(4096).unwrap_or(&0));
            answer.extend_from_slice(b"\r\n");
            if length > 4096 {
                client.expect(format!("virgo_cloud_get({vuid},4089,8)\r\n"), answer);
            }
        }
        client.expect(
            format!("virgo_cloud_get({vuid},{length},5)\n"),
            "DATA 0\r\n\r\n",
        );
        let past = "ERR range past the end of the block\r\n";
        client.expect(format!("virgo_cloud_get({vuid},{more},5)\n"), past);
        client.expect(
            format!("virgo_cloud_set({vuid},{length},0)\n\n"),
            format!("{vuid}\r\n"),
        );
        client.send(format!("virgo_cloud_set({vuid},{length},1)\nx\r\n"));
        client.expect("", past);
        for offset in ["2147483648", "9223372036854775808", "18446744073709551615"] {
            client.expect(format!("virgo_cloud_get({vuid},{offset},{offset})\n"), past);
            client.send(format!("virgo_cloud_set({vuid},{offset},5)\nxxxxx\r\n"));
            client.expect("", past);
        }
        client.in_step();
        client.expect(
            format!("virgo_cloud_free({vuid})\n"),
            "kernel memory freed\r\n",
        );
    }
}

#[test]
fn limits_and_errors_are_named() {
    let _pool = pool("block_mb=1 max_blocks=10");
    let mut client = Client::new();
    for (request, answer) in [
        (
            "virgo_cloud_malloc(0)",
            "ERR length a block has at least 1 byte",
        ),
        (
            "virgo_cloud_malloc(67108865)",
            "ERR length more than 67108864 bytes",
        ),
        (
            "virgo_cloud_malloc(18446744073709551615)",
            "ERR length more than 67108864 bytes",
        ),
        (
            "virgo_cloud_malloc(18446744073709551616)",
            "ERR number not a number from 0 to 18446744073709551615",
        ),
        (
            "virgo_cloud_malloc(-1)",
            "ERR number not a number from 0 to 18446744073709551615",
        ),
        (
            "virgo_cloud_malloc(2000000)",
            "ERR limit block_limit or max_blocks is reached",
        ),
        (
            "virgo_cloud_get(0x12)",
            "ERR vuid not a handle: up to 32 hexadecimal digits",
        ),
    ] {
        client.expect(format!("{request}\r\n"), format!("{answer}\r\n"));
    }
    for request in ["virgo_cloud_", "virgo_cloud_x(1)"] {
        let answer = client.ask(format!("{request}\r\n"));
        assert!(answer.starts_with("ERR word unknown"), "{answer}");
    }
    for request in [
        "virgo_cloud_malloc",
        "virgo_cloud_malloc(1",
        "virgo_cloud_malloc(1,2)",
        "virgo_cloud_set(1)",
        "virgo_cloud_get(1,2)",
        "virgo_cloud_set(1,2,3,4)",
    ] {
        let answer = client.ask(format!("{request}\r\n"));
        assert!(answer.starts_with("ERR arguments "), "{request}: {answer}");
    }
    let vuids: Vec<String> = (0..10)
        .map(|_| client.ask("virgo_cloud_malloc(10)\n"))
        .collect();
    assert!(vuids.iter().all(|vuid| vuid.len() == 32), "{vuids:?}");
    let full = "ERR limit block_limit or max_blocks is reached\r\n";
    client.expect("virgo_cloud_malloc(10)\n", full);
    for vuid in &vuids {
        client.expect(
            format!("virgo_cloud_free({vuid})\n"),
            "kernel memory freed\r\n",
        );
    }
    // A text longer than its block is refused, and nothing of it written.
    let vuid = client.ask("virgo_cloud_malloc(3)\n");
    client.expect(
        format!("virgo_cloud_set({vuid},abcd)\n"),
        "ERR range past the end of the block\r\n",
    );
    client.expect(
        format!("virgo_cloud_set({vuid},abc)\n"),
        format!("{vuid}\r\n"),
    );
    client.expect(format!("virgo_cloud_get({vuid})\n"), "abc\r\n");
    assert_eq!(client.stat("virgo_blocks"), 1);
}

/// Malloc, set, get, free, so many times; each reads what it wrote.
fn rounds(name: &str, count: usize) {
    let mut client = Client::new();
    for round in 0..count {
        let vuid = client.ask("virgo_cloud_malloc(100)\n");
        assert_eq!(vuid.len(), 32, "{vuid}");
        let text = format!("{name}-{round}");
        client.expect(
            format!("virgo_cloud_set({vuid},{text})\n"),
            format!("{vuid}\r\n"),
        );
        client.expect(format!("virgo_cloud_get({vuid})\n"), format!("{text}\r\n"));
        client.expect(
            format!("virgo_cloud_free({vuid})\n"),
            "kernel memory freed\r\n",
        );
    }
}

#[test]
fn two_processes_read_their_own_data() {
    let _pool = pool("");
    let mut children: Vec<Child> = ["one", "two"]
        .into_iter()
        .map(|name| {
            Child::spawn(name, move |_| {
                rounds(name, 100);
                0
            })
        })
        .collect();
    for child in &mut children {
        child.wait_ok();
    }
    assert_eq!(Client::new().stat("virgo_blocks"), 0);
}

#[test]
fn a_thousand_clients_read_their_own_data() {
    let _pool = pool("max_connections=1100");
    // All connected at once, served in turn by a few threads.
    let workers: Vec<_> = (0..10)
        .map(|worker| {
            thread::spawn(move || {
                let mut clients: Vec<Client> = (0..100).map(|_| Client::new()).collect();
                for client in &mut clients {
                    client.send("virgo_cloud_malloc(64)\n");
                }
                let vuids: Vec<String> = clients.iter_mut().map(Client::line).collect();
                for (n, (client, vuid)) in clients.iter_mut().zip(&vuids).enumerate() {
                    client.send(format!("virgo_cloud_set({vuid},w{worker}-{n})\n"));
                }
                for (client, vuid) in clients.iter_mut().zip(&vuids) {
                    assert_eq!(client.line(), *vuid);
                    client.send(format!("virgo_cloud_get({vuid})\n"));
                }
                for (n, (client, vuid)) in clients.iter_mut().zip(&vuids).enumerate() {
                    assert_eq!(client.line(), format!("w{worker}-{n}"));
                    client.send(format!("virgo_cloud_free({vuid})\n"));
                }
                for client in &mut clients {
                    assert_eq!(client.line(), "kernel memory freed");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker");
    }
    assert_eq!(Client::new().stat("virgo_blocks"), 0);
    assert_eq!(Client::new().stat("virgo_block_bytes"), 0);
}
