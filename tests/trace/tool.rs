// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! What is reached by the tool alone: attaching, the original's command, what `show` and `heat`
//! print; and programs of another size.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{symlink, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use virgo::trace::{History, FAULT_FIRST, FAULT_MAJOR, FAULT_OTHER, FAULT_USER, FAULT_WRITE};
use virgo_tests::child::Child;
use virgo_tests::sys::{self, Area, Mapping, PAGE};
use virgo_tests::{wait_until, SOON};

use crate::{check_counts, waiting};

const VIRGO: &str = "/virgo/bin/virgo";

/// A file for one test, gone with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("virgo-{name}"));
        let _ = fs::remove_file(&path);
        Scratch(path)
    }

    fn history(&self) -> History {
        let history = History::read(File::open(&self.0).expect("the trace")).expect("a trace");
        check_counts(&history);
        history
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// What a command of the tool prints.
fn virgo(words: &[&str], trace: &Scratch) -> String {
    let output = Command::new(VIRGO)
        .args(words)
        .arg(trace.as_ref())
        .output()
        .expect("virgo runs");
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn major_faults_are_told_from_minor_ones() {
    // On the disk, in nobody's use, and longer than what is read.
    const LENGTH: usize = 1 << 20;
    let path = Path::new("/var/tmp/virgo-major");
    fs::write(path, vec![7; LENGTH]).expect("a file on the disk");
    let file = File::open(path).expect("the file");
    file.sync_all().expect("written back");
    sys::drop_cached(&file);
    let mut start = 0;
    let mut child = waiting("major", |parent| {
        let file = File::open("/var/tmp/virgo-major").expect("the file");
        let area = Mapping::new(&file, LENGTH, libc::PROT_READ, libc::MAP_PRIVATE, 0)
            .expect("the file is mapped");
        // Each page by itself, no others with it.
        area.advise(libc::MADV_RANDOM).expect("madvise");
        parent.say(area.address() as u64);
        parent.hear();
        let mut sum = 0;
        for round in 0..2 {
            for at in (0..LENGTH).step_by(16 * PAGE) {
                sum += area.word(at + round * 8) & 1;
            }
        }
        i32::from(sum != 2 * (LENGTH / PAGE / 16) as u64)
    });
    let trace = virgo::trace::TraceFile::open().expect("the file opens");
    trace
        .start(virgo::trace::Target::Process(child.pid), false, 0)
        .expect("the trace starts");
    child.say(1);
    start += child.hear();
    child.say(1);
    let history = History::read(trace).expect("a trace");
    assert_eq!(child.wait().code, Some(0));
    let _ = fs::remove_file(path);
    check_counts(&history);
    let inside: Vec<_> = history
        .faults
        .iter()
        .filter(|fault| (start..start + LENGTH as u64).contains(&fault.address))
        .collect();
    // A page that had to be read is one fault in the count, and may be tried twice.
    let major: BTreeSet<u64> = inside
        .iter()
        .filter(|fault| fault.is(FAULT_MAJOR))
        .map(|fault| (fault.address - start) / PAGE as u64)
        .collect();
    let expected: BTreeSet<u64> = (0..(LENGTH / PAGE) as u64).step_by(16).collect();
    assert_eq!(major, expected, "{inside:?}");
    assert!(history.ends[0].maj_flt >= expected.len() as u64);
}

/// A program for the 32-bit machine, by hand: writes to 64 pages at 0x08100000, and ends with 5.
fn program_of_32_bits() -> Vec<u8> {
    const TEXT: u32 = 0x0804_8000;
    const DATA: u32 = 0x0810_0000;
    const CODE: [u8; 30] = [
        0xb8, 0x00, 0x00, 0x10, 0x08, // mov $0x08100000, %eax
        0xb9, 0x40, 0x00, 0x00, 0x00, // mov $64, %ecx
        0xc6, 0x00, 0x01, // 1: movb $1, (%eax)
        0x05, 0x00, 0x10, 0x00, 0x00, // add $4096, %eax
        0x49, // dec %ecx
        0x75, 0xf5, // jnz 1b
        0x6a, 0x01, 0x58, // push $1; pop %eax (exit)
        0x6a, 0x05, 0x5b, // push $5; pop %ebx
        0xcd, 0x80, // int $0x80
        0x90,
    ];
    let headers = 52 + 2 * 32;
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut half = |value: u16| file.extend(value.to_le_bytes());
    // An executable for the 386.
    half(2);
    half(3);
    let mut word = |value: u32| file.extend(value.to_le_bytes());
    for value in [1, TEXT + headers, 52, 0, 0] {
        word(value);
    }
    let mut half = |value: u16| file.extend(value.to_le_bytes());
    for value in [52, 32, 2, 0, 0, 0] {
        half(value);
    }
    let length = headers + CODE.len() as u32;
    let mut word = |value: u32| file.extend(value.to_le_bytes());
    for value in [1, 0, TEXT, TEXT, length, length, 5, 0x1000] {
        word(value);
    }
    for value in [1, 0, DATA, DATA, 0, 64 * PAGE as u32, 6, 0x1000] {
        word(value);
    }
    file.extend(CODE);
    file
}

#[test]
fn a_program_of_32_bits() {
    let program = Scratch::new("program32");
    fs::write(&program, program_of_32_bits()).expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    let out = Scratch::new("32.trace");
    let output = Command::new(VIRGO)
        .args(["trace", "run"])
        .arg(out.as_ref())
        .arg("--")
        .arg(program.as_ref())
        .output()
        .expect("virgo runs");
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let history = out.history();
    let touched: Vec<u64> = history
        .faults
        .iter()
        .filter(|fault| fault.is(FAULT_WRITE) && fault.is(FAULT_USER) && fault.is(FAULT_FIRST))
        .map(|fault| fault.address)
        .filter(|address| (0x0810_0000..0x0814_0000).contains(address))
        .collect();
    let expected: Vec<u64> = (0..64)
        .map(|page| 0x0810_0000 + page * PAGE as u64)
        .collect();
    assert_eq!(touched, expected);
    let execs: Vec<_> = history.execs.iter().collect();
    assert!(!execs.is_empty(), "{:?}", history.execs);
}

/// A process that touches 300 pages whenever it is told to, until it hears 0.
fn worker() -> Child {
    waiting("worker", |parent| loop {
        let mut area = Area::new(300);
        area.touch(0, 300);
        parent.say(1);
        if parent.hear() == 0 {
            return 0;
        }
    })
}

/// Begins to trace a process by `virgo trace attach`, and waits until it does.
fn attach(child: &Child, out: &Scratch, words: &[&str]) -> std::process::Child {
    let tool = Command::new(VIRGO)
        .args(["trace", "attach", &child.pid.to_string(), "-o"])
        .arg(out.as_ref())
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("virgo runs");
    // The file has its first record when the trace has begun.
    assert!(
        wait_until(SOON, || fs::metadata(out).is_ok_and(|file| file.len() > 0)),
        "the trace begins"
    );
    tool
}

#[test]
fn attached_until_the_process_ends() {
    let mut child = worker();
    let out = Scratch::new("attach.trace");
    let tool = attach(&child, &out, &[]);
    child.say(1);
    child.hear();
    child.say(0);
    assert_eq!(child.wait().code, Some(0));
    let output = tool.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", said(&output));
    let history = out.history();
    assert_eq!(history.begin.pid, child.pid as u32);
    assert!(history.ends[0].min_flt >= 300, "{:?}", history.ends);
}

#[test]
fn attached_until_told_to_stop() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut child = worker();
        let out = Scratch::new("stop.trace");
        let tool = attach(&child, &out, &[]);
        child.say(1);
        child.hear();
        sys::kill(tool.id() as i32, signal).expect("a signal");
        let output = tool.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", said(&output));
        // What comes after is not in it.
        let before = out.history();
        child.say(1);
        child.hear();
        child.say(0);
        child.wait();
        assert!(
            (300..600).contains(&before.ends[0].min_flt),
            "{:?}",
            before.ends
        );
    }
}

