// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! `/dev/virgo`: what is loaded.

use std::fmt;
use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use virgo_proto::uapi;

use crate::error::{Action, Error};
use crate::sys;
use crate::Result;

/// A version of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Grows with what breaks older programs.
    pub major: u16,
    /// Grows with what is new.
    pub minor: u8,
    /// Grows with what is put right.
    pub patch: u8,
}

impl From<u32> for Version {
    /// `major << 16 | minor << 8 | patch`.
    fn from(number: u32) -> Self {
        let [high, low, minor, patch] = number.to_be_bytes();
        Version {
            major: u16::from_be_bytes([high, low]),
            minor,
            patch,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The answer to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Modules {
    /// Version of the suite.
    pub version: Version,
    /// Version of the table that the modules share among themselves.
    pub abi: u32,
    /// `VIRGO_FEATURE_` bits.
    pub features: u64,
    /// A bit for each loaded module.
    pub modules: u64,
    /// Grows each time that a module comes or goes.
    pub generation: u64,
}

impl Modules {
    /// Whether a module is loaded.
    pub fn has(&self, module: uapi::Module) -> bool {
        (self.modules >> (module as u32)) & 1 != 0
    }

    /// The loaded modules, in the order of their numbers. Those that this library doesn't know
    /// are left out.
    pub fn loaded(&self) -> impl Iterator<Item = uapi::Module> + '_ {
        uapi::Module::ALL
            .into_iter()
            .filter(|module| self.has(*module))
    }
}

/// `/dev/virgo`, opened.
#[derive(Debug)]
pub struct Control {
    fd: OwnedFd,
}

impl Control {
    /// Opens the device.
    pub fn open() -> Result<Self> {
        let path = uapi::DEVICE;
        let fd = sys::open_device(path).map_err(|errno| Error::new(Action::Open(path), errno))?;
        Ok(Control { fd })
    }

    /// `QUERY`: what is loaded.
    pub fn query(&self) -> Result<Modules> {
        let mut argument = uapi::Query {
            size: size_of::<uapi::Query>() as u32,
            ..Default::default()
        };
        sys::call::<{ uapi::IOC_QUERY }, _>(&self.fd, &mut argument)
            .map_err(|errno| Error::new(Action::Query, errno))?;
        Ok(Modules {
            version: argument.version.into(),
            abi: argument.abi,
            features: argument.features,
            modules: argument.modules,
            generation: argument.generation,
        })
    }

    /// Waits until a module has come or gone since the last [`Control::query`]; `false` after
    /// `timeout`, or when a signal came.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        sys::wait_readable(&self.fd, timeout).map_err(|errno| Error::new(Action::Poll, errno))
    }
}

impl AsFd for Control {
    /// To wait on with other descriptors.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_apart() {
        assert_eq!(Version::from(0x0001_0203).to_string(), "1.2.3");
        assert_eq!(Version::from(u32::MAX).to_string(), "65535.255.255");
        assert!(Version::from(0x0001_0000) > Version::from(0x0000_ffff));
    }

    #[test]
    fn unknown_modules_are_left_out() {
        let modules = Modules {
            version: 0.into(),
            abi: 1,
            features: 0,
            modules: 1 | (1 << 7) | (1 << 63),
            generation: 1,
        };
        let names: Vec<_> = modules.loaded().map(uapi::Module::name).collect();
        assert_eq!(names, ["virgo-core", "virgo-profiler"]);
    }
}
