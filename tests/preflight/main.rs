// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
//! `insmod-scripts/preflight` against made-up machines: a good one, and others that have one thing
//! wrong each. Each must be told by its own line, with what to install or do, and by no other line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

const RELEASE: &str = "7.2.12+deb13-amd64";
const RUSTC: &str = "rustc 1.85.1 (4eb161250 2025-03-15) (built from a source tarball)";
const OTHER_RUSTC: &str = "rustc 1.97.1 (0123456789 2026-07-15)";
const CHECKS: [&str; 9] = [
    "headers",
    "CONFIG_RUST",
    "rustc",
    "compiler",
    "metadata",
    "symbols",
    "BTF",
    "lockdown",
    "Secure Boot",
];
const SECURE_BOOT: &str =
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// A machine as preflight sees it, in a folder that goes with it.
struct Machine(PathBuf);

impl Machine {
    /// One on which all is well.
    fn good() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let machine = Self(
            std::env::temp_dir().join(format!("virgo-preflight-{}-{count}", std::process::id())),
        );
        let config = format!(
            "CONFIG_CC_VERSION_TEXT=\"x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0\"\n\
             CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT=\"{RUSTC}\"\nCONFIG_DEBUG_INFO_BTF=y\n"
        );
        machine.write("proc/sys/kernel/osrelease", format!("{RELEASE}\n"));
        machine.write(&format!("boot/config-{RELEASE}"), &config);
        machine.write(&headers(".config"), &config);
        machine.write(&headers("Makefile"), "");
        machine.write(
            &headers("Module.symvers"),
            "0x00000000\t_RNvCs1_4core3one\tvmlinux\tEXPORT_SYMBOL_GPL\t\n\
             0x00000000\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n\
             0x00000000\t_RNvCs1_6kernel3two\tvmlinux\tEXPORT_SYMBOL_GPL\t\n",
        );
        machine.write(
            &headers("rust/libcore.rmeta"),
            format!("rust\0\0\x12#{RUSTC}\0\x07more"),
        );
        for file in [
            "rust/libkernel.rmeta",
            "rust/libbindings.rmeta",
            "rust/libmacros.so",
            "scripts/target.json",
        ] {
            machine.write(&headers(file), "");
        }
        machine.write(
            &headers("rust/exports_core_generated.h"),
            "EXPORT_SYMBOL_RUST_GPL(_RNvCs1_4core3one);\n",
        );
        machine.write(
            &headers("rust/exports_kernel_generated.h"),
            "EXPORT_SYMBOL_RUST_GPL(_RNvCs1_6kernel3two);\n",
        );
        machine.program("rustc", RUSTC);
        machine.program("x86_64-linux-gnu-gcc-14", "gcc");
        machine.write("sys/kernel/btf/vmlinux", "");
        machine.write(
            "sys/kernel/security/lockdown",
            "[none] integrity confidentiality\n",
        );
        machine.write("sys/module/module/parameters/sig_enforce", "N\n");
        machine.write(SECURE_BOOT, [6, 0, 0, 0, 0]);
        machine
    }

    fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a path inside the machine")).expect("a folder");
        fs::write(&path, contents).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    fn remove(&self, path: &str) {
        let path = self.0.join(path);
        let result = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        result.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    fn change(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.join(path)).expect("a file to change");
        assert!(text.contains(from), "{path} has no {from}");
        self.write(path, text.replace(from, to));
    }

    /// Both places that a kernel's configuration is in.
    fn change_config(&self, from: &str, to: &str) {
        self.change(&format!("boot/config-{RELEASE}"), from, to);
        self.change(&headers(".config"), from, to);
    }

    fn program(&self, name: &str, says: &str) {
        let path = format!("usr/bin/{name}");
        self.write(&path, format!("#!/bin/sh\necho '{says}'\n"));
        fs::set_permissions(self.0.join(&path), fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn preflight(&self, arguments: &[&str]) -> Report {
        let root = self.0.to_str().expect("a plain path");
        Report::of(&[&["--root", root], arguments].concat())
    }

    /// Fails unless `check` alone fails, its line saying all of `words`, and every check that does
    /// not build on it is well.
    fn fails(&self, check: &str, words: &[&str]) {
        let report = self.preflight(&[]);
        assert_eq!(report.failed(), [check], "{}", report.text);
        assert_eq!(report.status, 1, "{}", report.text);
        let line = report.line("FAIL", check).unwrap_or_default();
        for word in words {
            assert!(line.contains(word), "no \"{word}\" in: {line}");
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn headers(path: &str) -> String {
    format!("usr/src/linux-headers-{RELEASE}/{path}")
}

/// What preflight printed, and its exit status.
struct Report {
    text: String,
    status: i32,
}

impl Report {
    fn of(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../insmod-scripts/preflight");
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(script)
            .args(arguments)
            .output()
            .expect("preflight runs");
        let text = [stdout, stderr]
            .map(|b| String::from_utf8(b).expect("UTF-8"))
            .concat();
        Self {
            text,
            status: status.code().expect("an exit status"),
        }
    }

    fn line(&self, verdict: &str, check: &str) -> Option<&str> {
        self.text.lines().find(|l| {
            l.strip_prefix(verdict)
                .is_some_and(|rest| rest.trim_start().starts_with(&format!("{check}:")))
        })
    }

    fn failed(&self) -> Vec<&str> {
        let checks = CHECKS.into_iter().chain(["sig_enforce"]);
        let failed: Vec<_> = checks.filter(|c| self.line("FAIL", c).is_some()).collect();
        let lines = self.text.lines().filter(|l| l.starts_with("FAIL")).count();
        assert_eq!(
            failed.len(),
            lines,
            "a FAIL line of an unknown check: {}",
            self.text
        );
        failed
    }
}

#[test]
fn good_machine_passes_every_check() {
    let report = Machine::good().preflight(&[]);
    assert_eq!(report.status, 0, "{}", report.text);
    assert_eq!(
        report.text.lines().next(),
        Some(format!("kernel {RELEASE}").as_str())
    );
    for check in CHECKS {
        assert!(
            report.line("ok", check).is_some(),
            "no {check} in: {}",
            report.text
        );
    }
    assert_eq!(
        report.text.lines().count(),
        1 + CHECKS.len(),
        "{}",
        report.text
    );
}

#[test]
fn no_headers() {
    let machine = Machine::good();
    machine.remove(&headers(""));
    machine.fails("headers", &[&format!("install linux-headers-{RELEASE}")]);
}

#[test]
fn kernel_without_rust() {
    let machine = Machine::good();
    machine.change_config("CONFIG_RUST=y", "# CONFIG_RUST is not set");
    machine.fails(
        "CONFIG_RUST",
        &[
            "install linux-image-amd64 and linux-headers-amd64",
            "trixie-backports",
        ],
    );
}

#[test]
fn wrong_rustc() {
    let machine = Machine::good();
    machine.program("rustc", OTHER_RUSTC);
    machine.fails(
        "rustc",
        &[OTHER_RUSTC, RUSTC, "package rustc, version 1.85.1"],
    );
}

#[test]
fn no_rustc() {
    let machine = Machine::good();
    machine.remove("usr/bin/rustc");
    machine.fails("rustc", &["install rustc (version 1.85.1)"]);
}

#[test]
fn no_c_compiler() {
    let machine = Machine::good();
    machine.remove("usr/bin/x86_64-linux-gnu-gcc-14");
    machine.fails("compiler", &["install gcc-14"]);
}

#[test]
fn no_metadata() {
    let machine = Machine::good();
    machine.remove(&headers("rust"));
    machine.fails(
        "metadata",
        &[
            "rust/libcore.rmeta",
            &format!("insmod-scripts/prepare-kernel --release {RELEASE}"),
        ],
    );
}

#[test]
fn no_target_file() {
    let machine = Machine::good();
    machine.remove(&headers("scripts/target.json"));
    machine.fails("metadata", &["scripts/target.json", "prepare-kernel"]);
}

#[test]
fn metadata_of_another_compiler() {
    let machine = Machine::good();
    machine.write(
        &headers("rust/libcore.rmeta"),
        format!("rust\0{OTHER_RUSTC}\0"),
    );
    machine.fails(
        "metadata",
        &[OTHER_RUSTC, RUSTC, "prepare-kernel", "--force"],
    );
}

#[test]
fn metadata_that_names_no_compiler() {
    let machine = Machine::good();
    machine.write(&headers("rust/libcore.rmeta"), [0xff; 64]);
    machine.fails("metadata", &["an unknown compiler", "--force"]);
}

#[test]
fn symbol_that_the_kernel_lacks() {
    let machine = Machine::good();
    machine.change(
        &headers("Module.symvers"),
        "_RNvCs1_6kernel3two",
        "_RNvCs2_6kernel3two",
    );
    machine.fails(
        "symbols",
        &["1 of 2", "_RNvCs1_6kernel3two", "prepare-kernel", "--force"],
    );
}

#[test]
fn no_list_of_symbols() {
    let machine = Machine::good();
    machine.remove(&headers("rust/exports_core_generated.h"));
    machine.remove(&headers("rust/exports_kernel_generated.h"));
    machine.fails("symbols", &["prepare-kernel", "--force"]);
}

#[test]
fn no_btf() {
    let machine = Machine::good();
    machine.remove("sys/kernel/btf/vmlinux");
    machine.fails(
        "BTF",
        &["/sys/kernel/btf/vmlinux", "install linux-image-amd64"],
    );
}

#[test]
fn lockdown() {
    for (mode, text) in [
        ("integrity", "none [integrity] confidentiality\n"),
        ("confidentiality", "none integrity [confidentiality]\n"),
    ] {
        let machine = Machine::good();
        machine.write("sys/kernel/security/lockdown", text);
        machine.fails(
            "lockdown",
            &[&format!("({mode})"), "sign the modules", "mokutil"],
        );
        let signed = machine.preflight(&["--signed"]);
        assert_eq!(signed.status, 0, "{}", signed.text);
    }
}

#[test]
fn secure_boot() {
    let machine = Machine::good();
    machine.write(SECURE_BOOT, [6, 0, 0, 0, 1]);
    machine.fails(
        "Secure Boot",
        &["only signed modules", "sign the modules", "mokutil"],
    );
    assert_eq!(machine.preflight(&["--signed"]).status, 0);
}

#[test]
fn enforced_signatures() {
    let machine = Machine::good();
    machine.write("sys/module/module/parameters/sig_enforce", "Y\n");
    machine.fails("sig_enforce", &["module.sig_enforce"]);
    assert_eq!(machine.preflight(&["--signed"]).status, 0);
}

#[test]
fn machine_without_efi_or_securityfs() {
    let machine = Machine::good();
    machine.remove(SECURE_BOOT);
    machine.remove("sys/kernel/security");
    assert_eq!(machine.preflight(&[]).status, 0);
}

#[test]
fn another_kernel_than_the_running_one() {
    let machine = Machine::good();
    machine.write("proc/sys/kernel/osrelease", "6.12.107+deb13-amd64\n");
    machine.remove("sys/kernel/btf/vmlinux");
    let running = machine.preflight(&[]);
    assert_eq!(running.failed(), ["headers", "BTF"], "{}", running.text);
    assert!(
        running
            .text
            .contains("install linux-headers-6.12.107+deb13-amd64"),
        "{}",
        running.text
    );
    // BTF is told from the configuration then.
    let named = machine.preflight(&["--kernel", RELEASE]);
    assert_eq!(named.status, 0, "{}", named.text);
    machine.change_config(
        "CONFIG_DEBUG_INFO_BTF=y",
        "# CONFIG_DEBUG_INFO_BTF is not set",
    );
    let named = machine.preflight(&["--kernel", RELEASE]);
    assert_eq!(named.failed(), ["BTF"], "{}", named.text);
}

#[test]
fn loading_takes_no_headers() {
    let machine = Machine::good();
    machine.remove(&headers(""));
    machine.remove("usr/bin/rustc");
    let report = machine.preflight(&["--load-only"]);
    assert_eq!(report.status, 0, "{}", report.text);
    assert!(report.line("ok", "headers").is_none(), "{}", report.text);
}

#[test]
fn wrong_arguments() {
    for arguments in [
        &["--nonsense"][..],
        &["--kernel"],
        &["--kernel", ""],
        &["--kernel", "../../etc"],
        &["--kernel", "-x"],
        &["--root", "/no/such/folder"],
        &["stock"],
    ] {
        let report = Report::of(arguments);
        assert_eq!(report.status, 2, "{arguments:?}: {}", report.text);
        assert!(
            report.text.contains("--help"),
            "{arguments:?}: {}",
            report.text
        );
    }
    let help = Report::of(&["--help"]);
    assert_eq!(help.status, 0);
    assert!(help.text.contains("--load-only"), "{}", help.text);
}
