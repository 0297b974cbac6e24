// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The telnet door.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::*;

/// A connection that speaks in lines.
pub(crate) struct Telnet(TcpStream);

impl Telnet {
    pub(crate) fn new() -> Self {
        let stream = TcpStream::connect(HOST).expect("connect");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        Telnet(stream)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("send");
    }

    /// The next line, without its end.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            match self.0.read(&mut byte).expect("receive") {
                0 => break,
                _ => line.push(byte[0]),
            }
        }
        String::from_utf8(line)
            .expect("text")
            .trim_end()
            .to_string()
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.line()
    }

    fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut all = vec![0; count];
        self.0.read_exact(&mut all).expect("receive");
        all
    }

    fn ended(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("the end");
        rest
    }
}

#[test]
fn the_originals_session() {
    let served = serve("");
    let path = served.root.join("virgofstest.txt");
    let text = "This is example textfile for VIRGO File Systems Driver";
    fs::write(&path, text).expect("a file");
    chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
    let mut t = Telnet::new();
    // The original's names were absolute.
    let name = path.display();
    assert_eq!(t.ask(&format!("virgo_cloud_open({name})")), "0");
    assert_eq!(t.ask("virgo_cloud_read(0,\"none\",250,0)"), text);
    assert_eq!(
        t.ask("virgo_cloud_write(0,Appended_16July2015,250,0)"),
        "19"
    );
    assert_eq!(
        t.ask("virgo_cloud_read(0,header,19,54)"),
        "Appended_16July2015"
    );
    assert_eq!(t.ask("virgo_cloud_open(/other.txt)"), "1");
    assert_eq!(t.ask("virgo_cloud_write(1,a, (b), c,100,0)"), "9");
    assert_eq!(t.ask("virgo_cloud_close(0)"), "0");
    assert_eq!(
        fs::read(&path).expect("read"),
        format!("{text}Appended_16July2015").as_bytes()
    );
    assert_eq!(
        fs::read(served.root.join("other.txt")).expect("read"),
        b"a, (b), c"
    );
}

#[test]
fn handles_are_told_from_those_that_were() {
    let _served = serve("max_client_handles=16");
    let mut t = Telnet::new();
    let first = t.ask("virgo_cloud_open(a)");
    assert_eq!(first, "0");
    assert_eq!(t.ask("virgo_cloud_close(0)"), "0");
    let words = "the handle's file has been closed, or has left the served folder";
    assert_eq!(t.ask("virgo_cloud_close(0)"), format!("ERR ESTALE {words}"));
    let second = t.ask("virgo_cloud_open(a)");
    assert_eq!(second, (1_u64 << 32).to_string());
    assert_eq!(
        t.ask("virgo_cloud_read(0,x,10,0)"),
        format!("ERR ESTALE {words}")
    );
    assert_eq!(t.ask(&format!("virgo_cloud_write({second},abc,3,0)")), "3");
    assert_eq!(t.ask(&format!("virgo_cloud_read({second},x,10,0)")), "abc");
    assert_eq!(
        t.ask("virgo_cloud_read(77,x,10,0)"),
        "ERR EBADF there is no such handle"
    );
    // Another client's are its own.
    let mut other = Telnet::new();
    assert_eq!(
        other.ask(&format!("virgo_cloud_read({second},x,10,0)")),
        "ERR EBADF there is no such handle"
    );
    for n in 1..16 {
        assert_eq!(t.ask("virgo_cloud_open(a)"), n.to_string());
    }
    assert_eq!(
        t.ask("virgo_cloud_open(a)"),
        "ERR EMFILE this client has too many handles (max_client_handles)"
    );
    drop((t, other));
    nothing_held();
}

#[test]
fn any_bytes_are_carried() {
    let served = serve("");
    let mut t = Telnet::new();
    assert_eq!(t.ask("virgo_cloud_open(binary)"), "0");
    let data: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    t.send(format!("virgo_cloud_put(0,{})\r\n", data.len()).as_bytes());
    t.send(&data);
    t.send(b"\r\n");
    assert_eq!(t.line(), data.len().to_string());
    assert!(fs::read(served.root.join("binary")).expect("read") == data);
    t.send(format!("virgo_cloud_get(0,{},4)\r\n", data.len()).as_bytes());
    assert_eq!(t.line(), format!("DATA {}", data.len() - 4));
    assert!(t.exactly(data.len() - 4) == data[4..]);
    assert_eq!(t.exactly(2), b"\r\n");
    t.send(b"virgo_cloud_put(0,0)\n\n");
    assert_eq!(t.line(), "0");
    // Without its end the bytes are not what was announced.
    t.send(b"virgo_cloud_put(0,2)\nabc\n");
    assert_eq!(t.line(), "ERR EPROTO no line's end where the bytes end");
    assert_eq!(t.ended(), b"");
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let _served = serve("");
    let mut t = Telnet::new();
    let mut all = b"virgo_cloud_open(a)\n".to_vec();
    for n in 0..200 {
        all.extend_from_slice(format!("virgo_cloud_write(0,{n:04},4,0)\n").as_bytes());
        all.extend_from_slice(format!("virgo_cloud_read(0,x,4,{})\n", n * 4).as_bytes());
    }
    all.extend_from_slice(b"quit\n");
    t.send(&all);
    assert_eq!(t.line(), "0");
    for n in 0..200 {
        assert_eq!(t.line(), "4");
        assert_eq!(t.line(), format!("{n:04}"));
    }
    assert_eq!(t.ended(), b"");
}

#[test]
fn what_is_wrong_is_told() {
    let served = serve("");
    fs::create_dir(served.root.join("folder")).expect("mkdir");
    let mut t = Telnet::new();
    for (line, answer) in [
        ("virgo_cloud_fly(1)", "ERR ENOSYS no such command; try help"),
        ("hello", "ERR ENOSYS no such command; try help"),
        (
            "virgo_cloud_open()",
            "ERR EINVAL not the command's arguments; try help",
        ),
        (
            "virgo_cloud_open(a",
            "ERR EINVAL not the command's arguments; try help",
        ),
        (
            "virgo_cloud_read(1,2)",
            "ERR EINVAL not the command's arguments; try help",
        ),
        (
            "virgo_cloud_read(a,b,c,d)",
            "ERR EINVAL an argument is no number; try help",
        ),
        (
            "virgo_cloud_read(0,x,1,-1)",
            "ERR EINVAL an argument is no number; try help",
        ),
        (
            "virgo_cloud_open(none/a)",
            "ERR ENOENT there is no such file",
        ),
        (
            "virgo_cloud_open(folder)",
            "ERR EISDIR it is no regular file",
        ),
        (
            "virgo_cloud_get(0,1048577,0)",
            "ERR EMSGSIZE 1048576 bytes at most",
        ),
        (
            "virgo_cloud_get(0,18446744073709551615,0)",
            "ERR EMSGSIZE 1048576 bytes at most",
        ),
        ("virgo_cloud_close(5)", "ERR EBADF there is no such handle"),
    ] {
        assert_eq!(t.ask(line), answer, "{line}");
    }
    assert!(t.ask("help").starts_with("virgo_cloud_open(PATH)"));
    let mut long = Telnet::new();
    long.send(&[b'x'; 9000]);
    assert_eq!(long.line(), "ERR EMSGSIZE a line has 8192 bytes at most");
    let mut read_only = Telnet::new();
    read_only.send(b"virgo_cloud_put(0,99999999)\n");
    assert_eq!(read_only.line(), "ERR EMSGSIZE 1048576 bytes at most");
}
