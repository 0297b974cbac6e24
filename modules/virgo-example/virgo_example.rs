// SPDX-License-Identifier: GPL-2.0-only

//! virgo-example: how a module offers a function to the cluster. `virgo call example_sum 1 2 3`.

use kernel::{
    prelude::*,
    sync::Arc, //
};

#[path = "../lib/mod.rs"]
mod lib;
#[allow(dead_code, reason = "shared with programs; each module uses a part")]
#[path = "../../crates/virgo-proto/src/imp/mod.rs"]
mod proto;

use lib::functions::{
    Function,
    FunctionRegistration,
    Running, //
};
use lib::service::RemoteReply;

module! {
    type: Example,
    name: "virgo_example",
    authors: ["The VIRGO authors"],
    description: "VIRGO: an example of a function that other nodes can call",
    license: "GPL",
    imports_ns: ["VIRGO"],
}
crate::virgo_module_version!();

/// The sum of numbers that are separated by spaces.
struct Sum;

impl Function for Sum {
    const NAME: &'static str = "example_sum";
    const SLOW: bool = false;

    fn run(&self, input: &[u8], output: &mut RemoteReply, _call: &Running<'_>) -> Result {
        let text = core::str::from_utf8(input).map_err(|_| EINVAL)?;
        let mut sum: i64 = 0;
        for word in text.split_ascii_whitespace() {
            let number = word.parse().map_err(|_| EINVAL)?;
            sum = sum.checked_add(number).ok_or(EOVERFLOW)?;
        }
        output.push(kernel::str::CString::try_from_fmt(fmt!("{sum}"))?.to_bytes())
    }
}

struct Example(#[allow(dead_code)] FunctionRegistration<Sum>);

impl kernel::Module for Example {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let sum = Arc::new(Sum, GFP_KERNEL)?;
        Ok(Example(FunctionRegistration::new(sum)?))
    }
}
