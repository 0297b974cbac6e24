// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! EventNet's messages and its vertices' file.

use proptest::prelude::*;
use virgo_proto::eventnet::{
    check_list, check_name, id_of_line, parse, write_vertex, Extender, Fault, Message, More, Out,
    ID_MAX, LIST_MAX,
};

struct Text(Vec<u8>);

impl Out for Text {
    type Error = ();
    fn put(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn vertex<'a>(id: &'a [u8], partakers: &'a [u8], conversation: &'a [u8]) -> Message<'a> {
    Message::Vertex {
        id,
        partakers,
        conversation,
    }
}

#[test]
fn both_spellings_of_both() {
    let edge = Ok(Message::Edge {
        from: b"5",
        to: b"8",
    });
    assert_eq!(parse(b"eventnet_edgemsg#5#8#"), edge);
    assert_eq!(parse(b"eventnet_edgemsg#5#8"), edge);
    assert_eq!(parse(b"eventnet_edgemsg#1#5#8"), edge);
    assert_eq!(parse(b"  eventnet_edgemsg#1#5#8#\r\n"), edge);
    let v = Ok(vertex(b"1", b"15", b"16"));
    assert_eq!(parse(b"eventnet_vertexmsg#1#15#16#"), v);
    assert_eq!(parse(b"eventnet_vertexmsg#1#15#16"), v);
    assert_eq!(parse(b"eventnet_vertextmsg#1-15-16"), v);
    assert_eq!(parse(b"eventnet_vertextmsg#1#15#16#"), v);
    assert_eq!(parse(b"eventnet_vertexmsg#1-15-16"), v);
    assert_eq!(
        parse(b"eventnet_vertexmsg#e1#p11, p12#p13,p14#"),
        Ok(vertex(b"e1", b"p11, p12", b"p13,p14"))
    );
}

#[test]
fn what_is_refused() {
    let cases: &[(&[u8], Fault)] = &[
        (b"", Fault::Unknown),
        (b"eventnet_edgemsg", Fault::Unknown),
        (b"eventnet_edge#1#2#", Fault::Unknown),
        (b"eventnet_edgemsg#", Fault::Fields(1)),
        (b"eventnet_edgemsg#1#", Fault::Fields(1)),
        (b"eventnet_edgemsg#1#2#3#4", Fault::Fields(4)),
        (b"eventnet_edgemsg##2#", Fault::Empty),
        (b"eventnet_edgemsg#1-2#3#", Fault::Character(b'-')),
        (b"eventnet_edgemsg#1,2#3#", Fault::Character(b',')),
        (b"eventnet_edgemsg#a b#3#", Fault::Character(b' ')),
        (b"eventnet_edgemsg#a\x01#3#", Fault::Character(1)),
        (b"eventnet_vertexmsg#1#15#", Fault::Fields(2)),
        (b"eventnet_vertexmsg#1#15#16#17#", Fault::Fields(4)),
        (b"eventnet_vertexmsg#1#15##", Fault::Empty),
        (b"eventnet_vertexmsg#1-x#15#16#", Fault::Character(b'-')),
        (b"eventnet_vertexmsg#1#1,,5#16#", Fault::Empty),
        (b"eventnet_vertexmsg#1#15#(16)#", Fault::Character(b'(')),
        (b"eventnet_vertextmsg#1-2-3-4", Fault::Fields(4)),
    ];
    for (line, fault) in cases {
        assert_eq!(
            parse(line),
            Err(*fault),
            "{}",
            String::from_utf8_lossy(line)
        );
        assert!(!fault.to_string().is_empty());
    }
    assert_eq!(check_name(&[b'x'; ID_MAX]), Ok(()));
    assert_eq!(check_name(&[b'x'; 121]), Err(Fault::LongName(121)));
    assert_eq!(check_list(&[b'x'; LIST_MAX]), Ok(()));
    assert_eq!(check_list(&vec![b'x'; 4097]), Err(Fault::LongList(4097)));
}

/// The original's own example, to the byte.
#[test]
fn a_line_is_extended_as_the_original_did() {
    let mut text = Text(Vec::new());
    let more = More {
        partakers: b",11,12",
        conversations: b"#(11,12)",
    };
    write_vertex(b"1", &more, &mut text).expect("room");
    assert_eq!(text.0, b"1 - 11,12 - (11,12)\n");
    let mut out = Text(Vec::new());
    let mut more = |id: &[u8]| {
        (id == b"1").then_some(More {
            partakers: b",15,16",
            conversations: b"#(15,16)",
        })
    };
    Extender::new()
        .copy(&text.0, &mut more, &mut out)
        .expect("room");
    assert_eq!(out.0, b"1 - 11,12,15,16 - (11,12)#(15,16)\n");
    assert_eq!(id_of_line(b"e1 - a - (a)"), Some(b"e1".as_slice()));
    assert_eq!(id_of_line(b"nothing"), None);
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9._:]{1,8}"
}

proptest! {
    #[test]
    fn any_bytes_are_parsed(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&line);
        let mut line = line;
        line.splice(0..0, b"eventnet_vertexmsg#".iter().copied());
        if let Ok(Message::Vertex { id, partakers, conversation }) = parse(&line) {
            prop_assert!(check_name(id).is_ok());
            prop_assert!(check_list(partakers).is_ok() && check_list(conversation).is_ok());
        }
    }

    /// A file is copied the same however it is cut, and only the lines that grow change.
    #[test]
    fn copied_in_pieces(
        lines in proptest::collection::vec((name(), name(), any::<bool>()), 0..20),
        strange in any::<bool>(),
        cut in 1_usize..40,
    ) {
        let (mut file, mut expected) = (Vec::new(), Vec::new());
        for (id, partaker, grows) in &lines {
            let id = if *grows { format!("g{id}") } else { format!("k{id}") };
            file.extend_from_slice(format!("{id} - {partaker}, b - ({partaker},b)\n").as_bytes());
            let (p, c) = if *grows { (",x", "#(x)") } else { ("", "") };
            expected.extend_from_slice(
                format!("{id} - {partaker}, b{p} - ({partaker},b){c}\n").as_bytes());
            if strange {
                let line = [b'y'; 300];
                file.extend_from_slice(&line);
                file.push(b'\n');
                expected.extend_from_slice(&line);
                expected.push(b'\n');
            }
        }
        let mut more = |id: &[u8]| id.starts_with(b"g").then_some(More {
            partakers: b",x",
            conversations: b"#(x)",
        });
        let (mut out, mut extender) = (Text(Vec::new()), Extender::new());
        for piece in file.chunks(cut) {
            extender.copy(piece, &mut more, &mut out).expect("room");
        }
        prop_assert_eq!(String::from_utf8(out.0), String::from_utf8(expected));
    }

    /// Any file comes through unchanged where nothing grows, but for an end without its line's.
    #[test]
    fn any_file_is_copied(mut file in proptest::collection::vec(
        prop_oneof![Just(b'-'), Just(b' '), Just(b'\n'), Just(b'a'), any::<u8>()], 0..400)) {
        file.push(b'\n');
        let (mut out, mut extender) = (Text(Vec::new()), Extender::new());
        extender.copy(&file, &mut |_| None, &mut out).expect("room");
        prop_assert_eq!(out.0, file);
    }
}
