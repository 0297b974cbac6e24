// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Memory maps, replayed from a trace's records.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use virgo_proto::trace as wire;

/// An area of a map, as /proc/PID/maps has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// The kernel's mark of it: stays when it is resized.
    pub id: u64,
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// `AREA_` bits.
    pub flags: u32,
    /// Where in its file.
    pub offset: u64,
    /// The file's device.
    pub device: (u32, u32),
    /// The file's inode number; 0 without one.
    pub inode: u64,
    /// The file's path, or a name such as `[heap]`; empty without one.
    pub name: Arc<str>,
}

impl Area {
    pub(super) fn new(area: &wire::Area<'_>, name: Arc<str>) -> Self {
        Area {
            id: area.id,
            start: area.start,
            end: area.end,
            flags: area.flags,
            offset: area.offset,
            device: (area.major, area.minor),
            inode: area.inode,
            name,
        }
    }

    /// `rwxp`.
    pub fn permissions(&self) -> String {
        let bit = |flag, yes, no| if self.flags & flag != 0 { yes } else { no };
        [
            bit(wire::AREA_READ, 'r', '-'),
            bit(wire::AREA_WRITE, 'w', '-'),
            bit(wire::AREA_EXEC, 'x', '-'),
            bit(wire::AREA_SHARED, 's', 'p'),
        ]
        .iter()
        .collect()
    }

    /// Its line in /proc/PID/maps, without the newline.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{:08x}-{:08x} {} {:08x} {:02x}:{:02x} {} ",
            self.start,
            self.end,
            self.permissions(),
            self.offset,
            self.device.0,
            self.device.1,
            self.inode
        );
        if !self.name.is_empty() {
            // The kernel pads to a column of its own, 25 and six words wide.
            while line.len() < 73 {
                line.push(' ');
            }
            for char in self.name.chars() {
                // As the kernel's seq_path() does.
                if char == '\n' {
                    line.push_str("\\012");
                } else {
                    line.push(char);
                }
            }
        }
        line
    }
}

/// A region: an area over its life, through changes of size and protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Number in the trace, from 0, in the order of appearance.
    pub number: usize,
    /// Process.
    pub pid: u32,
    /// How many `execve()`s of the process came before.
    pub program: u32,
    /// What it was last.
    pub area: Area,
    /// First address that it ever had.
    pub lowest: u64,
    /// The address behind the last that it ever had.
    pub highest: u64,
    /// When it appeared.
    pub born_ns: u64,
    /// When it was removed.
    pub gone_ns: Option<u64>,
}

/// The map of one process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// By first address: the area and its region's number.
    areas: BTreeMap<u64, (Area, usize)>,
    /// Areas that the change under way takes out, until it is known which come back.
    leaving: Vec<(Area, usize)>,
    /// Regions that came with the change under way.
    arriving: Vec<Area>,
    /// Areas overlapped without having been announced: 0 in a trace without drops.
    surprises: u64,
}

impl Layout {
    /// The area at an address, and its region's number.
    pub fn at(&self, address: u64) -> Option<(&Area, usize)> {
        let (_, (area, region)) = self.areas.range(..=address).next_back()?;
        (address < area.end).then_some((area, *region))
    }

    /// The areas, in order, with their regions' numbers.
    pub fn areas(&self) -> impl Iterator<Item = (&Area, usize)> {
        self.areas.values().map(|(area, region)| (area, *region))
    }

    /// The text of /proc/PID/maps. The gate page `[vsyscall]`, which is in no map, is not in it.
    pub fn maps(&self) -> String {
        let mut text = String::new();
        for (area, _) in self.areas() {
            let _ = writeln!(text, "{}", area.line());
        }
        text
    }

    /// How often records did not fit what was known: 0 in a trace without drops.
    pub fn surprises(&self) -> u64 {
        self.surprises
    }

    fn take_range(&mut self, start: u64, end: u64) -> Vec<(Area, usize)> {
        let mut keys: Vec<u64> = self.areas.range(start..end).map(|(key, _)| *key).collect();
        if let Some((key, (area, _))) = self.areas.range(..start).next_back() {
            if area.end > start {
                keys.push(*key);
            }
        }
        keys.iter()
            .filter_map(|key| self.areas.remove(key))
            .collect()
    }

    pub(super) fn begin(&mut self, map: &wire::Map) {
        let taken = self.take_range(map.start, map.end);
        self.leaving.extend(taken);
    }

    pub(super) fn add(&mut self, area: Area) {
        self.arriving.push(area);
    }

    /// Ends a change. `regions` are all of the trace; new ones are added.
    pub(super) fn finish(&mut self, regions: &mut Vec<Region>, pid: u32, program: u32, now: u64) {
        let mut arriving = std::mem::take(&mut self.arriving);
        arriving.sort_by_key(|area| area.start);
        for area in arriving {
            let overlapped = self.take_range(area.start, area.end);
            self.surprises += overlapped
                .iter()
                .filter(|(old, _)| old.id != area.id)
                .count() as u64;
            self.leaving.extend(overlapped);
            let same = self.leaving.iter().position(|(old, _)| {
                old.id == area.id
                    && old.inode == area.inode
                    && old.device == area.device
                    && old.start <= area.end
                    && area.start <= old.end
            });
            let number = match same {
                Some(index) => self.leaving.swap_remove(index).1,
                None => {
                    regions.push(Region {
                        number: regions.len(),
                        pid,
                        program,
                        area: area.clone(),
                        lowest: area.start,
                        highest: area.end,
                        born_ns: now,
                        gone_ns: None,
                    });
                    regions.len() - 1
                }
            };
            if let Some(region) = regions.get_mut(number) {
                region.lowest = region.lowest.min(area.start);
                region.highest = region.highest.max(area.end);
                region.area = area.clone();
            }
            self.areas.insert(area.start, (area, number));
        }
        for (_, number) in self.leaving.drain(..) {
            if let Some(region) = regions.get_mut(number) {
                region.gone_ns = Some(now);
            }
        }
    }

    /// Takes all out, as `execve()` and the end of a process do.
    pub(super) fn clear(&mut self, regions: &mut [Region], now: u64) {
        self.arriving.clear();
        for (_, number) in std::mem::take(&mut self.areas)
            .into_values()
            .chain(self.leaving.drain(..))
        {
            if let Some(region) = regions.get_mut(number) {
                region.gone_ns = Some(now);
            }
        }
    }

    /// A child's copy, with regions of its own.
    pub(super) fn copy(&self, regions: &mut Vec<Region>, pid: u32, now: u64) -> Layout {
        let mut copy = Layout::default();
        for (area, _) in self.areas() {
            copy.add(area.clone());
        }
        copy.finish(regions, pid, 0, now);
        copy
    }
}
