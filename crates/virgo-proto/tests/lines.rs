// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Lines at the front of a stream of bytes.

use virgo_proto::lines::{find_lf, line, Line};

#[test]
fn table() {
    let whole = |text, taken| Line::Whole { text, taken };
    let cases: &[(&str, &[u8], usize, Line<'_>)] = &[
        ("nothing", b"", 10, Line::Part),
        ("empty line", b"\n", 0, whole(b"", 1)),
        ("empty line, CR", b"\r\n", 0, whole(b"", 2)),
        ("CR alone may become an end", b"\r", 0, Line::Part),
        ("LF", b"ab\ncd", 10, whole(b"ab", 3)),
        ("CR LF", b"ab\r\ncd", 10, whole(b"ab", 4)),
        ("CR within", b"a\rb\n", 10, whole(b"a\rb", 4)),
        ("two CRs", b"a\r\r\n", 10, whole(b"a\r", 4)),
        ("binary", b"\0\xff\n\n", 10, whole(b"\0\xff", 3)),
        ("at the limit", b"abc\r\n", 3, whole(b"abc", 5)),
        ("over it", b"abcd\n", 3, Line::TooLong),
        ("at the limit, in part", b"abc", 3, Line::Part),
        ("at the limit, CR to come", b"abc\r", 3, Line::Part),
        ("over it, in part", b"abcd", 3, Line::TooLong),
        (
            "over it by a CR that ends nothing",
            b"abc\rx",
            3,
            Line::TooLong,
        ),
        ("far over it", b"abcdefgh\n", 3, Line::TooLong),
        ("no limit", b"ab", usize::MAX, Line::Part),
    ];
    for (name, data, max, expected) in cases {
        assert_eq!(line(data, *max), *expected, "{name}");
    }
}

/// Whatever the bytes and the limit: an answer for a part stays true for the whole.
#[test]
fn every_short_input() {
    let letters = [b'a', b'\r', b'\n'];
    for length in 0..=7u32 {
        for number in 0..3usize.pow(length) {
            let data: Vec<u8> = (0..length)
                .map(|place| letters[number / 3usize.pow(place) % 3])
                .collect();
            for max in 0..=8 {
                let all = line(&data, max);
                if let Line::Whole { text, taken } = all {
                    assert!(text.len() <= max && taken > text.len());
                    assert_eq!(data[taken - 1], b'\n');
                    assert!(!text.contains(&b'\n'));
                }
                for cut in 0..data.len() {
                    match line(&data[..cut], max) {
                        Line::Part => {}
                        said => assert_eq!(said, all, "{data:?} cut at {cut}, max {max}"),
                    }
                }
            }
        }
    }
}

/// The quick search finds what a slow one does, among bytes that could mislead it.
#[test]
fn search() {
    let odd = [0, 1, 9, 10, 11, 0x0a ^ 0x80, 0x7f, 0x80, 0x8a, 0xff];
    let mut state = 1u64;
    for length in 0..40 {
        for _ in 0..2000 {
            let mut data = Vec::new();
            for _ in 0..length {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let byte: u8 = odd[(state >> 33) as usize % odd.len()];
                // Few of what is looked for, so that it is often far off.
                let rare = byte == b'\n' && (state >> 60) != 0;
                data.push(if rare { 9 } else { byte });
            }
            let slow = data.iter().position(|b| *b == b'\n');
            assert_eq!(find_lf(&data), slow, "{data:?}");
        }
    }
}
