// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-cloudfs's handles and lines.

use proptest::prelude::*;
use virgo_proto::files::{components, parse_order, Handle, Order, OrderError};

#[test]
fn lines_are_understood() {
    let write = |handle, data, count| Order::Write {
        handle,
        data,
        count,
    };
    let read = |handle, count, position| Order::Read {
        handle,
        count,
        position,
    };
    for (line, expected) in [
        (
            "virgo_cloud_open(/a/b c.txt)",
            Order::Open {
                path: b"/a/b c.txt",
            },
        ),
        ("  virgo_cloud_open(a(b))  ", Order::Open { path: b"a(b)" }),
        ("virgo_cloud_read(0,\"none\",250,0)", read(0, 250, 0)),
        ("virgo_cloud_read(0,header,250,7)", read(0, 250, 7)),
        ("virgo_cloud_read(\"0\",ssssss,\"250\",0)", read(0, 250, 0)),
        (
            "virgo_cloud_write(0,Appended_16July2015,250,0)",
            write(0, b"Appended_16July2015", 250),
        ),
        ("virgo_cloud_write(3,a,b),c,9,0)", write(3, b"a,b),c", 9)),
        ("virgo_cloud_write(3,,9,0)", write(3, b"", 9)),
        ("virgo_cloud_write(3, x ,9,0)", write(3, b" x ", 9)),
        (
            "virgo_cloud_close(18446744073709551615)",
            Order::Close { handle: u64::MAX },
        ),
        (
            "virgo_cloud_get(1, 2, 3)",
            Order::Get {
                handle: 1,
                count: 2,
                position: 3,
            },
        ),
        (
            "virgo_cloud_put(1,2)",
            Order::Put {
                handle: 1,
                count: 2,
            },
        ),
        ("help", Order::Help),
        ("quit", Order::Quit),
    ] {
        assert_eq!(parse_order(line.as_bytes()), Ok(expected), "{line}");
    }
    for (line, expected) in [
        ("", OrderError::Unknown),
        ("virgo_cloud_open", OrderError::Unknown),
        ("virgo_cloud_malloc(1)", OrderError::Unknown),
        ("virgo_cloud_open()", OrderError::Arguments),
        ("virgo_cloud_open(a", OrderError::Arguments),
        ("virgo_cloud_open(a) b", OrderError::Arguments),
        ("virgo_cloud_read(0,250,0)", OrderError::Arguments),
        ("virgo_cloud_write(0,250,0)", OrderError::Arguments),
        ("virgo_cloud_get(0,1)", OrderError::Arguments),
        ("virgo_cloud_close()", OrderError::Number),
        ("virgo_cloud_close(x)", OrderError::Number),
        (
            "virgo_cloud_close(18446744073709551616)",
            OrderError::Number,
        ),
        ("virgo_cloud_read(0,x,-1,0)", OrderError::Number),
        ("virgo_cloud_write(0,x,1,y)", OrderError::Number),
    ] {
        assert_eq!(parse_order(line.as_bytes()), Err(expected), "{line}");
    }
}

#[test]
fn paths_are_taken_apart() {
    let all = |path: &str| {
        components(path.as_bytes()).map(|parts| {
            parts
                .map(|p| String::from_utf8_lossy(p).into_owned())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(
        all("/a//./b/../c/"),
        Some(["a", "b", "..", "c"].map(String::from).to_vec())
    );
    assert_eq!(all("/"), Some(Vec::new()));
    assert_eq!(all("a\0b"), None);
}

proptest! {
    #[test]
    fn handles_are_numbers(node: u16, generation: u16, slot: u32) {
        let handle = Handle { node, generation, slot };
        prop_assert_eq!(Handle::from(u64::from(handle)), handle);
    }

    #[test]
    fn any_line(line in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse_order(&line);
        let mut named = b"virgo_cloud_write(".to_vec();
        named.extend_from_slice(&line);
        named.push(b')');
        let _ = parse_order(&named);
    }
}

#[test]
fn the_first_handles_are_the_originals() {
    for number in 0..3_u32 {
        let handle = Handle {
            node: 0,
            generation: 0,
            slot: number,
        };
        assert_eq!(u64::from(handle), u64::from(number));
    }
}
