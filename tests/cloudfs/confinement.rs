// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Nothing outside the served folder is read or written, whatever is inside it and whoever
//! changes it meanwhile.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use virgo::files::open;

use crate::*;

/// What nobody may see.
const SECRET: &[u8] = b"outside";

/// A folder beside the served one, which the clients' user could read.
pub(crate) fn outside() -> PathBuf {
    let path = folder("outside", NOBODY);
    fs::write(path.join("secret"), SECRET).expect("a file");
    chown(path.join("secret"), Some(NOBODY), Some(NOBODY)).expect("chown");
    path
}

#[test]
fn no_name_leads_out() {
    let served = serve("");
    names(&served, &outside());
}

/// Names that lead out, if anything follows them.
pub(crate) fn names(served: &Served, outside: &Path) {
    symlink(outside, served.root.join("absolute")).expect("symlink");
    symlink("../outside", served.root.join("relative")).expect("symlink");
    symlink("/proc/1/root", served.root.join("magic")).expect("symlink");
    fs::create_dir(served.root.join("inner")).expect("mkdir");
    let mut c = attached();
    for names in [
        &[&b".."[..], b"outside", b"secret"][..],
        &[b"..", b"..", b"srv", b"outside", b"secret"],
        &[b"inner", b"..", b"..", b"outside", b"secret"],
        &[b"absolute", b"secret"],
        &[b"relative", b"secret"],
        &[b"magic", b"etc"],
        &[b"../outside/secret"],
        &[b"/srv/outside/secret"],
        &[b"inner/../../outside/secret"],
        &[b"..\0"],
    ] {
        let error = errno(c.walk(0, 1, names));
        assert!(
            matches!(error, ENOENT | ENOTDIR | EINVAL),
            "{names:?}: {error}"
        );
    }
    // The root's parent is the root.
    c.walk(0, 1, &[b"..", b"..", b"inner"]).expect("walk");
    // Nor does a name by which something is made.
    for name in [&b".."[..], b"../outside/x", b"/srv/outside/x"] {
        let mkdir = Request::Mkdir {
            dfid: 0,
            name,
            mode: 0o777,
            gid: 0,
        };
        assert_eq!(errno(c.call(&mkdir)), EINVAL);
        let rename = Request::RenameAt {
            old_dfid: 0,
            old_name: b"inner",
            new_dfid: 0,
            new_name: name,
        };
        assert_eq!(errno(c.call(&rename)), EINVAL);
    }
    let list: Vec<_> = fs::read_dir(outside).expect("list").collect();
    assert_eq!(list.len(), 1);
    // The original's open, by the other door.
    for path in [
        "../outside/secret",
        "/srv/outside/secret",
        "absolute/secret",
        "magic/etc/passwd",
    ] {
        assert!(tree().open(path, 0, 0).is_err(), "{path}");
    }
}

#[test]
fn what_is_mounted_inside_is_not_seen() {
    let served = serve("");
    let outside = outside();
    let point = served.root.join("point");
    fs::create_dir(&point).expect("mkdir");
    let (from, to) = (outside.display().to_string(), point.display().to_string());
    run("mount", &["--bind", &from, &to]);
    assert!(point.join("secret").exists());
    let seen = tree().read_dir("/point").expect("readdir");
    let opened = tree().open("/point/secret", 0, 0);
    run("umount", &[&to]);
    assert!(seen.is_empty(), "{seen:?}");
    assert_eq!(errno(opened), ENOENT);
}

