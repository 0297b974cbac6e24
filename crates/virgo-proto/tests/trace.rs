// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The records of the page-fault trace, and what its file takes as text.

use proptest::prelude::*;
use virgo_proto::trace::{
    frame, parse_trace_command, whole, Area, Begin, Cause, Decoder, Encoder, End, Fault, Malformed,
    Map, Process, Record, TraceCommand, Why, AREA_ALL, FAULT_ALL, NAME_MAX, RECORD_MAX, SMALL_MAX,
    VERSION,
};

fn begin() -> Record<'static> {
    Record::Begin(Begin {
        version: VERSION,
        page_size: 4096,
        monotonic_ns: 123_456_789,
        realtime_ns: 1_700_000_000_000_000_000,
        pid: 42,
        flags: 0,
    })
}

/// A record that owns its name.
#[derive(Clone, Debug)]
enum Owned {
    Plain(Record<'static>),
    Area(Area<'static>, Vec<u8>),
    Exec(u64, u32, Vec<u8>),
}

impl Owned {
    fn record(&self) -> Record<'_> {
        match self {
            Owned::Plain(record) => *record,
            Owned::Area(area, name) => Record::Area(Area { name, ..*area }),
            Owned::Exec(time_ns, pid, path) => Record::Exec {
                time_ns: *time_ns,
                pid: *pid,
                path,
            },
        }
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100),
        proptest::collection::vec(any::<u8>(), NAME_MAX - 2..=NAME_MAX),
    ]
}

fn record() -> impl Strategy<Value = Owned> {
    let number = || prop_oneof![any::<u64>(), 0..1000_u64, Just(u64::MAX)];
    let fault = (
        number(),
        number(),
        number(),
        number(),
        any::<u32>(),
        any::<u32>(),
        0..=FAULT_ALL,
    )
        .prop_map(|(time_ns, latency_ns, address, ip, pid, tid, flags)| {
            Owned::Plain(Record::Fault(Fault {
                time_ns,
                latency_ns,
                address,
                ip,
                pid,
                tid,
                flags,
            }))
        });
    let area = (
        any::<u32>(),
        number(),
        0..u64::MAX,
        1..u64::MAX,
        0..=AREA_ALL,
        number(),
        any::<u32>(),
        (any::<u32>(), number(), name()),
    )
        .prop_map(
            |(pid, id, start, length, flags, offset, major, (minor, inode, name))| {
                let area = Area {
                    pid,
                    id,
                    start,
                    end: start.saturating_add(length),
                    flags,
                    offset,
                    major,
                    minor,
                    inode,
                    name: b"",
                };
                Owned::Area(area, name)
            },
        );
    let map = (number(), any::<u32>(), 0..4, number(), number()).prop_map(
        |(time_ns, pid, cause, start, end)| {
            let causes = [Cause::Start, Cause::Exec, Cause::Change, Cause::Again];
            Owned::Plain(Record::Map(Map {
                time_ns,
                pid,
                cause: causes[cause as usize],
                start,
                end,
            }))
        },
    );
    let process = (
        number(),
        any::<u32>(),
        any::<u32>(),
        any::<bool>(),
        number(),
        number(),
    )
        .prop_map(|(time_ns, pid, parent, shares_map, min_flt, maj_flt)| {
            Owned::Plain(Record::Process(Process {
                time_ns,
                pid,
                parent,
                shares_map,
                min_flt,
                maj_flt,
            }))
        });
    let end = (
        number(),
        any::<u32>(),
        prop_oneof![Just(Why::Exited), Just(Why::Stopped), Just(Why::Forbidden)],
        number(),
        number(),
        number(),
        number(),
    )
        .prop_map(|(time_ns, pid, why, min_flt, maj_flt, recorded, dropped)| {
            Owned::Plain(Record::End(End {
                time_ns,
                pid,
                why,
                min_flt,
                maj_flt,
                recorded,
                dropped,
            }))
        });
    prop_oneof![
        4 => fault,
        2 => area,
        1 => map,
        1 => process,
        1 => end,
        1 => any::<u32>().prop_map(|pid| Owned::Plain(Record::MapEnd { pid })),
        1 => (number(), number()).prop_map(|(faults, maps)| Owned::Plain(Record::Dropped { faults, maps })),
        1 => (number(), any::<u32>(), name()).prop_map(|(time_ns, pid, path)| Owned::Exec(time_ns, pid, path)),
    ]
}

