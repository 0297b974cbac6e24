// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! The same system calls on the mounted folder and on a local one must do the same: what they
//! answer, and what is there in the end.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use crate::*;

/// A generator of numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(String, i32, u32),
    Write(usize, u64, usize, u8),
    Read(usize, u64, usize),
    Append(usize, usize, u8),
    Truncate(usize, u64),
    Close(usize),
    Mkdir(String, u32),
    Rmdir(String),
    Unlink(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String, String),
    Readlink(String),
    Stat(String),
    TruncatePath(String, u64),
    Chmod(String, u32),
    Utimes(String, i64),
    List(String),
}

/// What a step did: a number, the errno, or bytes.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done(i64),
    Failed(i32),
    Bytes(Vec<u8>),
    Facts(Vec<u64>),
    Names(Vec<Vec<u8>>),
}

/// A folder in which steps are done, with the files that they opened.
struct Field {
    root: PathBuf,
    open: BTreeMap<usize, i32>,
    next: usize,
}

fn check(result: i64) -> Outcome {
    if result < 0 {
        Outcome::Failed(virgo_tests::sys::last_errno().0)
    } else {
        Outcome::Done(result)
    }
}

impl Field {
    fn path(&self, name: &str) -> CString {
        CString::new(self.root.join(name).as_os_str().as_bytes()).expect("no NUL")
    }

