// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! A trace, read back.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use virgo_proto::trace::{self as wire, Cause, Decoder, Malformed, Record, Why};

use super::layout::{Area, Layout, Region};

pub use virgo_proto::trace::End;

/// Why a trace could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// Reading failed.
    Io(io::Error),
    /// It is not a trace, or it is damaged at this byte.
    Malformed(Malformed, u64),
    /// It is empty.
    Empty,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "{error}"),
            ReadError::Malformed(Malformed::Magic, _) => {
                write!(f, "it is not a page-fault trace")
            }
            ReadError::Malformed(Malformed::Version, _) => {
                write!(f, "it was written by another version of virgo-profiler")
            }
            ReadError::Malformed(_, at) => write!(f, "it is damaged at byte {at}"),
            ReadError::Empty => write!(f, "it is empty"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

/// A page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// CLOCK_MONOTONIC when it began.
    pub time_ns: u64,
    /// What was accessed.
    pub address: u64,
    /// Where the program was.
    pub ip: u64,
    /// How long it took, in nanoseconds; `u32::MAX` for all above four seconds.
    pub latency_ns: u32,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// `FAULT_` bits.
    pub flags: u16,
    /// How many `execve()`s of the process came before.
    pub program: u16,
    /// Its region's number in [`History::regions`]; `u32::MAX` if it is in none that is known.
    pub region: u32,
    /// The region's number of where the program was, likewise.
    pub code: u32,
}

impl Fault {
    /// Has it this `FAULT_` bit?
    pub fn is(&self, flag: u32) -> bool {
        u32::from(self.flags) & flag != 0
    }
}

/// An `execve()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Process.
    pub pid: u32,
    /// The program, as its path was given.
    pub path: String,
}

/// What the faults of a trace come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Minor faults.
    pub minor: u64,
    /// Major faults.
    pub major: u64,
    /// First touches of a page.
    pub first: u64,
    /// For writing.
    pub writes: u64,
    /// For an instruction.
    pub executes: u64,
}

impl Usage {
    /// Counts a fault.
    pub fn add(&mut self, fault: &Fault) {
        let one = |flag| u64::from(fault.is(flag));
        self.major += one(wire::FAULT_MAJOR);
        self.minor += 1 - one(wire::FAULT_MAJOR);
        self.first += one(wire::FAULT_FIRST);
        self.writes += one(wire::FAULT_WRITE);
        self.executes += one(wire::FAULT_EXEC);
    }

    /// Faults in all.
    pub fn faults(&self) -> u64 {
        self.minor + self.major
    }
}

/// What happens in a trace.
#[derive(Clone, Debug)]
pub enum Event {
    /// A process is traced from here on.
    Process(wire::Process),
    /// A fault.
    Fault(Fault),
    /// A map has changed.
    Map {
        /// CLOCK_MONOTONIC.
        time_ns: u64,
        /// Process.
        pid: u32,
        /// Why.
        cause: Cause,
    },
    /// A process executes another program.
    Exec(Exec),
    /// Faults and map records that did not fit.
    Dropped {
        /// Faults.
        faults: u64,
        /// Map records.
        maps: u64,
    },
    /// A process is traced no more.
    End(End),
}

enum Step {
    Event(Event),
    Other,
    Incomplete,
}

struct Process {
    layout: Layout,
    program: u32,
    /// The process whose map this one uses.
    shares: Option<u32>,
    /// What the change under way is.
    change: Option<(u64, Cause)>,
}

/// A trace's events, one by one, with the maps as they are at each.
pub struct Events<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at: u64,
    eof: bool,
    decoder: Decoder,
    begin: Option<wire::Begin>,
    regions: Vec<Region>,
    processes: HashMap<u32, Process>,
    names: HashMap<Vec<u8>, Arc<str>>,
    cut: bool,
}

impl<R: Read> Events<R> {
    /// Reads the first record.
    pub fn new(input: R) -> Result<Self, ReadError> {
        let mut events = Events {
            input,
            buffer: vec![0; 1 << 16],
            start: 0,
            end: 0,
            at: 0,
            eof: false,
            decoder: Decoder::new(),
            begin: None,
            regions: Vec::new(),
            processes: HashMap::new(),
            names: HashMap::new(),
            cut: false,
        };
        while events.begin.is_none() {
            let buffer = std::mem::take(&mut events.buffer);
            let step = events.record(&buffer);
            events.buffer = buffer;
            match step? {
                Step::Incomplete if events.eof && events.start == events.end => {
                    return Err(ReadError::Empty);
                }
                Step::Incomplete if events.eof => {
                    return Err(ReadError::Malformed(Malformed::Magic, 0));
                }
                Step::Incomplete => events.fill()?,
                Step::Event(_) | Step::Other => {}
            }
        }
        Ok(events)
    }