fn encode(records: &[Record<'_>]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut bytes = Vec::new();
    for record in records {
        let mut room = [0_u8; RECORD_MAX];
        let length = encoder.encode(record, &mut room).unwrap();
        bytes.extend_from_slice(&room[..length]);
    }
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in proptest::collection::vec(record(), 0..20)) {
        let mut all = vec![begin()];
        all.extend(records.iter().map(Owned::record));
        let bytes = encode(&all);
        let mut decoder = Decoder::new();
        let mut rest = &bytes[..];
        for record in &all {
            let (read, used) = decoder.next(rest).unwrap().unwrap();
            prop_assert_eq!(&read, record);
            prop_assert_eq!(frame(rest), Ok(Some(used)));
            rest = &rest[used..];
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(decoder.next(rest), Ok(None));
    }

    #[test]
    fn a_cut_stream_has_no_record_too_many(records in proptest::collection::vec(record(), 1..6), cut in any::<prop::sample::Index>()) {
        let mut all = vec![begin()];
        all.extend(records.iter().map(Owned::record));
        let bytes = encode(&all);
        let bytes = &bytes[..cut.index(bytes.len())];
        let mut decoder = Decoder::new();
        let mut rest = bytes;
        let mut count = 0;
        while let Some((record, used)) = decoder.next(rest).unwrap() {
            prop_assert_eq!(record, all[count]);
            count += 1;
            rest = &rest[used..];
        }
        prop_assert_eq!(whole(bytes, bytes.len().saturating_sub(1)) <= bytes.len(), true);
    }

    #[test]
    fn whole_records_fit(records in proptest::collection::vec(record(), 1..6), room in 0..20_000_usize) {
        let mut all = vec![begin()];
        all.extend(records.iter().map(Owned::record));
        let bytes = encode(&all);
        let used = whole(&bytes, room);
        prop_assert!(used <= room && used <= bytes.len());
        // The next one would not have fitted.
        if used < bytes.len() {
            let next = frame(&bytes[used..]).unwrap().unwrap();
            prop_assert!(used + next > room);
        }
    }

    #[test]
    fn takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut decoder = Decoder::new();
        let mut all = encode(&[begin()]);
        all.extend_from_slice(&bytes);
        let mut rest = &all[..];
        while let Ok(Some((_, used))) = decoder.next(rest) {
            prop_assert!(used > 0);
            rest = &rest[used..];
        }
        let _ = Decoder::new().next(&bytes);
        let _ = whole(&bytes, 17);
    }

    #[test]
    fn takes_any_text(text in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = parse_trace_command(&text);
    }

    #[test]
    fn small_records_are_small(record in record()) {
        let mut room = [0_u8; SMALL_MAX];
        let record = record.record();
        let named = matches!(record, Record::Area(_) | Record::Exec { .. });
        prop_assert!(named || Encoder::new().encode(&record, &mut room).is_some());
    }

    #[test]
    fn without_room_nothing_changes(record in record(), room in 0..SMALL_MAX) {
        let mut room = vec![0_u8; room];
        let mut encoder = Encoder::new();
        if encoder.encode(&record.record(), &mut room).is_none() {
            prop_assert_eq!(format!("{encoder:?}"), format!("{:?}", Encoder::new()));
        }
    }
}

/// Bytes of a fault of 1,000, by that many threads by turns.
fn bytes_a_fault(threads: u32) -> usize {
    let mut encoder = Encoder::new();
    let mut room = [0; SMALL_MAX];
    let mut bytes = 0;
    for fault in 0..1000_u64 {
        // Each has a stack of its own, 8 MiB from the next.
        let thread = fault as u32 % threads;
        let fault = Fault {
            time_ns: 1_000_000_000 + fault * 8000,
            latency_ns: 2000,
            address: 0x7f00_0000_0000 + u64::from(thread) * (8 << 20) + fault * 4096,
            ip: 0x0055_5555_1234,
            pid: 1000,
            tid: 1000 + thread,
            flags: 0x17,
        };
        bytes += encoder.fault(&fault, &mut room).unwrap();
    }
    bytes
}

