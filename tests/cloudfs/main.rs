// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-cloudfs: the 9P door by hand and by the kernel's own client, the telnet door, and
//! whoever means harm. `VIRGO_LONG=1` runs the long forms.

mod audit;
mod bounds;
mod command;
mod confinement;
mod device;
mod disk;
mod door;
mod hostile;
mod mounted;
mod posix;
mod text;

use std::fs;
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use virgo::files::{Connection, Tree};
use virgo_proto::p9::{self, Request};
use virgo_tests::module::{self, Machine};
use virgo_tests::{wait_until, SOON};

const MODULE: &str = "virgo-cloudfs";
const HOST: &str = "127.0.0.1:50000";
const NOBODY: u32 = 65534;
/// Linux's numbers.
const ENOENT: i32 = 2;
const EBADF: i32 = 9;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EPERM: i32 = 1;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const ELOOP: i32 = 40;
const ENXIO: i32 = 6;
const EMSGSIZE: i32 = 90;
const ENAMETOOLONG: i32 = 36;
const EOPNOTSUPP: i32 = 95;
const ENODATA: i32 = 61;

/// A folder that nobody but the test knows, served; unloading is part of every test.
struct Served {
    root: PathBuf,
    #[allow(dead_code, reason = "lets the next test begin when it is dropped")]
    machine: Machine,
}

/// A fresh folder that belongs to user `owner`.
fn folder(name: &str, owner: u32) -> PathBuf {
    let path = Path::new("/srv").join(name);
    // Left behind by a test that failed.
    let _ = Command::new("umount").arg("-lq").arg(&path).output();
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    chown(&path, Some(owner), Some(owner)).expect("chown");
    path
}

fn serve(parameters: &str) -> Served {
    let machine = module::core_only();
    let root = folder("served", NOBODY);
    load(&root, parameters);
    Served { root, machine }
}

fn load(root: &Path, parameters: &str) {
    let parameters = format!("root={} {parameters}", root.display());
    module::load(MODULE, &parameters).unwrap_or_else(|error| panic!("{parameters}: {error:?}"));
}

impl Drop for Served {
    fn drop(&mut self) {
        if !thread::panicking() {
            let start = Instant::now();
            module::unload(MODULE).expect("virgo-cloudfs unloads");
            assert!(
                start.elapsed() < SOON,
                "unloading took {:?}",
                start.elapsed()
            );
        }
    }
}

/// A number of /proc/virgo/cloudfs.
fn number(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/virgo/cloudfs").expect("/proc/virgo/cloudfs");
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn tree() -> Tree {
    Tree::connect(HOST).expect("connect")
}

/// A connection with a version, and fid 0 at the root.
fn attached() -> Connection {
    let mut connection = Connection::connect(HOST, 65536).expect("connect");
    attach(&mut connection, 0).expect("attach");
    connection
}

fn attach(connection: &mut Connection, fid: u32) -> std::io::Result<()> {
    let request = Request::Attach {
        fid,
        afid: p9::NOFID,
        uname: b"test",
        aname: b"/",
        n_uname: 0,
    };
    connection.call(&request).map(drop)
}

/// The errno of what must fail.
fn errno<T>(result: std::io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error
            .raw_os_error()
            .unwrap_or_else(|| panic!("no errno: {error}")),
    }
}

/// Runs a program; panics with what it said if it fails.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}: {said}",
        output.status
    );
    said
}

/// The served folder, mounted by the kernel's 9p; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(options: &str) -> Self {
        run("modprobe", &["-a", "9p", "9pnet_fd"]);
        let path = folder("mounted", 0);
        let options = format!("trans=tcp,port=50000,version=9p2000.L,access=any,{options}");
        let path_text = path.display().to_string();
        run(
            "mount",
            &["-t", "9p", "-o", &options, "127.0.0.1", &path_text],
        );
        Mounted(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        if !thread::panicking() {
            assert!(status.expect("umount").success(), "umount");
        }
    }
}

/// Nothing of a client is left on the server.
fn nothing_held() {
    let none = || number("handles") == 0 && number("bytes_under_way") == 0;
    assert!(
        wait_until(SOON, none),
        "handles {}, bytes {}",
        number("handles"),
        number("bytes_under_way")
    );
}

#[test]
fn without_a_root_nothing_is_served() {
    let _machine = module::core_only();
    module::load(MODULE, "").expect("it loads");
    assert_eq!(number("serving"), 0);
    assert!(Tree::connect(HOST).is_err());
    module::unload(MODULE).expect("it unloads");
}

