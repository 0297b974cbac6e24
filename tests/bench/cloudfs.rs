// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What file operations cost on a mount, and whether they do what they should; for
//! `scripts/bench-cloudfs` and `scripts/prove-cloudfs`, which mount the servers.
//!
//! `ops FOLDER N`: nanoseconds of each kind of operation, N times each (instructions, under
//! `tests/vm run --icount`). `seq FOLDER MIB`: seconds to write and to read so much. `fsx FOLDER N`:
//! N random operations on one file, each compared with what memory says the file holds.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (verb, folder, count) = match words.as_slice() {
        [verb, folder, count] => (verb.as_str(), Path::new(folder), count.parse().unwrap_or(0)),
        _ => {
            eprintln!("usage: bench-cloudfs ops|seq|fsx FOLDER COUNT");
            return ExitCode::from(2);
        }
    };
    match verb {
        "ops" => ops(folder, count),
        "seq" => seq(folder, count),
        "fsx" => fsx(folder, count),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn measure(name: &str, count: usize, mut operation: impl FnMut(usize)) {
    let start = Instant::now();
    for index in 0..count {
        operation(index);
    }
    println!(
        "{name} {:.0}",
        start.elapsed().as_nanos() as f64 / count as f64
    );
}

fn ops(folder: &Path, count: usize) {
    let path = |index: usize| folder.join(format!("f{index}"));
    measure("create", count, |i| {
        drop(File::create(path(i)).expect("create"))
    });
    measure("stat", count, |i| {
        black_box(fs::metadata(path(i)).expect("stat"));
    });
    measure("open", count, |i| drop(File::open(path(i)).expect("open")));
    measure("unlink", count, |i| {
        fs::remove_file(path(i)).expect("unlink")
    });
    let big = folder.join("big");
    let mut file = File::create(&big).expect("create");
    let data = vec![7; 1 << 20];
    file.write_all(&data).expect("write");
    file.sync_all().expect("fsync");
    measure("pwrite4k", count, |i| {
        file.write_all_at(&data[..4096], (i % 256) as u64 * 4096)
            .expect("write");
    });
    measure("pwrite64k", count / 4, |i| {
        file.write_all_at(&data[..65536], (i % 16) as u64 * 65536)
            .expect("write");
    });
    file.sync_all().expect("fsync");
    drop(file);
    // Past the client's cache, where there is one: the cost of the server is wanted. Aligned, as
    // O_DIRECT asks for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&big)
        .expect("open");
    let mut buffer = vec![0; 65536 + 4096];
    let skip = buffer.as_ptr().align_offset(4096);
    let aligned = &mut buffer[skip..skip + 65536];
    measure("pread4k", count, |i| {
        file.read_exact_at(&mut aligned[..4096], (i % 256) as u64 * 4096)
            .expect("read");
    });
    measure("pread64k", count / 4, |i| {
        file.read_exact_at(aligned, (i % 16) as u64 * 65536)
            .expect("read");
    });
    fs::remove_file(&big).expect("unlink");
}

fn seq(folder: &Path, mib: usize) {
    let path = folder.join("seq");
    let data = vec![7; 1 << 20];
    let start = Instant::now();
    let mut file = File::create(&path).expect("create");
    for _ in 0..mib {
        file.write_all(&data).expect("write");
    }
    file.sync_all().expect("fsync");
    println!("write {:.3}", start.elapsed().as_secs_f64());
    drop(file);
    let mut file = File::open(&path).expect("open");
    let mut buffer = vec![0; 1 << 20];
    let start = Instant::now();
    let mut all = 0;
    while let Ok(count @ 1..) = file.read(&mut buffer) {
        all += count;
        black_box(&buffer);
    }
    assert_eq!(all, mib << 20);
    println!("read {:.3}", start.elapsed().as_secs_f64());
    fs::remove_file(&path).expect("unlink");
}

/// Random reads, writes, truncations, appends and new openings of one file.
fn fsx(folder: &Path, count: usize) {
    const MOST: usize = 256 << 10;
    let path = folder.join("fsx");
    let _ = fs::remove_file(&path);
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(&path).expect("open")
    };
    let mut file = open();
    let mut model: Vec<u8> = Vec::new();
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for number in 0..count {
        let (at, length) = (random(MOST), random(64 << 10) + 1);
        match random(10) {
            0..=3 => {
                let byte = random(256) as u8;
                let data: Vec<u8> = (0..length).map(|i| byte.wrapping_add(i as u8)).collect();
                file.write_all_at(&data, at as u64).expect("write");
                if model.len() < at + length {
                    model.resize(at + length, 0);
                }
                model[at..at + length].copy_from_slice(&data);
            }
            4..=7 => {
                let mut buffer = vec![0; length];
                let mut read = 0;
                while let Ok(more @ 1..) = file.read_at(&mut buffer[read..], (at + read) as u64) {
                    read += more;
                }
                let end = model.len().min(at + length);
                let expected = model.get(at..end).unwrap_or(&[]);
                assert!(
                    buffer[..read] == *expected,
                    "operation {number}: read at {at} of {length}"
                );
            }
            8 => {
                let size = random(MOST);
                file.set_len(size as u64).expect("truncate");
                model.resize(size, 0);
            }
            _ => {
                if random(4) == 0 {
                    file.sync_all().expect("fsync");
                }
                drop(file);
                file = open();
                let size = file.metadata().expect("stat").len();
                assert_eq!(size, model.len() as u64, "operation {number}: size");
            }
        }
    }
    drop(file);
    assert!(fs::read(&path).expect("read") == model, "in the end");
    fs::remove_file(&path).expect("unlink");
    println!("fsx {count}");
}
