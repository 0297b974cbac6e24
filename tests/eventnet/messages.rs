// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The port's messages and the two text files, to the byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::thread;

use virgo_tests::{wait_until, SOON};

use crate::world::{load, ours, unload, Client, Folder, What, UPDATED};

const VERTICES: &str = "EventNetVertices.txt";
const EDGES: &str = "EventNetEdges.txt";

#[test]
fn the_originals_sessions() {
    let folder = Folder::new("sessions");
    let _ours = ours(&folder, "");
    let mut client = Client::connect();
    client.update("eventnet_edgemsg#1#2#");
    client.update("eventnet_edgemsg#5#8#");
    // The design document's spelling of the same two.
    client.update("eventnet_edgemsg#7#5#8");
    folder.expect(EDGES, "1,2\n5,8\n5,8\n");
    client.update("eventnet_vertexmsg#1#11#12#");
    folder.expect(VERTICES, "1 - 11,12 - (11,12)\n");
    client.update("eventnet_vertexmsg#1#15#16#");
    folder.expect(VERTICES, "1 - 11,12,15,16 - (11,12)#(15,16)\n");
    client.update("eventnet_vertextmsg#2-a,b-c");
    client.update("eventnet_vertexmsg#1#18#12#");
    folder.expect(
        VERTICES,
        "1 - 11,12,15,16,18,12 - (11,12)#(15,16)#(18,12)\n2 - a,b,c - (a,b,c)\n",
    );
    // As the original's clients send it: padded with zeros, or without an end.
    let mut padded = b"eventnet_edgemsg#3#4#".to_vec();
    padded.resize(3000, 0);
    let mut other = Client::connect();
    other.send(&padded);
    assert_eq!(other.answer(), UPDATED);
    let mut bare = Client::connect();
    bare.send(b"eventnet_edgemsg#4#5#");
    bare.end();
    assert_eq!(bare.answer(), UPDATED);
    folder.expect(EDGES, "1,2\n5,8\n5,8\n3,4\n4,5\n");
}

#[test]
fn what_is_no_message_is_told_why() {
    let folder = Folder::new("refused");
    let _ours = ours(&folder, "");
    let mut client = Client::connect();
    let long = "x".repeat(121);
    let list = "y".repeat(4097);
    for (line, error) in [
        ("hello", "ERR ENOSYS "),
        ("eventnet_edgemsg#1#", "ERR EINVAL 1 fields"),
        ("eventnet_edgemsg#1#2#3#4#", "ERR EINVAL 4 fields"),
        ("eventnet_edgemsg#a,b#2#", "ERR EINVAL a name has no ,"),
        ("eventnet_vertexmsg#1-2#3#4#", "ERR EINVAL a name has no -"),
        ("eventnet_vertexmsg#1#2#", "ERR EINVAL 2 fields"),
        ("eventnet_vertexmsg#1#(2)#3#", "ERR EINVAL a name has no ("),
        ("eventnet_vertexmsg##2#3#", "ERR EINVAL a name is empty"),
        (
            &format!("eventnet_edgemsg#{long}#2#"),
            "ERR EMSGSIZE a name has 120",
        ),
        (
            &format!("eventnet_vertexmsg#1#{list}#2#"),
            "ERR EMSGSIZE a list has 4096",
        ),
    ] {
        let answer = client.ask(line);
        assert!(answer.starts_with(error), "{line}: {answer}");
        assert!(answer.ends_with("\r\n"));
    }
    // A name of 64 KiB ends the connection, with the bound.
    let huge = "z".repeat(64 << 10);
    client.send(format!("eventnet_edgemsg#{huge}#2#\r\n").as_bytes());
    assert!(client
        .answer()
        .starts_with("ERR EMSGSIZE a message has 8704"));
    assert_eq!(client.try_answer().ok().flatten(), None);
    // The next is served, and nothing of all that is in the files.
    Client::connect().update("eventnet_edgemsg#1#2#");
    folder.expect(EDGES, "1,2\n");
    assert_eq!(folder.text(VERTICES), "");
}