#[test]
fn settings_that_are_wrong_are_refused() {
    let _machine = module::core_only();
    let root = folder("served", NOBODY);
    let with = |parameters: &str| format!("root={} {parameters}", root.display());
    for parameters in [
        "root=served".to_string(),
        with("uid=0"),
        with("gid=0"),
        with("uid=4294967295"),
        with("bind=0.0.0.0"),
        with("bind=::"),
        with("bind=here"),
        with("bind=0.0.0.0 allow=10.0.0.0/33"),
        with("bind=0.0.0.0 allow=10.0.0.0/8=0:0"),
        with("msize=100"),
        with("max_handles=1"),
        with("max_bytes=1"),
        with("read_only=2"),
    ] {
        let result = module::load(MODULE, &parameters);
        assert_eq!(result.map_err(|error| error.0), Err(EINVAL), "{parameters}");
    }
    let missing = module::load(MODULE, "root=/srv/not-there").map_err(|error| error.0);
    assert_eq!(missing, Err(ENOENT));
    let file = root.join("file");
    fs::write(&file, b"").expect("a file");
    let none = module::load(MODULE, &format!("root={}", file.display()));
    assert_eq!(none.map_err(|error| error.0), Err(ENOTDIR));
    for parameters in [
        "",
        "bind=127.0.0.1",
        "bind=0.0.0.0 allow=127.0.0.0/8",
        "bind=::1",
    ] {
        module::load(MODULE, &with(parameters)).unwrap_or_else(|e| panic!("{parameters}: {e:?}"));
        module::unload(MODULE).expect("it unloads");
    }
}

#[test]
fn a_path_that_leads_nowhere_says_why() {
    let served = serve("");
    let closed = served.root.join("closed");
    fs::create_dir_all(closed.join("inner")).expect("mkdir");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    fs::create_dir(served.root.join("dir")).expect("mkdir");
    fs::write(served.root.join("dir/file"), b"text").expect("a file");
    let tree = tree();
    for (path, expected) in [
        ("/closed/inner", EACCES),
        ("/closed/inner/more/and/more", EACCES),
        ("/dir/file/more", ENOTDIR),
        ("/dir/none", ENOENT),
        ("/none/more", ENOENT),
    ] {
        assert_eq!(errno(tree.metadata(path)), expected, "{path}");
        let deep = format!("{}{path}", "/dir/..".repeat(10));
        assert_eq!(errno(tree.metadata(&deep)), expected, "{deep}");
    }
    tree.metadata("/dir/file").expect("stat");
    // The root's own fid is left.
    assert!(wait_until(SOON, || number("handles") == 1));
}

#[test]
fn what_is_done_is_done_as_the_mapped_user() {
    let served = serve("uid=1234 gid=2345");
    fs::set_permissions(&served.root, fs::Permissions::from_mode(0o755)).expect("chmod");
    // The folder is somebody else's, and nobody but root could write there.
    assert_eq!(errno(tree().mkdir("/made", 0o755)), EACCES);
    let secret = served.root.join("secret");
    fs::write(&secret, b"secret").expect("a file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(errno(tree().open("/secret", 0, 0)), EACCES);
    chown(&served.root, Some(1234), Some(2345)).expect("chown");
    tree().mkdir("/made", 0o777).expect("mkdir");
    let made = tree().metadata("/made").expect("stat");
    // The server's own umask takes nothing away: the client's has been applied.
    assert_eq!(
        (made.attr().uid, made.attr().gid, made.mode()),
        (1234, 2345, 0o40777)
    );
    let file = tree().open("/made/file", 2 | p9::open::CREATE, 0o666);
    let attr = *file.expect("create").metadata().expect("stat").attr();
    assert_eq!((attr.uid, attr.gid, attr.mode), (1234, 2345, 0o100_666));
    // Giving files away, set-id bits of others and devices are root's business.
    let give = p9::SetAttr {
        valid: 2,
        uid: 0,
        ..p9::SetAttr::default()
    };
    assert_eq!(errno(tree().change("/made/file", &give)), EPERM);
    let mut by_hand = attached();
    let device = Request::Mknod {
        dfid: 0,
        name: b"device",
        mode: 0o020_666,
        major: 1,
        minor: 3,
        gid: 0,
    };
    assert_eq!(errno(by_hand.call(&device)), EPERM);
}
