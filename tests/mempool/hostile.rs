// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Bad input, slow and rude clients, and unloading under load.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use virgo_tests::module;
use virgo_tests::{debug_kernel, long, wait_until, SOON};

use crate::net::{allow_files, pool, Client, MODULE};

/// Whole requests of every kind.
const REQUESTS: &[&[u8]] = &[
    b"set a 1 0 3\r\nabc\r\n",
    b"cas a 1 0 3 77\r\nabc\r\n",
    b"append a 0 0 3\r\nabc\r\n",
    b"get a b c\r\n",
    b"gats 100 a b\r\n",
    b"incr n 18446744073709551615\r\n",
    b"touch a 100\r\n",
    b"delete a noreply\r\n",
    b"flush_all 9999999999\r\n",
    b"verbosity 1\r\n",
    b"stats items\r\n",
    b"mg a s v t f k h l c Oabc N30 R30 T30\r\n",
    b"ms a 3 T30 C1 E2 I MA N30 F5 c k s\r\nabc\r\n",
    b"md a q I x T30 C1\r\n",
    b"ma n N0 J13 D5 MD v t c\r\n",
    b"me YQ== b\r\n",
    b"virgo_cloud_malloc(100)\r\n",
    b"virgo_cloud_set(00000000000000000000000100000000,data)\r\n",
    b"virgo_cloud_set(00000000000000000000000100000000,0,3)\r\nabc\r\n",
    b"virgo_cloud_get(00000000000000000000000100000000,0,3)\r\n",
    b"virgo_cloud_free(00000000000000000000000100000000)\r\n",
];

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// The server is there and in its senses.
fn alive() {
    let mut client = Client::new();
    client.expect("set alive 0 0 1\r\ny\r\n", "STORED\r\n");
    client.expect("get alive\r\n", "VALUE alive 0 1\r\ny\r\nEND\r\n");
}

/// Sends, ends its half, and waits for the other's end.
fn throw(bytes: &[u8]) {
    let mut client = Client::new();
    // It may be closed on us in the middle of it.
    let _ = client.0.write_all(bytes);
    let _ = client.0.shutdown(std::net::Shutdown::Write);
    let _ = client.rest();
}

#[test]
fn every_truncation_of_every_request() {
    let _pool = pool("");
    for request in REQUESTS {
        for length in 1..request.len() {
            throw(&request[..length]);
        }
    }
    alive();
}

#[test]
fn mutations_of_every_request() {
    let _pool = pool("");
    let mut random = Random(20261121);
    let rounds = if long() { 20_000 } else { 1500 };
    const NASTY: &[&[u8]] = &[
        b"\0",
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"-",
        b"4294967296",
        b"2147483648",
        b"9223372036854775808",
        b"18446744073709551616",
        b"\x80",
        b"\xff",
        b",",
        b")",
        b"(",
        b"999999999999999999999999",
    ];
    for _ in 0..rounds {
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(4) {
            bytes.extend_from_slice(REQUESTS[random.below(REQUESTS.len())]);
        }
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let nasty = NASTY[random.below(NASTY.len())];
                    bytes.splice(at..at, nasty.iter().copied());
                }
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        throw(&bytes);
    }
    alive();
}

#[test]
fn lines_without_an_end() {
    let _pool = pool("");
    for start in ["x", "get ", "set ", "virgo_cloud_set(1,", "mg ", "stats "] {
        let mut client = Client::new();
        let _ = client.0.write_all(start.as_bytes());
        let part = [b'a'; 65536];
        for _ in 0..16 {
            if client.0.write_all(&part).is_err() {
                break;
            }
        }
        let answer = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(
            answer == "CLIENT_ERROR line too long\r\n" || answer.starts_with("ERR line longer"),
            "{start}: {answer}"
        );
    }
    alive();
}

#[test]
fn the_binary_protocol_is_refused_by_closing() {
    let _pool = pool("");
    let mut client = Client::new();
    let mut request = [0; 24];
    request[0] = 0x80;
    client.send(request);
    assert_eq!(client.rest(), b"");
    alive();
}