    #[allow(clippy::too_many_lines, reason = "a line a system call")]
    fn step(&mut self, step: &Step) -> Outcome {
        // SAFETY (of all calls below): the paths are C strings, the buffers as long as said, and
        // numbers of files that are not open are refused.
        match step {
            Step::Open(name, flags, mode) => {
                let path = self.path(name);
                // SAFETY: See above.
                let fd = unsafe { libc::open(path.as_ptr(), *flags, *mode) };
                if fd < 0 {
                    return check(-1);
                }
                let number = self.next;
                self.next += 1;
                self.open.insert(number, fd);
                Outcome::Done(number as i64)
            }
            Step::Write(file, at, count, byte) => {
                let data = vec![*byte; *count];
                let fd = self.fd(*file);
                // SAFETY: See above.
                check(unsafe { libc::pwrite(fd, data.as_ptr().cast(), *count, *at as i64) } as i64)
            }
            Step::Append(file, count, byte) => {
                let data = vec![*byte; *count];
                let fd = self.fd(*file);
                // SAFETY: See above.
                let done = unsafe {
                    libc::lseek(fd, 0, libc::SEEK_END);
                    libc::write(fd, data.as_ptr().cast(), *count)
                };
                check(done as i64)
            }
            Step::Read(file, at, count) => {
                let mut data = vec![0; *count];
                let fd = self.fd(*file);
                // SAFETY: See above.
                let read = unsafe { libc::pread(fd, data.as_mut_ptr().cast(), *count, *at as i64) };
                if read < 0 {
                    return check(-1);
                }
                data.truncate(read as usize);
                Outcome::Bytes(data)
            }
            Step::Truncate(file, size) => {
                let fd = self.fd(*file);
                // SAFETY: See above.
                check(i64::from(unsafe { libc::ftruncate(fd, *size as i64) }))
            }
            Step::Close(file) => match self.open.remove(file) {
                // SAFETY: See above.
                Some(fd) => check(i64::from(unsafe { libc::close(fd) })),
                None => Outcome::Failed(EBADF),
            },
            Step::Mkdir(name, mode) => {
                // SAFETY: See above.
                check(i64::from(unsafe {
                    libc::mkdir(self.path(name).as_ptr(), *mode)
                }))
            }
            Step::Rmdir(name) => {
                // SAFETY: See above.
                check(i64::from(unsafe { libc::rmdir(self.path(name).as_ptr()) }))
            }
            Step::Unlink(name) => {
                // SAFETY: See above.
                check(i64::from(unsafe { libc::unlink(self.path(name).as_ptr()) }))
            }
            Step::Rename(old, new) => {
                let (old, new) = (self.path(old), self.path(new));
                // SAFETY: See above.
                check(i64::from(unsafe {
                    libc::rename(old.as_ptr(), new.as_ptr())
                }))
            }
            Step::Link(old, new) => {
                let (old, new) = (self.path(old), self.path(new));
                // SAFETY: See above.
                check(i64::from(unsafe { libc::link(old.as_ptr(), new.as_ptr()) }))
            }
            Step::Symlink(target, name) => {
                let target = CString::new(target.as_bytes()).expect("no NUL");
                let name = self.path(name);
                // SAFETY: See above.
                check(i64::from(unsafe {
                    libc::symlink(target.as_ptr(), name.as_ptr())
                }))
            }
            Step::Readlink(name) => match fs::read_link(self.root.join(name)) {
                Ok(target) => Outcome::Bytes(target.as_os_str().as_bytes().to_vec()),
                Err(error) => Outcome::Failed(error.raw_os_error().unwrap_or(0)),
            },
            Step::Stat(name) => match fs::symlink_metadata(self.root.join(name)) {
                Ok(meta) => {
                    // A folder's size and count of links are the file system's affair.
                    let dir = meta.is_dir();
                    Outcome::Facts(vec![
                        u64::from(meta.mode()),
                        if dir { 0 } else { meta.nlink() },
                        if dir { 0 } else { meta.size() },
                    ])
                }
                Err(error) => Outcome::Failed(error.raw_os_error().unwrap_or(0)),
            },
            Step::TruncatePath(name, size) => {
                // SAFETY: See above.
                let done = unsafe { libc::truncate(self.path(name).as_ptr(), *size as i64) };
                check(i64::from(done))
            }
            Step::Chmod(name, mode) => {
                // SAFETY: See above.
                check(i64::from(unsafe {
                    libc::chmod(self.path(name).as_ptr(), *mode)
                }))
            }
            Step::Utimes(name, sec) => {
                let time = libc::timespec {
                    tv_sec: *sec,
                    tv_nsec: 5,
                };
                let path = self.path(name);
                // SAFETY: See above.
                let done = unsafe {
                    libc::utimensat(
                        libc::AT_FDCWD,
                        path.as_ptr(),
                        [time, time].as_ptr(),
                        libc::AT_SYMLINK_NOFOLLOW,
                    )
                };
                if done < 0 {
                    return check(-1);
                }
                let meta = fs::symlink_metadata(self.root.join(name)).expect("it is there");
                Outcome::Done(meta.mtime())
            }
            Step::List(name) => match fs::read_dir(self.root.join(name)) {
                Ok(list) => {
                    let mut names: Vec<_> = list
                        .map(|entry| entry.expect("an entry").file_name().as_bytes().to_vec())
                        .collect();
                    names.sort();
                    Outcome::Names(names)
                }
                Err(error) => Outcome::Failed(error.raw_os_error().unwrap_or(0)),
            },
        }
    }

    fn fd(&self, number: usize) -> i32 {
        self.open.get(&number).copied().unwrap_or(-1)
    }

    /// Everything there is: names, modes, contents.
    fn all(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let meta = fs::symlink_metadata(&path).expect("stat");
                let content = if meta.is_dir() {
                    folders.push(path.clone());
                    Vec::new()
                } else if meta.is_symlink() {
                    let target = fs::read_link(&path).expect("readlink");
                    target.as_os_str().as_bytes().to_vec()
                } else {
                    fs::read(&path).expect("read")
                };
                let name = path.strip_prefix(&self.root).expect("below").to_path_buf();
                all.insert(name, (meta.mode(), content));
            }
        }
        all
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for fd in self.open.values() {
            // SAFETY: Ours.
            unsafe { libc::close(*fd) };
        }
    }
}

fn name(r: &mut Random) -> String {
    let parts = [
        "a",
        "b",
        "c",
        "d",
        "e",
        "a-name-that-is-longer-than-the-others",
    ];
    let mut pick = || parts[r.next(parts.len() as u64) as usize].to_string();
    let first = pick();
    let second = pick();
    match r.next(3) {
        0 => format!("{first}/{second}"),
        1 => format!("{first}/{second}/{}", parts[r.next(5) as usize]),
        _ => first,
    }
}

