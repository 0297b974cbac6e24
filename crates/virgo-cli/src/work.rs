// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `virgo work`: the original profiler's test program.
//!
//! It asks for memory in blocks of 1 MiB, and in each of 20 iterations writes to so many places
//! of it, then sleeps for a second. R: every place at random. L (the original's usage text says
//! T): every fifth access goes to a random place, the others up to 299 bytes further than the one
//! before. The original computes the latter addresses and never touches them; this program does.

use std::hint::black_box;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::cli;
use crate::collect::register_bound;
use crate::text::Usage;

const USAGE: &str = "usage: work <memsize in MB> <locality: R for Random or T for Temporal> \
                     <# of memory accesses per iteration>";
const MEMORY: &str = "memsize shall be between 1 and 1024";
const ACCESSES: &str = "# of memory accesses shall be at least 1";

const BLOCK: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locality {
    Random,
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Configuration {
    blocks: usize,
    locality: Locality,
    accesses: u64,
}

impl Configuration {
    /// Checks the three arguments, with the original's words.
    fn parse(options: &cli::Work) -> Result<Self, Usage> {
        let usage = |text: &str| Usage(text.into());
        let (Some(memory), Some(locality), Some(accesses)) =
            (&options.memory, &options.locality, &options.accesses)
        else {
            return Err(usage(USAGE));
        };
        let blocks = memory
            .parse()
            .ok()
            .filter(|blocks| (1..=1024).contains(blocks))
            .ok_or_else(|| usage(MEMORY))?;
        let locality = match locality.as_str() {
            "R" => Locality::Random,
            "L" | "T" => Locality::Local,
            _ => return Err(usage(USAGE)),
        };
        let accesses = accesses
            .parse()
            .ok()
            .filter(|accesses| *accesses >= 1)
            .ok_or_else(|| usage(ACCESSES))?;
        Ok(Configuration {
            blocks,
            locality,
            accesses,
        })
    }
}

/// xorshift64*: the same places in every run, as with the original's rand() without srand().
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`, which is far below 2^32 here: the slant towards small numbers is
    /// too small to matter.
    fn below(&mut self, limit: usize) -> usize {
        // CAST: the remainder is below `limit`, a usize.
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// The next address, in bytes from the start of the first block.
fn step(random: &mut Random, locality: Locality, address: usize, size: usize) -> usize {
    if locality == Locality::Random || random.below(5) == 0 {
        random.below(size)
    } else {
        (address + random.below(300)) % size
    }
}

pub(crate) fn run(options: &cli::Work) -> anyhow::Result<ExitCode> {
    let configuration = Configuration::parse(options)?;
    // Best effort: the name and the page size change figures in tables, not what is done.
    let _ = rustix::thread::set_name(c"work");
    if !options.huge_pages {
        let _ = rustix::thread::disable_transparent_huge_pages(true);
    }
    let pid = rustix::process::getpid().as_raw_pid();
    // Under "profiler run" it is registered already, which is as good.
    let pids = if options.register {
        vec![pid]
    } else {
        Vec::new()
    };
    let bound = register_bound(&cli::Bound { pids })?;
    work(configuration, pid, options)?;
    drop(bound);
    Ok(ExitCode::SUCCESS)
}

fn work(configuration: Configuration, pid: i32, options: &cli::Work) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "A work process starts (configuration: {} {} {})",
        configuration.blocks,
        u8::from(configuration.locality == Locality::Local),
        configuration.accesses
    )?;
    // Zeroed memory comes from the kernel untouched: each page is given at its first access.
    let mut blocks: Vec<Vec<u8>> = (0..configuration.blocks).map(|_| vec![0; BLOCK]).collect();
    let size = configuration.blocks * BLOCK;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for iteration in 0..options.iterations {
        writeln!(out, "[{pid}] {iteration} iteration")?;
        out.flush()?;
        let mut address = random.below(size);
        for _ in 0..configuration.accesses {
            address = step(&mut random, configuration.locality, address, size);
            let byte = &mut blocks[address / BLOCK][address % BLOCK];
            *byte = byte.wrapping_add(1);
        }
        black_box(&mut blocks);
        thread::sleep(Duration::from_millis(options.pause));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: [Option<&str>; 3]) -> cli::Work {
        let [memory, locality, accesses] = arguments.map(|text| text.map(Into::into));
        cli::Work {
            memory,
            locality,
            accesses,
            iterations: 20,
            pause: 0,
            register: false,
            huge_pages: false,
        }
    }

    #[test]
    fn arguments_are_checked_with_the_originals_words() {
        let cases = [
            ([None, None, None], USAGE),
            ([Some("200"), Some("R"), None], USAGE),
            ([Some("0"), Some("R"), Some("1")], MEMORY),
            ([Some("1025"), Some("R"), Some("1")], MEMORY),
            ([Some("-1"), Some("R"), Some("1")], MEMORY),
            ([Some("x"), Some("R"), Some("1")], MEMORY),
            ([Some("200"), Some("X"), Some("1")], USAGE),
            ([Some("200"), Some("R"), Some("0")], ACCESSES),
            ([Some("200"), Some("R"), Some("x")], ACCESSES),
        ];
        for (arguments, words) in cases {
            let error = Configuration::parse(&options(arguments)).unwrap_err();
            assert_eq!(error.0, words, "{arguments:?}");
        }
    }

    #[test]
    fn t_means_l() {
        let parse = |locality| {
            Configuration::parse(&options([Some("1024"), Some(locality), Some("1")])).unwrap()
        };
        assert_eq!(parse("T"), parse("L"));
        assert_eq!(parse("R").locality, Locality::Random);
        assert_eq!(parse("R").blocks, 1024);
    }

    #[test]
    fn local_accesses_stay_close_four_times_in_five() {
        let size = 64 * BLOCK;
        let mut random = Random(1);
        let (mut address, mut close) = (0, 0);
        for _ in 0..10_007 {
            let next = step(&mut random, Locality::Local, address, size);
            assert!(next < size);
            close += u32::from((next + size - address) % size < 300);
            address = next;
        }
        assert!((7_800..8_300).contains(&close), "{close}");
    }
}