#[test]
fn who_takes_nothing_gets_nothing_more() {
    let _pool = pool("");
    let mut client = Client::new();
    let value = "v".repeat(1_000_000);
    client.expect(format!("set big 0 0 1000000\r\n{value}\r\n"), "STORED\r\n");
    // Asks for 200 MB and takes none of it: the server stops reading.
    client
        .0
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("set a timeout");
    let mut asked = 0;
    for _ in 0..200 {
        match client.0.write(b"get big\r\n") {
            Ok(_) => asked += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    alive();
    // And goes on where it stopped, when somebody takes what there is.
    let mut left = asked * ("VALUE big 0 1000000\r\n".len() + 1_000_000 + "\r\nEND\r\n".len());
    let mut part = vec![0; 1 << 20];
    while left > 0 {
        let n = client.0.read(&mut part).expect("receive");
        assert!(n > 0, "{left} bytes are missing");
        left -= n;
    }
    client.in_step();
}

#[test]
fn many_connections_and_one_too_many() {
    let count = if long() { 10_000 } else { 1000 };
    let _pool = pool(&format!("max_connections={count}"));
    raise_file_limit();
    let mut clients: Vec<Client> = (0..count).map(|_| Client::new()).collect();
    // All of them are served, the last as well.
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(format!("set k{n} 0 0 1\r\nx\r\n"));
    }
    for client in &mut clients {
        assert_eq!(client.line(), "STORED");
    }
    let mut extra = Client::new();
    let answer = String::from_utf8(extra.rest()).expect("text");
    assert_eq!(
        answer,
        format!("ERROR Too many open connections: limit of {count} reached\r\n")
    );
    drop(clients.pop());
    assert!(wait_until(SOON, || {
        let mut client = Client::new();
        let _ = client.0.write_all(b"mn\r\n");
        let mut answer = [0; 4];
        client.0.read_exact(&mut answer).is_ok() && answer == *b"MN\r\n"
    }));
}

fn raise_file_limit() {
    let limit = libc::rlimit {
        rlim_cur: 100_000,
        rlim_max: 100_000,
    };
    // SAFETY: The structure outlives the call.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(done, 0, "setrlimit");
}

#[test]
fn half_open_and_idle_connections_are_closed() {
    let _pool = pool("idle_s=1");
    let mut idle = Client::new();
    let mut half = Client::new();
    half.send("set a 0 0 100\r\npart of it");
    for client in [&mut idle, &mut half] {
        let answer = String::from_utf8(client.rest()).expect("text");
        assert_eq!(answer, "ERROR idle for 1000 ms\r\n");
    }
    alive();
}

#[test]
fn unloading_under_load() {
    let rounds = if long() { 50 } else { 4 };
    for round in 0..rounds {
        let machine = module::core_only();
        module::load(MODULE, "memory_mb=4").expect("virgo-mempool loads");
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for worker in 0..6 {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Ok(mut stream) = std::net::TcpStream::connect((
                            std::net::Ipv4Addr::LOCALHOST,
                            crate::net::PORT,
                        )) else {
                            return;
                        };
                        let value = "v".repeat(20 + worker * 5000);
                        let request = format!(
                            "set k{worker} 0 0 {}\r\n{value}\r\nget k{worker}\r\nvirgo_cloud_malloc(5000)\r\nstats\r\n",
                            value.len()
                        );
                        let mut part = [0; 65536];
                        while stream.write_all(request.as_bytes()).is_ok()
                            && stream.read(&mut part).is_ok_and(|n| n > 0)
                        {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            assert!(
                wait_until(SOON, || done.load(Ordering::Relaxed) > 200),
                "round {round}"
            );
            module::unload(MODULE).expect("virgo-mempool unloads");
            stop.store(true, Ordering::Relaxed);
        });
        drop(machine);
    }
}

/// As many as a busy host has (10,000 with VIRGO_LONG=1): each is answered while all are open, one more
/// is refused, and the module goes with all of them there.
#[test]
fn thousands_of_connections() {
    let count = match (long(), debug_kernel()) {
        (true, _) => 10_000,
        (false, true) => 300,
        (false, false) => 2000,
    };
    allow_files(count as u64 + 100);
    let pool = pool(&format!("max_connections={count}"));
    let mut clients: Vec<Client> = Vec::with_capacity(count);
    for number in 0..count {
        let mut client = Client::new();
        client.send(format!("set key{number} 0 0 5\r\n{number:05}\r\n"));
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.line(), "STORED");
    }
    let mut refused = Client::new();
    let said = String::from_utf8_lossy(&refused.rest()).into_owned();
    assert!(said.contains("Too many open connections"), "{said:?}");
    // The other way around, so that none is answered by the order in which they came.
    for (number, client) in clients.iter_mut().enumerate().rev() {
        let other = count - 1 - number;
        client.send(format!("get key{other}\r\n"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let other = count - 1 - number;
        client.hear_only(format!("VALUE key{other} 0 5\r\n{other:05}\r\nEND\r\n"));
    }
    assert_eq!(clients[0].stat("curr_connections"), count as u64);
    drop(pool);
    for client in &mut clients {
        assert_eq!(client.rest(), b"");
    }
}