/// Writers at once, on events that they share and on their own: nothing is lost, nothing is there
/// twice, nothing is torn.
#[test]
fn many_writers_at_once() {
    const WRITERS: usize = 12;
    const EACH: usize = 40;
    let folder = Folder::new("writers");
    let _ours = ours(&folder, "fsync=never");
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let mut client = Client::connect();
                for n in 0..EACH {
                    client.update(&format!(
                        "eventnet_vertexmsg#shared{}#w{writer}#n{n}#",
                        n % 5
                    ));
                    client.update(&format!(
                        "eventnet_vertexmsg#own{writer}.{n}#w{writer}#n{n}#"
                    ));
                    client.update(&format!(
                        "eventnet_edgemsg#shared{}#own{writer}.{n}#",
                        n % 5
                    ));
                }
            });
        }
    });
    let lines = WRITERS * EACH + 5;
    let whole = || {
        let text = folder.text(VERTICES);
        text.lines().count() == lines && text.matches('(').count() == 2 * WRITERS * EACH
    };
    assert!(wait_until(SOON, whole), "{}", folder.text(VERTICES).len());
    let mut conversations = BTreeMap::new();
    for line in folder.text(VERTICES).lines() {
        let parts: Vec<&str> = line.split(" - ").collect();
        let [id, partakers, talks] = parts[..] else {
            panic!("torn: {line}");
        };
        let talks: Vec<String> = talks.split('#').map(str::to_owned).collect();
        let flat: Vec<String> = talks
            .iter()
            .map(|talk| {
                let inner = talk.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
                inner.unwrap_or_else(|| panic!("torn: {line}")).to_owned()
            })
            .collect();
        assert_eq!(partakers, flat.join(","));
        assert!(
            conversations.insert(id.to_owned(), flat).is_none(),
            "{id} twice"
        );
    }
    for writer in 0..WRITERS {
        for n in 0..EACH {
            let talk = format!("w{writer},n{n}");
            assert_eq!(conversations[&format!("own{writer}.{n}")], [talk.clone()]);
            let shared = &conversations[&format!("shared{}", n % 5)];
            assert_eq!(shared.iter().filter(|t| **t == talk).count(), 1, "{talk}");
        }
    }
    let text = folder.text(EDGES);
    let edges: BTreeSet<&str> = text.lines().collect();
    assert_eq!(edges.len(), WRITERS * EACH);
    assert_eq!(text.lines().count(), WRITERS * EACH);
}

#[test]
fn all_of_it_is_there_after_a_load() {
    let folder = Folder::new("reload");
    let machine = ours(&folder, "");
    let mut client = Client::connect();
    client.update("eventnet_vertexmsg#1#11#12#");
    client.update("eventnet_edgemsg#1#2#");
    drop(client);
    unload();
    load(&folder, "");
    let mut client = Client::connect();
    client.update("eventnet_vertexmsg#1#15#16#");
    folder.expect(VERTICES, "1 - 11,12,15,16 - (11,12)#(15,16)\n");
    drop(client);
    unload();

    // Somebody wrote into a text file, and the other is gone: they are made anew.
    fs::write(folder.path.join(VERTICES), "nonsense").expect("write");
    fs::remove_file(folder.path.join(EDGES)).expect("remove");
    load(&folder, "");
    Client::connect().update("eventnet_edgemsg#2#3#");
    folder.expect(VERTICES, "1 - 11,12,15,16 - (11,12)#(15,16)\n");
    folder.expect(EDGES, "1,2\n2,3\n");
    unload();

    // A torn end, and a flipped bit: what is whole is read.
    let path = folder.path.join("EventNet.journal");
    let mut bytes = fs::read(&path).expect("the journal");
    let at = bytes
        .windows(2)
        .rposition(|w| w == b"16")
        .expect("the second");
    bytes[at] ^= 1;
    fs::write(&path, &bytes).expect("write");
    OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"VEV1\x30\0\0\0torn"))
        .expect("append");
    fs::remove_file(folder.path.join(EDGES)).expect("remove");
    load(&folder, "");
    Client::connect().update("eventnet_edgemsg#3#4#");
    folder.expect(VERTICES, "1 - 11,12 - (11,12)\n");
    folder.expect(EDGES, "1,2\n2,3\n3,4\n");
    unload();
    let edges: Vec<What> = folder.journal().into_iter().map(|told| told.what).collect();
    assert!(edges.contains(&What::Edge("3".into(), "4".into())));

    // Text files without a journal are somebody else's.
    fs::remove_file(&path).expect("remove");
    let parameters = format!("folder={}", folder.path.display());
    let refused = virgo_tests::module::load(crate::world::MODULE, &parameters);
    assert!(refused.is_err());
    assert_eq!(folder.text(VERTICES), "1 - 11,12 - (11,12)\n");
    drop(machine);
}