#[test]
fn a_folder_that_is_moved_out_is_lost() {
    let served = serve("");
    let outside = outside();
    fs::create_dir_all(served.root.join("a/b")).expect("mkdir");
    let mut c = attached();
    c.walk(0, 1, &[b"a", b"b"]).expect("walk");
    fs::rename(served.root.join("a"), outside.join("a")).expect("rename");
    // The fid is of a folder which is not inside any more: from it nothing leads on.
    for names in [&[&b".."[..]][..], &[b"..", b"..", b"secret"], &[b"x"]] {
        assert_eq!(errno(c.walk(1, 2, names)), 116, "{names:?}");
    }
    let mkdir = Request::Mkdir {
        dfid: 1,
        name: b"x",
        mode: 0o777,
        gid: 0,
    };
    assert_eq!(errno(c.call(&mkdir)), 116);
    assert_eq!(errno(c.call(&Request::Lopen { fid: 1, flags: 0 })), 116);
    // Back again it is what it was.
    fs::rename(outside.join("a"), served.root.join("a")).expect("rename");
    c.walk(1, 2, &[b"..", b"b"]).expect("walk");
}

/// An attacker with a shell on the server swaps a folder and a symbolic link to the outside as fast
/// as it can, while a client walks, opens, reads and writes through that name.
#[test]
fn a_racing_swap_wins_nothing() {
    let limit = Duration::from_secs(if virgo_tests::long() { 60 } else { 5 });
    race(&serve(""), &outside(), limit);
}

pub(crate) fn race(served: &Served, outside: &Path, limit: Duration) {
    let root = served.root.clone();
    fs::create_dir(root.join("dir")).expect("mkdir");
    fs::write(root.join("dir/secret"), b"inside!").expect("a file");
    for path in [root.join("dir"), root.join("dir/secret")] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    symlink(outside, root.join("link")).expect("symlink");
    let over = Arc::new(AtomicBool::new(false));
    let swaps = Arc::new(AtomicU64::new(0));
    let attacker = {
        let (over, swaps, root) = (over.clone(), swaps.clone(), root.clone());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // "dir" is a folder, then a link to the outside, then a folder again.
                fs::rename(root.join("dir"), root.join("aside")).expect("rename");
                fs::rename(root.join("link"), root.join("dir")).expect("rename");
                fs::rename(root.join("dir"), root.join("link")).expect("rename");
                fs::rename(root.join("aside"), root.join("dir")).expect("rename");
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let start = Instant::now();
    let (mut through, mut refused) = (0, 0);
    let tree = tree();
    while start.elapsed() < limit {
        match tree.open("/dir/secret", open::RDWR, 0) {
            Ok(file) => {
                let mut text = [0; 7];
                assert_eq!(file.read_at(&mut text, 0).expect("read"), 7);
                assert_eq!(&text, b"inside!", "read from the outside");
                file.write_at(b"inside!", 0).expect("write");
                through += 1;
            }
            Err(error) => {
                let number = error.raw_os_error();
                assert!(matches!(number, Some(ENOENT | ENOTDIR | ELOOP)), "{error}");
                refused += 1;
            }
        }
        let made = tree.open("/dir/new", open::WRONLY | open::CREATE, 0o644);
        if made.is_ok() {
            let _ = tree.remove_file("/dir/new");
        }
    }
    over.store(true, Ordering::Relaxed);
    attacker.join().expect("the attacker");
    println!(
        "{through} through, {refused} refused, {} swaps",
        swaps.load(Ordering::Relaxed)
    );
    assert!(through > 0 && refused > 0);
    assert_eq!(fs::read(outside.join("secret")).expect("read"), SECRET);
    assert_eq!(fs::read_dir(outside).expect("list").count(), 1);
}

#[test]
fn devices_and_pipes_are_not_opened() {
    let served = serve("");
    let pipe = served.root.join("pipe").display().to_string();
    run("mkfifo", &["-m", "666", &pipe]);
    let device = served.root.join("null").display().to_string();
    run("mknod", &["-m", "666", &device, "c", "1", "3"]);
    for name in ["/pipe", "/null"] {
        assert_eq!(errno(tree().open(name, open::RDWR, 0)), ENXIO);
        tree().metadata(name).expect("stat");
        tree().remove_file(name).expect("but they are removed");
    }
}