#[test]
fn attached_for_a_time() {
    let mut child = worker();
    let out = Scratch::new("time.trace");
    let tool = attach(&child, &out, &["--duration", "0.5", "--json"]);
    let output = tool.wait_with_output().expect("it ends by itself");
    assert!(output.status.success(), "{}", said(&output));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(said.is_object(), "{said}");
    assert_eq!(out.history().ends.len(), 1);
    child.say(1);
    child.hear();
    child.say(0);
    assert_eq!(child.wait().code, Some(0));
}

#[test]
fn attaching_to_nobody_says_so() {
    let out = Scratch::new("nobody.trace");
    for (pid, word) in [
        ("4194303", "no such process"),
        ("0", "invalid"),
        ("x", "invalid"),
    ] {
        let output = Command::new(VIRGO)
            .args(["trace", "attach", pid, "-o"])
            .arg(out.as_ref())
            .output()
            .expect("virgo runs");
        assert!(!output.status.success());
        let text = said(&output).to_lowercase();
        assert!(text.contains(word), "{pid}: {text}");
    }
}

#[test]
fn the_originals_command_and_its_lines() {
    let name = Scratch::new("bin");
    let _ = fs::create_dir(&name);
    let link = name.as_ref().join("tracepgfault");
    let _ = fs::remove_file(&link);
    symlink(VIRGO, &link).expect("a link");
    let out = Scratch::new("classic.trace");
    let output = Command::new(&link)
        .arg(out.as_ref())
        .args(["ls", "-l", "/etc"])
        .output()
        .expect("it runs");
    let _ = fs::remove_dir_all(&name);
    assert!(output.status.success(), "{}", said(&output));
    let history = out.history();
    // Each line as the original's: "Region: bfb99000 - bfbaf000 (  22 pages): |....XX....|".
    let mut marks = 0;
    let text = virgo(&["trace", "show", "--color", "never"], &out);
    // A heading for each process and each program that it becomes.
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("Process "));
    for line in lines {
        let rest = line.strip_prefix("Region: ").expect(line);
        let (start, rest) = rest.split_once(" - ").expect(line);
        let (end, rest) = rest.split_once(" (").expect(line);
        let (pages, rest) = rest.split_once(" pages): |").expect(line);
        let (row, _) = rest.split_once('|').expect(line);
        let address = |word| u64::from_str_radix(word, 16).expect(line);
        let length = (address(end) - address(start)) / PAGE as u64;
        assert!(pages.len() >= 4, "{line}");
        assert_eq!(
            pages.trim_start().parse::<u64>().expect(line),
            length,
            "{line}"
        );
        assert_eq!(row.len() as u64, length, "{line}");
        assert!(
            row.bytes().all(|mark| matches!(mark, b'.' | b'X')),
            "{line}"
        );
        marks += row.bytes().filter(|mark| *mark == b'X').count();
    }
    let pages: BTreeSet<(u32, u64)> = history
        .faults
        .iter()
        .filter(|fault| !fault.is(FAULT_OTHER))
        .map(|fault| (fault.region, fault.address / PAGE as u64))
        .collect();
    assert_eq!(
        marks,
        pages.len(),
        "a mark for each page that faulted:\n{text}"
    );
}

#[test]
fn heat_names_functions() {
    let out = Scratch::new("heat.trace");
    let output = Command::new(VIRGO)
        .args(["trace", "run", "-q"])
        .arg(out.as_ref())
        .args([
            "--",
            "python3",
            "-c",
            "print(len([str(n) for n in range(50000)]))",
        ])
        .output()
        .expect("virgo runs");
    assert!(output.status.success(), "{}", said(&output));
    let history = out.history();
    let text = virgo(&["trace", "heat", "--json"], &out);
    let rows: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    let faults: u64 = rows
        .iter()
        .map(|row| row["faults"].as_u64().expect("a number"))
        .sum();
    assert_eq!(
        faults,
        history.faults.len() as u64,
        "each fault is somewhere"
    );
    // Debian's Python exports what its interpreter is made of, so it has these names, stripped or not.
    let named: u64 = rows
        .iter()
        .filter(|row| {
            row["function"]
                .as_str()
                .is_some_and(|name| name.starts_with("Py") || name.starts_with("_Py"))
        })
        .map(|row| row["faults"].as_u64().unwrap_or(0))
        .sum();
    assert!(named > 100, "{text}");
}
