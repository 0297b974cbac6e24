// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! modules/lib checked from the inside, by the module virgo-libtest.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const PROC: &str = "/proc/virgo/libtest";

fn run(program: &str, argument: &str) -> Output {
    Command::new(program)
        .arg(argument)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn loaded() -> bool {
    Path::new("/sys/module/virgo_libtest").exists()
}

fn load() {
    if !loaded() {
        // It takes a place in the registry that is another's, and looks for one that is not there.
        let output = Command::new("unload").output().expect("unload");
        assert!(output.status.success(), "{}", said(&output));
        for (program, argument) in [
            ("load", "virgo-core"),
            ("insmod", "/virgo/ko/virgo-libtest.ko"),
        ] {
            let output = run(program, argument);
            assert!(output.status.success(), "{}", said(&output));
        }
    }
}

/// Asks /dev/virgo for the module's own command, which it answers with 42.
fn own_command() -> std::io::Result<i32> {
    use std::os::fd::AsRawFd as _;
    let device = fs::File::open(virgo_proto::uapi::DEVICE)?;
    let command = (virgo_proto::uapi::IOC_MAGIC << 8) | 0x10;
    // SAFETY: The command takes no argument.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), command as libc::Ioctl, 0) };
    if answer < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(answer)
}

#[test]
fn every_check_of_the_module_passes() {
    load();
    let root = Path::new("/tmp/libtest-root");
    if !root.exists() {
        fs::create_dir(root).expect("make the folder");
        fs::write(root.join("in"), "x").expect("write a file");
        std::os::unix::fs::symlink("/etc/passwd", root.join("out")).expect("make a link");
        std::os::unix::fs::symlink("/etc", root.join("etc")).expect("make a link");
    }
    let told = fs::read_to_string(PROC).expect("the module's file");
    let failed: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("ok "))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(told.lines().count() >= 10, "checks are missing:\n{told}");
}

#[test]
fn a_module_whose_service_is_in_use_stays() {
    load();
    fs::write(PROC, "hold\n").expect("take hold of the service");
    let refused = run("rmmod", "virgo_libtest");
    assert!(!refused.status.success() && loaded());
    assert!(said(&refused).contains("in use"), "{}", said(&refused));
    fs::write(PROC, "release\n").expect("let go of the service");
    let done = run("rmmod", "virgo_libtest");
    assert!(done.status.success() && !loaded(), "{}", said(&done));
}

#[test]
fn another_module_pushes_requests_and_pops_them() {
    load();
    let absent = fs::write(PROC, "queue\n").expect_err("the queue is not loaded");
    assert_eq!(absent.raw_os_error(), Some(libc::ENODEV));
    // Push and pop are there without the port.
    let done = Command::new("insmod")
        .args(["/virgo/ko/virgo-queue.ko", "listen=0"])
        .output()
        .expect("insmod");
    assert!(done.status.success(), "{}", said(&done));
    fs::write(PROC, "queue\n").expect("requests go in and come out");
    let done = run("rmmod", "virgo_queue");
    assert!(done.status.success(), "{}", said(&done));
    let done = run("rmmod", "virgo_libtest");
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn a_command_goes_to_its_module_while_that_is_loaded() {
    load();
    assert_eq!(own_command().expect("the module answers"), 42);
    let done = run("rmmod", "virgo_libtest");
    assert!(done.status.success(), "{}", said(&done));
    let error = own_command().expect_err("nobody is there to answer");
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
}