fn step(r: &mut Random, files: u64) -> Step {
    let file = |r: &mut Random| r.next(files.max(1)) as usize;
    match r.next(20) {
        0..=2 => {
            let access = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR][r.next(3) as usize];
            let extra = [
                0,
                libc::O_CREAT,
                libc::O_CREAT | libc::O_EXCL,
                libc::O_CREAT | libc::O_TRUNC,
                libc::O_APPEND | libc::O_CREAT,
                libc::O_TRUNC,
                libc::O_DIRECTORY,
                libc::O_NOFOLLOW,
            ][r.next(8) as usize];
            // Truncating what is opened to read is nobody's standard.
            let access = if extra & libc::O_TRUNC != 0 {
                libc::O_RDWR
            } else {
                access
            };
            Step::Open(name(r), access | extra, 0o644)
        }
        3 | 4 => Step::Write(
            file(r),
            r.next(100_000),
            r.next(20_000) as usize,
            r.next(256) as u8,
        ),
        5 | 6 => Step::Read(file(r), r.next(100_000), r.next(20_000) as usize),
        7 => Step::Append(file(r), r.next(5000) as usize, r.next(256) as u8),
        8 => Step::Truncate(file(r), r.next(120_000)),
        9 => Step::Close(file(r)),
        10 => Step::Mkdir(name(r), 0o777),
        11 => Step::Rmdir(name(r)),
        12 => Step::Unlink(name(r)),
        13 | 14 => Step::Rename(name(r), name(r)),
        15 => Step::Link(name(r), name(r)),
        16 => {
            if r.next(2) == 0 {
                Step::Symlink(name(r), name(r))
            } else {
                Step::Readlink(name(r))
            }
        }
        17 => Step::Stat(name(r)),
        18 => {
            if r.next(2) == 0 {
                Step::TruncatePath(name(r), r.next(50_000))
            } else {
                Step::Chmod(name(r), [0o700, 0o744, 0o755, 0o777][r.next(4) as usize])
            }
        }
        _ => {
            if r.next(2) == 0 {
                Step::Utimes(name(r), 1_000_000_000 + r.next(100_000_000) as i64)
            } else {
                Step::List(name(r))
            }
        }
    }
}

#[test]
fn the_same_steps_do_the_same() {
    let served = serve("");
    let mounted = Mounted::new("msize=65536");
    let steps = if virgo_tests::long() { 100_000 } else { 6_000 };
    let rounds = 3;
    for round in 0..rounds {
        let local = folder("local", 0);
        let remote = mounted.0.join(format!("round{round}"));
        fs::create_dir(&remote).expect("mkdir");
        let field = |root: PathBuf| Field {
            root,
            open: BTreeMap::new(),
            next: 0,
        };
        let (mut one, mut two) = (field(local), field(remote));
        let mut r = Random(0x9e37_79b9_7f4a_7c15 + round);
        let mut trace = Vec::new();
        for number in 0..steps / rounds {
            // Not too many open ones.
            let what = if one.open.len() > 40 {
                let first = *one.open.keys().next().expect("there are some");
                Step::Close(first)
            } else {
                step(&mut r, one.next as u64)
            };
            let (a, b) = (one.step(&what), two.step(&what));
            trace.push(format!("{what:?} -> {}", short(&a)));
            assert!(
                a == b,
                "round {round}, step {number}: {what:?}\nlocal  {}\nremote {}\nbefore:\n{}",
                short(&a),
                short(&b),
                trace[trace.len().saturating_sub(30)..].join("\n")
            );
        }
        let (a, b) = (one.all(), two.all());
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
        for (name, value) in &a {
            assert!(b[name] == *value, "{}", name.display());
        }
    }
    drop(mounted);
    drop(served);
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Bytes(bytes) => {
            let sum: u64 = bytes
                .iter()
                .enumerate()
                .map(|(i, b)| (i as u64 + 1) * u64::from(*b))
                .sum();
            format!("{} bytes, sum {sum}", bytes.len())
        }
        other => format!("{other:?}"),
    }
}
