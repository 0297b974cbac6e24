// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Events of modules: their order, their losses, the clock.

use std::fs;
use std::process::Command;

use virgo_proto::eventlog::Id;
use virgo_proto::uapi;
use virgo_tests::{module, sys, wait_until, SOON};

use crate::world::{device, ours, stat, tell, Client, Folder, Told, What};

/// Waits until what was told is written or counted as lost.
fn settled(total: u64) {
    let done = wait_until(SOON, || {
        let stat = stat();
        stat.events + stat.lost == total
    });
    assert!(done, "{:?} of {total}", stat());
}

#[test]
fn only_what_is_asked_for() {
    let folder = Folder::new("asked");
    let _ours = ours(&folder, "");
    // virgo-queue's are not, by default.
    assert_eq!(tell("log 100")[1], 0);
    let mut settings = uapi::EventnetSettings {
        size: size_of::<uapi::EventnetSettings>() as u32,
        flags: uapi::EVENTNET_SET_MODULES,
        modules: 1 << uapi::Module::Queue as u32,
        ..Default::default()
    };
    sys::ioctl(device(), uapi::EVENTNET_IOC_SETTINGS, &mut settings).expect("settings");
    assert_eq!(settings.modules, 1 << 4);
    assert_eq!(settings.ring, 1024);
    assert_eq!(tell("log 100")[1], 100);
    settled(100);
    settings.modules = 0;
    sys::ioctl(device(), uapi::EVENTNET_IOC_SETTINGS, &mut settings).expect("settings");
    assert_eq!(tell("log 100")[1], 0);
    // And without the module there is nobody to tell.
    drop(_ours);
    let _machine = module::core_only();
    assert_eq!(tell("log 100")[1], 0);
    module::unload("virgo-eventtest").expect("unload");
}

#[test]
fn causes_make_edges() {
    let folder = Folder::new("chain");
    let _ours = ours(&folder, "modules=queue,core flush_ms=1");
    assert_eq!(tell("chain 50")[1], 50);
    settled(50);
    assert!(wait_until(SOON, || folder
        .text("EventNetVertices.txt")
        .lines()
        .count()
        == 50));
    let journal = folder.journal();
    let events: Vec<&Told> = journal
        .iter()
        .filter(|told| matches!(told.what, What::Event { .. }))
        .collect();
    let mut last = Id::default();
    let mut edges = String::new();
    let mut vertices = String::new();
    for (number, told) in events.iter().enumerate() {
        let What::Event {
            kind,
            subject,
            cause,
        } = &told.what
        else {
            continue;
        };
        assert_eq!(
            (kind.as_str(), subject.as_str()),
            ("test", &*format!("{number:08}"))
        );
        assert_eq!(cause.stamp, last.stamp);
        assert!(told.id.stamp > last.stamp);
        let who = format!("n{:08x},queue,test,{subject}", told.id.node);
        vertices += &format!("{} - {who} - ({who})\n", told.id);
        if number > 0 {
            edges += &format!("{last},{}\n", told.id);
        }
        last = told.id;
    }
    assert_eq!(events.len(), 50);
    folder.expect("EventNetVertices.txt", &vertices);
    folder.expect("EventNetEdges.txt", &edges);
    // A module's event is extended like any other.
    Client::connect().update(&format!("eventnet_vertexmsg#{last}#who#why#"));
    let who = format!("n{:08x},queue,test,00000049", last.node);
    let end = format!("{last} - {who},who,why - ({who})#(who,why)\n");
    assert!(wait_until(SOON, || folder
        .text("EventNetVertices.txt")
        .ends_with(&end)));
    assert_eq!(folder.text("EventNetVertices.txt").lines().count(), 50);
}

/// The original's virgo_eventnet_log(), for other modules' C code too.
#[test]
fn the_originals_function() {
    const FILE: &str = "/proc/virgo/eventtest";
    let folder = Folder::new("function");
    let _ours = ours(&folder, "modules=none");
    tell("log 1");
    let send = |text: &str| {
        fs::write(FILE, format!("message {text}")).map_err(|error| error.raw_os_error())
    };
    send("eventnet_edgemsg#1#2#").expect("an edge");
    send("eventnet_vertexmsg#1#15#16#").expect("a vertex");
    send("eventnet_vertexmsg#1#18#12#").expect("more of it");
    folder.expect("EventNetEdges.txt", "1,2\n");
    folder.expect(
        "EventNetVertices.txt",
        "1 - 15,16,18,12 - (15,16)#(18,12)\n",
    );
    assert_eq!(send("nonsense"), Err(Some(libc::EINVAL)));
    let long = format!("eventnet_edgemsg#{}#2#", "x".repeat(80));
    assert_eq!(send(&long), Err(Some(libc::EMSGSIZE)));
    crate::world::unload();
    assert_eq!(send("eventnet_edgemsg#1#2#"), Err(Some(libc::ENODEV)));
}

/// Far more than the rings hold, without a pause: each loss is counted, and it is told between
/// which two events it was.
#[test]
fn losses_are_counted_and_have_a_place() {
    const COUNT: u64 = 50_000;
    let folder = Folder::new("loss");
    let _ours = ours(&folder, "modules=all ring=64 flush_ms=1");
    let numbers = tell(&format!("log {COUNT}"));
    settled(COUNT);
    let stat = stat();
    assert_eq!(stat.events, numbers[1], "those with a stamp are written");
    assert!(stat.lost > 0 && stat.losses > 0);
    let journal = folder.journal();
    let (mut lost, mut losses) = (0, 0);
    let stamps: Vec<u64> = journal
        .iter()
        .filter(|told| matches!(told.what, What::Event { .. }))
        .map(|told| told.id.stamp)
        .collect();
    assert!(stamps.is_sorted());
    for told in &journal {
        let What::Loss {
            count,
            after,
            before,
        } = told.what
        else {
            continue;
        };
        lost += count;
        losses += 1;
        assert!(after.stamp < told.id.stamp);
        let at = stamps.partition_point(|stamp| *stamp < told.id.stamp);
        assert_eq!(
            at.checked_sub(1).map(|at| stamps[at]).unwrap_or(0),
            after.stamp
        );
        if before.stamp != 0 {
            assert_eq!(stamps[at], before.stamp);
        }
    }
    assert_eq!((lost, losses), (stat.lost, stat.losses));
}

/// Whatever is done to the machine's clock, stamps grow, over a reload too; and a stamp of another
/// node is before all that come after it was seen.
#[test]
fn the_clock_never_goes_back() {
    let folder = Folder::new("clock");
    let machine = ours(&folder, "modules=all");
    let mut last = tell("log 10")[3];
    let date = |by: &str| {
        let status = Command::new("date")
            .args(["-s", by])
            .status()
            .expect("date");
        assert!(status.success());
    };
    for by in ["-10 minutes", "+3 minutes", "-1 hour"] {
        date(by);
        let numbers = tell("log 10");
        assert!(numbers[2] > last, "{by}: {numbers:?}");
        last = numbers[3];
    }
    // Minutes ahead: believed. Days: not.
    let ahead = last + 600_000_000_000;
    let seen = tell(&format!("seen {ahead}"));
    assert!(seen[2] > ahead && seen[3] > seen[2]);
    let far = seen[3] + 40 * 86_400_000_000_000;
    assert_eq!(tell(&format!("seen {far}"))[2], 0);
    let last = tell("log 10")[3];
    assert!(last > ahead && last < far);
    settled(50);
    drop(machine);
    let _machine = ours(&folder, "modules=all");
    assert!(tell("log 1")[2] > last, "after a load");
    date("+67 minutes");
}
