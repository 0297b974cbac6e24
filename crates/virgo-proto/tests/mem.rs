// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The original's words for blocks.

use proptest::prelude::*;
use virgo_proto::mem::{handle, handle_text, parse, step, Request, Step, Wrong, LINE_MAX};
use virgo_proto::uapi::Vuid;

const ONE: Vuid = Vuid { word: [0, 1] };

#[test]
fn each_word() {
    let table: &[(&[u8], Result<Request<'_>, Wrong>)] = &[
        (b"virgo_cloud_malloc(100)", Ok(Request::Malloc(100))),
        (b"virgo_cloud_malloc(\"100\")", Ok(Request::Malloc(100))),
        (b"virgo_cloud_malloc( 7 ) and more", Ok(Request::Malloc(7))),
        (b"virgo_cloud_set(1,a b)", Ok(Request::Set(ONE, b"a b"))),
        (
            b"virgo_cloud_set(\"1\",\"q\")",
            Ok(Request::Set(ONE, b"\"q\"")),
        ),
        (b"virgo_cloud_set(1,)", Ok(Request::Set(ONE, b""))),
        (b"virgo_cloud_set(1,2,3)", Ok(Request::SetAt(ONE, 2, 3))),
        (b"virgo_cloud_get(1)", Ok(Request::Get(ONE))),
        (b"virgo_cloud_get(1,2,3)", Ok(Request::GetAt(ONE, 2, 3))),
        (b"virgo_cloud_free(1)", Ok(Request::Free(ONE))),
        (b"virgo_cloud_malloc()", Err(Wrong::Number)),
        (
            b"virgo_cloud_malloc(18446744073709551616)",
            Err(Wrong::Number),
        ),
        (b"virgo_cloud_malloc(1,2)", Err(Wrong::Arguments)),
        (b"virgo_cloud_malloc(1", Err(Wrong::Arguments)),
        (b"virgo_cloud_malloc", Err(Wrong::Arguments)),
        (b"virgo_cloud_get(0x1)", Err(Wrong::Handle)),
        (b"virgo_cloud_get()", Err(Wrong::Handle)),
        (
            b"virgo_cloud_get(100000000000000000000000000000000)",
            Err(Wrong::Handle),
        ),
        (b"virgo_cloud_get(1,2)", Err(Wrong::Arguments)),
        (b"virgo_cloud_set(1,2,3,4)", Err(Wrong::Arguments)),
        (b"virgo_cloud_realloc(1)", Err(Wrong::Word)),
        (b"virgo_cloud_(1)", Err(Wrong::Word)),
        (b"malloc(1)", Err(Wrong::Word)),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text), *expected, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn ends() {
    let whole = |request, taken| Step::Whole(Ok(request), taken);
    assert_eq!(
        step(b"virgo_cloud_get(1)\r\nx"),
        whole(Request::Get(ONE), 20)
    );
    assert_eq!(step(b"virgo_cloud_get(1)\nx"), whole(Request::Get(ONE), 19));
    assert_eq!(
        step(b"virgo_cloud_get(1)\0\0"),
        whole(Request::Get(ONE), 19)
    );
    assert_eq!(step(b"virgo_cloud_get(1)"), Step::Part);
    let mut long = b"virgo_cloud_set(1,".to_vec();
    long.resize(LINE_MAX + 10, b'x');
    assert_eq!(step(&long), Step::TooLong);
}

proptest! {
    #[test]
    fn handles_round_trip(word in any::<[u64; 2]>()) {
        let vuid = Vuid { word };
        prop_assert_eq!(handle(&handle_text(&vuid)), Ok(vuid));
    }

    #[test]
    fn total_and_within_the_input(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Step::Whole(_, taken) = step(&text) {
            prop_assert!(taken > 0 && taken <= text.len());
        }
    }

    #[test]
    fn total_near_a_request(at in 0usize..60, byte: u8, cut in 0usize..60) {
        let mut text = b"virgo_cloud_set(00000000000000010000000000000002,10,20)\r\n".to_vec();
        if let Some(place) = text.get_mut(at) {
            *place = byte;
        }
        text.truncate(cut);
        if let Step::Whole(_, taken) = step(&text) {
            prop_assert!(taken <= text.len());
        }
    }
}