    /// The first record.
    pub fn begin(&self) -> wire::Begin {
        self.begin.unwrap_or_default()
    }

    /// All regions so far.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// A process's map as it is now.
    pub fn layout(&self, pid: u32) -> Option<&Layout> {
        let process = self.processes.get(&pid)?;
        match process.shares {
            Some(other) => self.processes.get(&other).map(|process| &process.layout),
            None => Some(&process.layout),
        }
    }

    /// Whether the file ended in the midst of a record.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The next event; `None` at the end. After an error of reading, such as that there is nothing
    /// yet, it can be called again.
    pub fn next_event(&mut self) -> Result<Option<Event>, ReadError> {
        loop {
            // Borrowed apart from `self`, of which the record's use changes other parts.
            let buffer = std::mem::take(&mut self.buffer);
            let step = self.record(&buffer);
            self.buffer = buffer;
            match step? {
                Step::Event(event) => return Ok(Some(event)),
                Step::Other => {}
                Step::Incomplete if self.eof => {
                    // The writer was killed, or the disk was full.
                    self.cut |= self.start < self.end;
                    self.start = self.end;
                    return Ok(None);
                }
                Step::Incomplete => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        loop {
            // No record is longer than the room that is left.
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.eof = true,
                Ok(length) => self.end += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }

    /// Takes one record.
    fn record(&mut self, buffer: &[u8]) -> Result<Step, ReadError> {
        let bytes = buffer.get(self.start..self.end).unwrap_or(&[]);
        let decoded = self
            .decoder
            .next(bytes)
            .map_err(|error| ReadError::Malformed(error, self.at))?;
        let Some((record, used)) = decoded else {
            return Ok(Step::Incomplete);
        };
        self.start += used;
        self.at += used as u64;
        Ok(match self.apply(record) {
            Some(event) => Step::Event(event),
            None => Step::Other,
        })
    }

    fn process(&mut self, pid: u32) -> &mut Process {
        self.processes.entry(pid).or_insert_with(|| Process {
            layout: Layout::default(),
            program: 0,
            shares: None,
            change: None,
        })
    }

    fn apply(&mut self, record: Record<'_>) -> Option<Event> {
        match record {
            Record::Begin(begin) => {
                self.begin = Some(begin);
                None
            }
            Record::Process(process) => {
                let layout = match self.layout(process.parent) {
                    // A child's own map follows; until then it is its parent's.
                    Some(parent) if !process.shares_map => {
                        let parent = parent.clone();
                        parent.copy(&mut self.regions, process.pid, process.time_ns)
                    }
                    _ => Layout::default(),
                };
                let entry = self.process(process.pid);
                entry.layout = layout;
                entry.program = 0;
                entry.shares = process.shares_map.then_some(process.parent);
                entry.change = None;
                Some(Event::Process(process))
            }
            Record::Map(map) => {
                let entry = self.process(map.pid);
                entry.shares = None;
                entry.change = Some((map.time_ns, map.cause));
                entry.layout.begin(&map);
                None
            }
            Record::Area(area) => {
                let name = match self.names.get(area.name) {
                    Some(name) => name.clone(),
                    None => {
                        let name: Arc<str> = String::from_utf8_lossy(area.name).into();
                        self.names.insert(area.name.to_vec(), name.clone());
                        name
                    }
                };
                self.process(area.pid).layout.add(Area::new(&area, name));
                None
            }
            Record::MapEnd { pid } => {
                let process = self.processes.get_mut(&pid)?;
                let (time_ns, cause) = process.change.take()?;
                let program = process.program;
                process
                    .layout
                    .finish(&mut self.regions, pid, program, time_ns);
                Some(Event::Map {
                    time_ns,
                    pid,
                    cause,
                })
            }
            Record::Exec { time_ns, pid, path } => {
                self.process(pid);
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.layout.clear(&mut self.regions, time_ns);
                    process.program += 1;
                    process.shares = None;
                }
                Some(Event::Exec(Exec {
                    time_ns,
                    pid,
                    path: String::from_utf8_lossy(path).into_owned(),
                }))
            }
            Record::Fault(fault) => Some(Event::Fault(self.place(&fault))),
            Record::Dropped { faults, maps } => Some(Event::Dropped { faults, maps }),
            Record::End(end) => {
                if end.why == Why::Exited {
                    if let Some(process) = self.processes.get_mut(&end.pid) {
                        process.layout.clear(&mut self.regions, end.time_ns);
                    }
                }
                Some(Event::End(end))
            }
        }
    }

    fn place(&self, fault: &wire::Fault) -> Fault {
        let layout = self.layout(fault.pid);
        let region = |address: u64| {
            layout
                .and_then(|layout| layout.at(address))
                .map_or(u32::MAX, |(_, number)| {
                    u32::try_from(number).unwrap_or(u32::MAX)
                })
        };
        let program = self.processes.get(&fault.pid).map_or(0, |p| p.program);
        Fault {
            time_ns: fault.time_ns,
            address: fault.address,
            ip: fault.ip,
            latency_ns: u32::try_from(fault.latency_ns).unwrap_or(u32::MAX),
            pid: fault.pid,
            tid: fault.tid,
            flags: fault.flags as u16,
            program: u16::try_from(program).unwrap_or(u16::MAX),
            region: if fault.flags & wire::FAULT_OTHER != 0 {
                u32::MAX
            } else {
                region(fault.address)
            },
            code: region(fault.ip),
        }
    }
}

/// A whole trace.
#[derive(Debug)]
pub struct History {
    /// The first record.
    pub begin: wire::Begin,
    /// Processes, in the order of their beginning.
    pub processes: Vec<wire::Process>,
    /// Regions, in the order of their appearance.
    pub regions: Vec<Region>,
    /// Faults, in the order of their ends.
    pub faults: Vec<Fault>,
    /// `execve()`s.
    pub execs: Vec<Exec>,
    /// The ends of processes.
    pub ends: Vec<End>,
    /// Faults that did not fit.
    pub dropped: u64,
    /// Map records that did not fit.
    pub dropped_maps: u64,
    /// Changes of maps.
    pub map_changes: u64,
    /// The file ended in the midst of a record.
    pub cut: bool,
}

impl History {
    /// Reads all of a trace.
    pub fn read(input: impl Read) -> Result<Self, ReadError> {
        let mut events = Events::new(input)?;
        let mut history = History {
            begin: events.begin(),
            processes: Vec::new(),
            regions: Vec::new(),
            faults: Vec::new(),
            execs: Vec::new(),
            ends: Vec::new(),
            dropped: 0,
            dropped_maps: 0,
            map_changes: 0,
            cut: false,
        };
        while let Some(event) = events.next_event()? {
            match event {
                Event::Process(process) => history.processes.push(process),
                Event::Fault(fault) => history.faults.push(fault),
                Event::Map { .. } => history.map_changes += 1,
                Event::Exec(exec) => history.execs.push(exec),
                Event::Dropped { faults, maps } => {
                    history.dropped += faults;
                    history.dropped_maps += maps;
                }
                Event::End(end) => history.ends.push(end),
            }
        }
        history.cut = events.is_cut();
        history.regions = events.regions;
        Ok(history)
    }

    /// What all faults come to.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for fault in &self.faults {
            usage.add(fault);
        }
        usage
    }

    /// The region of a fault.
    pub fn region(&self, fault: &Fault) -> Option<&Region> {
        self.regions.get(usize::try_from(fault.region).ok()?)
    }

    /// The region that the program was in.
    pub fn code(&self, fault: &Fault) -> Option<&Region> {
        self.regions.get(usize::try_from(fault.code).ok()?)
    }

    /// The pages that were accessed, in order: a number for each page of each address space.
    pub fn references(&self) -> Vec<u32> {
        let shift = self.begin.page_size.max(1).trailing_zeros();
        let mut numbers: HashMap<(u32, u16, u64), u32> = HashMap::new();
        self.faults
            .iter()
            .map(|fault| {
                let page = (fault.pid, fault.program, fault.address >> shift);
                let next = numbers.len() as u32;
                *numbers.entry(page).or_insert(next)
            })
            .collect()
    }
}
