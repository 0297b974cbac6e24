// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Devices whose blocks go bad while they are served, and file systems that nobody may change: every
//! door tells it, and nothing hangs.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use virgo::files::open;
use virgo::local::Local;

use crate::text::Telnet;
use crate::*;

const EIO: i32 = 5;

const CONFIG: &str = "/sys/kernel/config";

/// Sectors of a block of ext4.
const SECTORS: u64 = 8;

/// A disk in memory with blocks that can be made bad: the kernel's null_blk.
pub(crate) struct Disk {
    settings: PathBuf,
    /// Its device.
    pub(crate) device: String,
}

impl Disk {
    /// With an ext4 of 4 KiB blocks.
    pub(crate) fn new(mib: u32) -> Self {
        run("modprobe", &["null_blk", "nr_devices=0"]);
        if !Path::new(CONFIG).join("nullb").exists() {
            run("mount", &["-t", "configfs", "none", CONFIG]);
        }
        let settings = Path::new(CONFIG).join("nullb/virgodisk");
        if settings.exists() {
            // Left behind by a test that failed.
            let _ = Command::new("umount")
                .args(["-lqA", "/dev/virgodisk"])
                .output();
            let _ = fs::write(settings.join("power"), "0");
            fs::remove_dir(&settings).expect("rmdir");
        }
        fs::create_dir(&settings).expect("mkdir");
        let disk = Disk {
            settings,
            device: "/dev/virgodisk".to_string(),
        };
        disk.set("size", &mib.to_string());
        disk.set("memory_backed", "1");
        disk.set("power", "1");
        assert!(wait_until(SOON, || Path::new(&disk.device).exists()));
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", &disk.device]);
        disk
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.settings.join(name), value).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    pub(crate) fn mount(&self, at: &Path, options: &str) {
        let at = at.display().to_string();
        run("mount", &["-o", options, &self.device, &at]);
    }

    /// The blocks of a file or a folder, by its name in the file system, which has been synced.
    fn blocks(&self, name: &str) -> Vec<u64> {
        let request = format!("blocks {name}");
        let output = Command::new("debugfs")
            .args(["-R", &request, &self.device])
            .output()
            .expect("debugfs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let all: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
        let all = all.unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        assert!(!all.is_empty(), "{name}: {output:?}");
        all
    }

    /// Makes blocks fail, or (with '-') well again.
    fn mark(&self, sign: char, blocks: &[u64]) {
        for block in blocks {
            let Range { start, end } = block * SECTORS..(block + 1) * SECTORS;
            self.set("badblocks", &format!("{sign}{start}-{}", end - 1));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.set("power", "0");
            fs::remove_dir(&self.settings).expect("rmdir");
        }
    }
}

/// Has the kernel read from the disk what it can.
fn forget() {
    run("sync", &[]);
    for _ in 0..2 {
        // ext4's journal lets go of blocks the first time, and then they go.
        fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
    }
}

fn file_of_nobody(path: &Path, data: &[u8]) {
    fs::write(path, data).expect("a file");
    chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
}

#[test]
fn a_device_that_fails_is_told() {
    const LENGTH: usize = 64 << 10;
    let machine = module::core_only();
    let disk = Disk::new(64);
    let root = folder("served", NOBODY);
    disk.mount(&root, "errors=remount-ro");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("chmod");
    let data = vec![7; LENGTH];
    file_of_nobody(&root.join("bad"), &data);
    file_of_nobody(&root.join("good"), &data);
    fs::create_dir(root.join("dir")).expect("mkdir");
    file_of_nobody(&root.join("dir/inside"), b"text");
    run("sync", &[]);
    let (bad, folder_blocks) = (disk.blocks("/bad"), disk.blocks("/dir"));
    run("umount", &[&root.display().to_string()]);
    disk.mount(&root, "errors=remount-ro");
    load(&root, "");
    let start = Instant::now();

    // Each door has the file and the folder open.
    let tree = tree();
    let file = tree.open("/bad", open::RDWR, 0).expect("open");
    let local = Local::open().expect("the device");
    let handle = local.open_file("/bad", open::RDWR, 0).expect("open");
    let list = local.open_file("/dir", open::DIRECTORY, 0).expect("open");
    let mut telnet = Telnet::new();
    assert_eq!(telnet.ask("virgo_cloud_open(/bad)"), "0");
    let mounted = Mounted::new("msize=65536");
    let options = File::options()
        .read(true)
        .write(true)
        .open(mounted.0.join("bad"));
    let mapped = options.expect("open");

    // What can't be read.
    forget();
    disk.mark('+', &bad);
    let mut buffer = vec![0; 4096];
    assert_eq!(errno(file.read_at(&mut buffer, 8192)), EIO);
    assert_eq!(errno(local.read(handle, &mut buffer, 8192)), EIO);
    let said = telnet.ask("virgo_cloud_read(0,x,10,8192)");
    assert!(said.starts_with("ERR EIO "), "{said}");
    let said = telnet.ask("virgo_cloud_get(0,10,8192)");
    assert!(said.starts_with("ERR EIO "), "{said}");
    assert_eq!(errno(mapped.read_at(&mut buffer, 8192)), EIO);
    // Others' files are none the worse, nor is what can be told of this one.
    let good = tree.open("/good", 0, 0).expect("open");
    assert_eq!(good.read_at(&mut buffer, 8192).expect("read"), 4096);
    assert_eq!(file.metadata().expect("stat").size(), LENGTH as u64);

    // What can't be written: a write is to memory, fsync tells of the disk.
    assert_eq!(file.write_at(&data, 0).expect("write"), LENGTH);
    assert_eq!(errno(file.sync()), EIO);
    assert_eq!(local.write(handle, &data, 0).expect("write"), LENGTH);
    assert_eq!(errno(local.sync(handle)), EIO);
    mapped.write_all_at(&data, 0).expect("write");
    assert_eq!(errno(mapped.sync_all()), EIO);
    // Well again.
    disk.mark('-', &bad);
    // The others' errors are told here as well, once.
    let _ = file.sync();
    file.write_at(&data, 0).expect("write");
    file.sync().expect("fsync");
    forget();
    file.read_at(&mut buffer, 8192).expect("read");
    assert!(buffer == data[..4096]);

    // A folder that can't be read, and what is in it.
    let mut telling = attached();
    telling.walk(0, 1, &[b"dir"]).expect("walk");
    telling
        .call(&Request::Lopen { fid: 1, flags: 0 })
        .expect("open");
    forget();
    disk.mark('+', &folder_blocks);
    let said = telnet.ask("virgo_cloud_open(/dir/inside)");
    assert!(said.starts_with("ERR EIO "), "{said}");
    let readdir = Request::Readdir {
        fid: 1,
        offset: 0,
        count: 4096,
    };
    assert_eq!(errno(telling.call(&readdir)), EIO);
    assert_eq!(errno(local.read_dir(list)), EIO);
    assert_eq!(errno(tree.metadata("/dir/inside")), EIO);
    assert_eq!(errno(fs::metadata(mounted.0.join("dir/inside"))), EIO);
    assert_eq!(
        errno(fs::read_dir(mounted.0.join("dir")).and_then(|mut all| all.next().transpose())),
        EIO
    );

    // Then ext4 lets nothing change any more.
    let flags = open::RDWR | open::CREATE;
    assert_eq!(errno(tree.mkdir("/new", 0o755)), EROFS);
    assert_eq!(errno(tree.open("/new", flags, 0o644)), EROFS);
    assert_eq!(errno(file.write_at(&data, 0)), EROFS);
    assert_eq!(errno(local.open_file("/new", flags, 0o644)), EROFS);
    assert_eq!(errno(local.write(handle, &data, 0)), EROFS);
    let said = telnet.ask("virgo_cloud_open(/new)");
    assert!(said.starts_with("ERR EROFS "), "{said}");
    assert_eq!(errno(fs::create_dir(mounted.0.join("new"))), EROFS);
    assert_eq!(good.read_at(&mut buffer, 8192).expect("read"), 4096);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());

