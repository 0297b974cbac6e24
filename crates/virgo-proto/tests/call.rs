// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The words of port 10000.

use proptest::prelude::*;
use virgo_proto::call::{
    front, is_line, is_name, parse, parse_remote, Call, Front, LINE_MAX, NAME_MAX,
};

fn called<'a>(name: &'a str, input: &'a str) -> Option<Call<'a>> {
    Some(Call {
        name: name.as_bytes(),
        input: input.as_bytes(),
    })
}

#[test]
fn the_originals_words() {
    let sentence = b"virgo_cloud_test_kernelspace";
    assert_eq!(parse(sentence), called("virgo_cloud_test_kernelspace", ""));
    // The original's client ends it with a space.
    assert_eq!(
        parse(b"virgo_cloud_test_kernelspace "),
        called("virgo_cloud_test_kernelspace", "")
    );
    assert_eq!(
        parse(b"virgo_clone(\"clone_function\")"),
        called("clone_function", "")
    );
    assert_eq!(parse(b"primes(100)"), called("primes", "100"));
    assert_eq!(parse(b"primes 100"), called("primes", "100"));
    assert_eq!(parse(b"echo(a,(b),c)"), called("echo", "a,(b),c"));
    assert_eq!(parse(b"echo  a b "), called("echo", "a b"));
    assert_eq!(parse(b"echo()"), called("echo", ""));
}

#[test]
fn what_is_no_call() {
    for words in [
        &b""[..],
        b"(",
        b"echo(",
        b"7up",
        b"/bin/sh",
        b"a-b",
        b"\xff",
        b"virgo_clone(\"/bin/sh\")",
        b"virgo_clone()",
    ] {
        assert_eq!(parse(words), None, "{words:?}");
    }
    let long = vec![b'a'; NAME_MAX];
    assert!(is_name(&long) && !is_name(&[&long[..], b"a"].concat()));
}

#[test]
fn where_a_request_ends() {
    assert_eq!(front(b"abc\r\ndef"), Front::Request(b"abc", 5));
    assert_eq!(front(b"abc\0\0\0"), Front::Request(b"abc", 4));
    assert_eq!(front(b"abc\0x\n"), Front::Request(b"abc", 4));
    assert_eq!(front(b"\0\r\n\0abc"), Front::Skip(4));
    assert_eq!(front(b"abc"), Front::Part);
    assert_eq!(front(&vec![b'a'; LINE_MAX]), Front::Part);
    assert_eq!(front(&vec![b'a'; LINE_MAX + 3]), Front::TooLong);
    let mut longest = vec![b'a'; LINE_MAX];
    longest.push(b'\n');
    assert_eq!(
        front(&longest),
        Front::Request(&longest[..LINE_MAX], LINE_MAX + 1)
    );
}

#[test]
fn answers_of_one_line() {
    assert!(is_line(b"25") && is_line(b""));
    for output in [&b"a\nb"[..], b"\0", b"DATA 5", b"ERR x", &[b'a'; 5000]] {
        assert!(!is_line(output));
    }
}

proptest! {
    #[test]
    fn anything(data: Vec<u8>) {
        if let Front::Request(text, taken) = front(&data) {
            prop_assert!(taken > text.len() && taken <= data.len());
            let _ = parse(text);
        }
        let _ = parse_remote(&data);
    }

    #[test]
    fn remote_requests(name in "[a-z_][a-z0-9_]{0,62}", input: Vec<u8>) {
        let mut data = vec![name.len() as u8];
        data.extend_from_slice(name.as_bytes());
        data.extend_from_slice(&input);
        prop_assert_eq!(parse_remote(&data), Some(Call { name: name.as_bytes(), input: &input }));
    }
}
