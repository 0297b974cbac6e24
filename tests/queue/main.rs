// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! virgo-queue, beside Debian's beanstalkd.

mod beside;
mod client;
mod durable;
mod ioctl;
mod lines;
mod programs;
mod run;
mod settings;
mod time;