    drop((file, good, mapped, telling, tree, telnet, local, mounted));
    nothing_held();
    module::unload(MODULE).expect("it unloads");
    disk.mark('-', &folder_blocks);
    run("umount", &[&root.display().to_string()]);
    drop((disk, machine));
}

#[test]
fn a_read_only_file_system_is_told() {
    let machine = module::core_only();
    let disk = Disk::new(32);
    let root = folder("served", NOBODY);
    disk.mount(&root, "rw");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("chmod");
    file_of_nobody(&root.join("f"), b"text");
    load(&root, "");
    let tree = tree();
    let local = Local::open().expect("the device");
    let mut telnet = Telnet::new();
    let mounted = Mounted::new("msize=65536");
    run("mount", &["-o", "remount,ro", &root.display().to_string()]);
    let flags = open::RDWR | open::CREATE;
    let kernels = |name: &str| File::options().append(true).open(mounted.0.join(name));
    for (index, result) in [
        tree.mkdir("/d", 0o755),
        tree.open("/f", open::RDWR, 0).map(drop),
        tree.open("/f", open::TRUNC, 0).map(drop),
        tree.open("/g", flags, 0o644).map(drop),
        tree.rename("/f", "/g"),
        tree.hard_link("/f", "/g"),
        tree.symlink("f", "/g"),
        tree.set_mode("/f", 0o600),
        tree.remove_file("/f"),
        local.open_file("/f", open::RDWR, 0).map(drop),
        local.open_file("/g", flags, 0o644).map(drop),
        kernels("f").map(drop),
        fs::remove_file(mounted.0.join("f")),
        fs::create_dir(mounted.0.join("d")),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(errno(result), EROFS, "{index}");
    }
    let said = telnet.ask("virgo_cloud_open(/g)");
    assert!(said.starts_with("ERR EROFS "), "{said}");
    let mut text = [0; 4];
    let file = tree.open("/f", 0, 0).expect("open");
    assert_eq!(file.read_at(&mut text, 0).expect("read"), 4);
    assert_eq!(fs::read(mounted.0.join("f")).expect("read"), b"text");
    let handle = local.open_file("/f", 0, 0).expect("open");
    assert_eq!(local.read(handle, &mut text, 0).expect("read"), 4);
    drop((file, tree, local, telnet, mounted));
    nothing_held();
    module::unload(MODULE).expect("it unloads");
    run("umount", &[&root.display().to_string()]);
    drop((disk, machine));
}
