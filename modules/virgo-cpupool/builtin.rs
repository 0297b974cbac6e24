// SPDX-License-Identifier: GPL-2.0-only

//! The functions that are always there.

use core::str;

use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

use crate::{
    lib::{
        file::{
            Access,
            OwnedFile, //
        },
        functions::{
            Function,
            FunctionRegistration,
            Running, //
        },
        service::RemoteReply,
        zeroed::zeroed, //
    },
    logic::primes,
};

/// Bytes of a window of the sieve: what fits the processor's first cache.
const WINDOW: usize = 32 << 10;
/// The longest text of a file that is told.
const TEXT: usize = 16 << 10;

/// A number in an input, with white space around it.
fn number(input: &[u8]) -> Result<u64> {
    let text = str::from_utf8(input.trim_ascii()).map_err(|_| EINVAL)?;
    text.parse().map_err(|_| EINVAL)
}

fn no_input(input: &[u8]) -> Result {
    if input.trim_ascii().is_empty() {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

/// The text of a small file of the kernel's, without the end of its last line.
fn tell(folder: &CStr, name: &CStr, output: &mut RemoteReply) -> Result {
    let file = OwnedFile::open_in(folder, name, Access::Read, 0)?;
    let mut text: KVVec<u8> = zeroed(TEXT, GFP_KERNEL)?;
    let length = file.read_at(&mut text, 0)?;
    let text = text.get(..length).unwrap_or(&[]);
    output.push(text.strip_suffix(b"\n").unwrap_or(text))
}

/// The original's test function; it answers what the original's port always did.
struct Test;

impl Function for Test {
    const NAME: &'static str = "virgo_cloud_test_kernelspace";
    const SLOW: bool = false;
    const ATOMIC: bool = true;

    fn run(&self, _input: &[u8], output: &mut RemoteReply, _call: &Running<'_>) -> Result {
        output.push(b"virgo_cloudexec_sendto(): cloudclonethread executed for clone_func(), sending message to virgo_clone() remote syscall client")
    }
}

/// The input, as it came.
struct Echo;

impl Function for Echo {
    const NAME: &'static str = "echo";
    const SLOW: bool = false;
    const ATOMIC: bool = true;

    fn run(&self, input: &[u8], output: &mut RemoteReply, _call: &Running<'_>) -> Result {
        output.push(input)
    }
}

/// The node's name and kernel.
struct Uname;

impl Function for Uname {
    const NAME: &'static str = "uname";

    fn run(&self, input: &[u8], output: &mut RemoteReply, _call: &Running<'_>) -> Result {
        no_input(input)?;
        tell(c"/proc/sys/kernel", c"hostname", output)?;
        output.push(b" ")?;
        tell(c"/proc", c"version", output)
    }
}

/// /proc/loadavg.
struct Loadavg;

impl Function for Loadavg {
    const NAME: &'static str = "loadavg";

    fn run(&self, input: &[u8], output: &mut RemoteReply, _call: &Running<'_>) -> Result {
        no_input(input)?;
        tell(c"/proc", c"loadavg", output)
    }
}

/// /proc/meminfo.
struct Meminfo;

impl Function for Meminfo {
    const NAME: &'static str = "meminfo";

    fn run(&self, input: &[u8], output: &mut RemoteReply, _call: &Running<'_>) -> Result {
        no_input(input)?;
        tell(c"/proc", c"meminfo", output)
    }
}

/// How many primes there are below a number: work for a processor.
struct Primes;

impl Function for Primes {
    const NAME: &'static str = "primes";

    fn run(&self, input: &[u8], output: &mut RemoteReply, call: &Running<'_>) -> Result {
        let bound = number(input)?;
        let room = primes::divisors(bound).ok_or(ERANGE)?;
        let mut room: KVVec<u32> = zeroed(room, GFP_KERNEL)?;
        let mut window: KVVec<u8> = zeroed(WINDOW, GFP_KERNEL)?;
        let mut count = primes::Count::new(bound, &mut room, &mut window).ok_or(ERANGE)?;
        let found = loop {
            if let Some(found) = count.advance() {
                break found;
            }
            if call.cancelled() {
                return Err(call.why());
            }
        };
        let mut digits = [0_u8; 20];
        output.push(decimal(found, &mut digits))
    }
}

/// A number's digits.
pub(crate) fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        // CAST: below 10.
        *place = b'0'.wrapping_add((value % 10) as u8);
        used += 1; // OVERFLOW: at most 20.
        value /= 10;
        if value == 0 {
            break;
        }
    }
    digits.get(20_usize.saturating_sub(used)..).unwrap_or(&[])
}

/// Sleeps so many milliseconds.
struct Sleep;

impl Function for Sleep {
    const NAME: &'static str = "sleep";

    fn run(&self, input: &[u8], _output: &mut RemoteReply, call: &Running<'_>) -> Result {
        let mut left = number(input)?;
        while left > 0 {
            if call.cancelled() {
                return Err(call.why());
            }
            let nap = left.min(20);
            // At most 20.
            fsleep(Delta::from_millis(i64::try_from(nap).unwrap_or(1)));
            left = left.saturating_sub(nap);
        }
        Ok(())
    }
}

/// All of them.
pub(crate) struct Builtin {
    _test: FunctionRegistration<Test>,
    _echo: FunctionRegistration<Echo>,
    _uname: FunctionRegistration<Uname>,
    _loadavg: FunctionRegistration<Loadavg>,
    _meminfo: FunctionRegistration<Meminfo>,
    _primes: FunctionRegistration<Primes>,
    _sleep: FunctionRegistration<Sleep>,
}

impl Builtin {
    /// Puts them into the table. May sleep.
    pub(crate) fn new() -> Result<Self> {
        fn offer<T: Function>(function: T) -> Result<FunctionRegistration<T>> {
            FunctionRegistration::new(Arc::new(function, GFP_KERNEL)?)
        }
        Ok(Builtin {
            _test: offer(Test)?,
            _echo: offer(Echo)?,
            _uname: offer(Uname)?,
            _loadavg: offer(Loadavg)?,
            _meminfo: offer(Meminfo)?,
            _primes: offer(Primes)?,
            _sleep: offer(Sleep)?,
        })
    }
}
