// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
//! Loading each module with every allocation made to fail in turn.
//!
//! `/proc/thread-self/fail-nth` makes the Nth allocation that this thread asks for fail. It is set to
//! 1, 2, 3, … before a module is loaded, until a load ends without having come so far. Each of these
//! loads must either succeed, or fail and leave nothing: no module, no device, no file in /proc. That
//! nothing leaked or was used after it was freed is watched by the debug kernel, which this needs.
//!
//! Most allocations of a load are the kernel's own, before our init is called. The first that comes
//! later is searched for, by whether the kernel announced the load (its event `module:module_load`).

use std::ffi::{CStr, CString};
use std::fs;
use std::io::Error;
use std::path::Path;

const KO: &str = "/virgo/ko";
/// Not the suite's.
const TEST_MODULES: [&str; 3] = ["virgo-selftest", "virgo-libtest", "virgo-stale"];
const FAIL_NTH: &str = "/proc/thread-self/fail-nth";
/// More than any load can ask for.
const MOST: u32 = 20_000;

/// Loads a module from memory: no file is read in between, whose allocations would be counted too.
fn load(image: &[u8], fail_nth: u32) -> (Result<(), Error>, bool) {
    let parameters: &CStr = c"";
    if fail_nth > 0 {
        fs::write(FAIL_NTH, fail_nth.to_string()).expect("set fail-nth");
    }
    // SAFETY: the image and the parameters are readable for as long as the call takes.
    let status = unsafe {
        libc::syscall(
            libc::SYS_init_module,
            image.as_ptr(),
            image.len(),
            parameters.as_ptr(),
        )
    };
    let error = Error::last_os_error();
    // What is left of the count: nothing, if an allocation was made to fail.
    let left: u32 = fs::read_to_string(FAIL_NTH)
        .expect("read fail-nth")
        .trim()
        .parse()
        .expect("a number");
    fs::write(FAIL_NTH, "0").expect("reset fail-nth");
    let hit = fail_nth > 0 && left == 0;
    (if status == 0 { Ok(()) } else { Err(error) }, hit)
}

fn unload(module: &str) {
    let name = CString::new(module).expect("a name");
    // SAFETY: the name is a C string.
    let status = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    assert_eq!(status, 0, "unload {module}: {}", Error::last_os_error());
}

fn loaded() -> Vec<String> {
    let text = fs::read_to_string("/proc/modules").expect("/proc/modules");
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.starts_with("virgo_"))
        .map(str::to_owned)
        .collect()
}

fn setting(path: &str, value: &str) {
    fs::write(path, value).unwrap_or_else(|e| panic!("{path}: {e} (this needs the debug kernel)"));
}

/// Unloads every module of ours. Not by the script: a shell's many processes take a minute here.
fn unload_all() {
    // Newest first, as the kernel lists them: those that need others come before them.
    for name in loaded() {
        unload(&name);
    }
    assert!(loaded().is_empty(), "{:?}", loaded());
}

fn image(name: &str) -> Vec<u8> {
    fs::read(format!("{KO}/{name}.ko")).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What a module leaves in the file system while it is loaded, to be gone without it.
fn traces() -> Vec<&'static str> {
    [
        "/dev/virgo",
        "/dev/virgo-profiler",
        "/dev/virgo-eventnet",
        "/proc/virgo",
        "/proc/virgo/profiler",
        "/proc/virgo/eventnet",
        "/sys/class/virgo",
    ]
    .into_iter()
    .filter(|path| Path::new(path).exists())
    .collect()
}

const TRACING: &str = "/sys/kernel/tracing";

/// Loads with allocation `nth` failing, and unloads again. Did it come as far as our init?
fn comes_to_init(image: &[u8], name: &str, nth: u32) -> bool {
    setting(&format!("{TRACING}/trace"), "");
    let (result, _) = load(image, nth);
    let trace = fs::read_to_string(format!("{TRACING}/trace")).expect("the trace");
    if result.is_ok() {
        unload(name);
    }
    trace.contains("module_load:")
}

/// The first allocation which is not the kernel's own, or a few before it.
fn first_of_init(image: &[u8], name: &str) -> u32 {
    setting(&format!("{TRACING}/events/module/module_load/enable"), "1");
    // With `low` failing a load does not come to our init, with `high` it does.
    let (mut low, mut high) = (0, MOST);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if comes_to_init(image, name, middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    setting(&format!("{TRACING}/events/module/module_load/enable"), "0");
    high.saturating_sub(3).max(1)
}

/// Fails each allocation of a load of `module` in turn, with `needs` loaded.
fn each_allocation_of(module: &str, needs: &[&str]) {
    unload_all();
    setting("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
    // No words about each: they would be taken for a report. Copies from user space count too.
    for kind in ["failslab", "fail_page_alloc", "fail_usercopy"] {
        setting(&format!("/sys/kernel/debug/{kind}/verbose"), "0");
    }
    for name in needs {
        load(&image(name), 0)
            .0
            .unwrap_or_else(|e| panic!("load {name}: {e}"));
    }
    let image = image(module);
    let name = module.replace('-', "_");
    // The first load of all leaves what the kernel keeps: caches, sysfs folders.
    load(&image, 0)
        .0
        .unwrap_or_else(|e| panic!("load {module}: {e}"));
    unload(&name);
    let before = (loaded(), traces());

    let (mut refused, mut bore) = (0, 0);
    let first = first_of_init(&image, &name);
    for nth in first..=MOST {
        let (result, hit) = load(&image, nth);
        match result {
            Ok(()) => {
                unload(&name);
                if !hit {
                    println!(
                        "{module}: {} allocations from the {first}th on, {refused} refused the load, {bore} did not",
                        nth - first
                    );
                    assert!(refused > 0, "no failure had any effect");
                    unload_all();
                    return;
                }
                bore += 1;
            }
            Err(e) => {
                assert!(
                    hit,
                    "allocation {nth} was not reached, and the load failed: {e}"
                );
                // EFAULT: what failed was the copy of the image or of the parameters. ENOSPC: tmpfs
                // says so of an inode that it has no memory for.
                assert!(
                    matches!(
                        e.raw_os_error(),
                        Some(libc::ENOMEM | libc::EAGAIN | libc::EFAULT | libc::ENOSPC)
                    ),
                    "allocation {nth} failed, and the load said: {e}"
                );
                refused += 1;
            }
        }
        assert_eq!(
            (loaded(), traces()),
            before,
            "left after allocation {nth} failed"
        );
    }
    panic!("a load of {module} has no end of allocations");
}

#[test]
fn core_init() {
    each_allocation_of("virgo-core", &[]);
}

#[test]
fn the_others_init() {
    let mut names: Vec<String> = fs::read_dir(KO)
        .expect("the modules")
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".ko")?.to_owned())
        })
        .filter(|name| name != "virgo-core" && !TEST_MODULES.contains(&name.as_str()))
        .collect();
    names.sort();
    assert!(names.contains(&"virgo-profiler".to_owned()), "{names:?}");
    for name in names {
        let first: &[&str] = match name.as_str() {
            "virgo-example" => &["virgo-core", "virgo-cpupool"],
            "virgo-settest" => &["virgo-core", "virgo-analytics"],
            _ => &["virgo-core"],
        };
        each_allocation_of(&name, first);
    }
}

#[test]
fn still_loads_afterwards() {
    unload_all();
    for name in ["virgo-core", "virgo-profiler"] {
        load(&image(name), 0)
            .0
            .unwrap_or_else(|e| panic!("load {name}: {e}"));
    }
    assert!(Path::new("/dev/virgo").exists());
}
