// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A node's side of the protocol, written from doc/protocol.md, that can also do it wrong.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use virgo_proto::crc::crc32c;
use virgo_proto::frame::{header, parse, Header, Hello, Kind, Parsed, HEADER, MAX_PAYLOAD};

fn tag(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

/// A header without numbers.
pub(crate) fn plain(kind: Kind) -> Header {
    Header::plain(kind)
}

/// A frame without a tag.
pub(crate) fn untagged(head: &Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(head, payload, false, crc32c)
        .expect("short")
        .to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// A hello, from one node to another.
pub(crate) fn hello(from: u32, to: u32) -> Vec<u8> {
    let hello = Hello {
        from,
        to,
        keyed: true,
        nonce: [7; 32],
    };
    untagged(&plain(Kind::Hello), &hello.to_bytes())
}

/// Connects to this node's port.
pub(crate) fn connect() -> TcpStream {
    let stream = TcpStream::connect("10.77.0.1:40000").expect("the port is open");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time limit");
    stream
}

/// Sends, though the other may have closed already.
pub(crate) fn write(mut stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Reads to the end, which must come.
pub(crate) fn drain(mut stream: &TcpStream) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}

/// A connection that was let in.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
    outbound: ([u8; 32], u64),
    inbound: ([u8; 32], u64),
}

impl Client {
    /// Makes the handshake; an error is what the other said.
    pub(crate) fn connect(key: &[u8], from: u32, to: u32) -> Result<Client, String> {
        let mut client = Client {
            stream: connect(),
            unread: Vec::new(),
            outbound: ([0; 32], 0),
            inbound: ([0; 32], 0),
        };
        let hello = hello(from, to);
        client.raw(&hello);
        let challenge = client.receive_raw()?;
        if challenge[5] != Kind::Challenge as u8 {
            return Err(String::from_utf8_lossy(&challenge[HEADER..]).into_owned());
        }
        let (hello, challenge) = (&hello[HEADER..], &challenge[HEADER..]);
        let answer = Hello::parse(challenge).expect("a challenge");
        assert_eq!((answer.from, answer.to), (to, from));
        client.outbound.0 = tag(key, &[b"VIRGO 2 connector", hello, challenge]);
        client.inbound.0 = tag(key, &[b"VIRGO 2 acceptor.", hello, challenge]);
        client.send(&plain(Kind::Proof), b"");
        match client.receive()? {
            (
                Header {
                    kind: Kind::Welcome,
                    ..
                },
                _,
            ) => Ok(client),
            (_, words) => Err(String::from_utf8_lossy(&words).into_owned()),
        }
    }

    /// The next frame to be sent.
    pub(crate) fn seal(&mut self, head: &Header, payload: &[u8]) -> Vec<u8> {
        let mut frame = header(head, payload, true, crc32c).expect("short").to_vec();
        frame.extend_from_slice(payload);
        let (key, next) = &mut self.outbound;
        let tag = tag(&*key, &[&next.to_le_bytes(), &frame]);
        *next += 1;
        frame.extend_from_slice(&tag);
        frame
    }

    /// Sends the next frame.
    pub(crate) fn send(&mut self, head: &Header, payload: &[u8]) {
        let frame = self.seal(head, payload);
        self.raw(&frame);
    }

    /// Sends bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        write(&self.stream, bytes);
    }

    /// The next frame, as bytes; an error where there is none.
    pub(crate) fn receive_raw(&mut self) -> Result<Vec<u8>, String> {
        loop {
            match parse(&self.unread, MAX_PAYLOAD, crc32c) {
                Parsed::Whole(frame) => {
                    let taken = frame.taken;
                    return Ok(self.unread.drain(..taken).collect());
                }
                Parsed::Part(_) => {}
                Parsed::Bad(why) => panic!("it sent {:?}: {}", self.unread, why.words()),
            }
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the end".into()),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Err("a reset".into())
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next frame, its tag checked; a refusal, which has none, too.
    pub(crate) fn receive(&mut self) -> Result<(Header, Vec<u8>), String> {
        let bytes = self.receive_raw()?;
        let Parsed::Whole(frame) = parse(&bytes, MAX_PAYLOAD, crc32c) else {
            panic!("it was whole");
        };
        if frame.header.kind != Kind::Refused {
            let (key, next) = &mut self.inbound;
            let tag = tag(&*key, &[&next.to_le_bytes(), frame.signed]);
            *next += 1;
            assert_eq!(frame.tag, Some(&tag), "it sent a wrong tag");
        }
        Ok((frame.header, frame.payload.to_vec()))
    }

    /// Why the other closes the connection now.
    pub(crate) fn refusal(&mut self) -> String {
        let (header, words) = self.receive().expect("a refusal");
        assert_eq!(header.kind, Kind::Refused);
        assert_eq!(self.receive(), Err("the end".into()));
        String::from_utf8(words).expect("words")
    }
}