#[test]
fn a_loop_over_pages_takes_ten_bytes_a_fault_and_sixteen_by_threads() {
    let bytes = [1, 4, 64, 1000].map(bytes_a_fault);
    // The first one tells where all differences start.
    assert!(
        bytes[0] < 10_050 && bytes[1..].iter().all(|bytes| *bytes < 16_050),
        "{bytes:?}"
    );
}

#[test]
fn says_what_is_wrong() {
    assert_eq!(Decoder::new().next(b""), Ok(None));
    assert_eq!(Decoder::new().next(b"\x80"), Ok(None));
    assert_eq!(Decoder::new().next(b"\x05\x01"), Ok(None));
    assert_eq!(Decoder::new().next(b"\0\0"), Err(Malformed::Length));
    assert_eq!(Decoder::new().next(b"\xff\xff"), Err(Malformed::Length));
    assert_eq!(Decoder::new().next(b"\xff\x7f"), Err(Malformed::Length));
    assert_eq!(
        Decoder::new().next(b"\x09\x01ELF     "),
        Err(Malformed::Magic)
    );
    assert_eq!(
        Decoder::new().next(b"\x02\x05\x01"),
        Err(Malformed::Magic),
        "no trace begins so"
    );
    assert_eq!(
        Decoder::new().next(b"\x0a\x01VIRGOTRC\x01"),
        Err(Malformed::Version)
    );
    let mut decoder = Decoder::new();
    assert!(decoder.next(&encode(&[begin()])).is_ok());
    assert_eq!(decoder.next(b"\x01\x7f"), Err(Malformed::Kind));
    assert_eq!(decoder.next(b"\x03\x05\x01\x01"), Err(Malformed::Fields));
    assert_eq!(decoder.next(b"\x01\x05"), Err(Malformed::Fields));
    // Faults: four fields of a byte each; one of two bytes; one byte short, and one too many; with
    // a process and a thread; the thread alone; a flag that there is not; a thread below 0.
    let faults: &[(&[u8], bool)] = &[
        (b"\x06\x85\x00\x02\x04\x06\x07", true),
        (b"\x07\x85\x01\x02\x00\x04\x06\x07", true),
        (b"\x05\x85\x00\x02\x04\x06", false),
        (b"\x07\x85\x00\x02\x04\x06\x07\x08", false),
        (
            b"\x0c\xc5\x00\x0f\x07\x00\x00\x00\x02\x02\x04\x06\x07",
            true,
        ),
        (b"\x08\xc5\x00\x00\x04\x02\x04\x06\x07", true),
        (b"\x08\xc5\x00\x40\x04\x02\x04\x06\x07", false),
        (b"\x08\xc5\x00\x00\xff\x02\x04\x06\x07", false),
    ];
    for (bytes, good) in faults {
        let read = decoder.next(bytes);
        assert_eq!(read.is_ok(), *good, "{bytes:x?}: {read:?}");
    }
}

#[test]
fn text() {
    let start = |pid, follow| Some(TraceCommand::Start { pid, follow });
    let cases: &[(&[u8], Option<TraceCommand>)] = &[
        (b"1", start(None, false)),
        (b"1\n", start(None, false)),
        (b"1\0", start(None, false)),
        (b"0", Some(TraceCommand::Stop)),
        (b"0\n", Some(TraceCommand::Stop)),
        (b"1 4711\n", start(Some(4711), false)),
        (b"1 4711 follow", start(Some(4711), true)),
        (b"1 follow", start(None, true)),
        (b"1 follow 4711", None),
        (b"1 1 2", None),
        (b"1 -1", None),
        (b"1 0", None),
        (b"0 4711", None),
        (b"2", None),
        (b"", None),
        (b"\n", None),
        (b"follow", None),
        (b"1 follow follow", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_trace_command(text), *expected, "{text:?}");
    }
}
