// SPDX-License-Identifier: GPL-2.0-only

//! Parameters that are text, which `module!` has not: it takes numbers only.

use core::{
    cell::UnsafeCell,
    ptr, //
};

use kernel::{
    bindings,
    module_param::KernelParam,
    prelude::*, //
};

use super::module::this_module;

/// The value of a text parameter; made by [`virgo_string_param!`](crate::virgo_string_param).
///
/// # Invariants
///
/// The pointer is null or a C string, which the kernel sets before the module's init function runs
/// and frees after its exit function.
pub struct StringParam(UnsafeCell<*mut c_char>);

// SAFETY: The kernel writes it while the module is loaded and before any of its code runs (the
// parameter's permissions are 0, so it cannot be set later); after that it is only read.
unsafe impl Sync for StringParam {}

impl StringParam {
    /// Nothing set.
    #[doc(hidden)]
    pub const fn new() -> Self {
        // INVARIANT: Null.
        StringParam(UnsafeCell::new(ptr::null_mut()))
    }

    /// What was given, without white space around it; empty if nothing was.
    pub fn get(&'static self) -> &'static [u8] {
        // SAFETY: Nobody writes it while the module's code runs, see `Sync`.
        let text = unsafe { *self.0.get() };
        if text.is_null() {
            return b"";
        }
        // SAFETY: A C string by the invariant, which lives as long as the module.
        unsafe { CStr::from_char_ptr(text) }.to_bytes().trim_ascii()
    }

    /// The kernel's description of the parameter `name`, which ends with NUL.
    #[doc(hidden)]
    pub const fn describe(&'static self, name: &'static str) -> KernelParam {
        KernelParam::new(bindings::kernel_param {
            name: name.as_ptr().cast(),
            mod_: this_module(),
            ops: &raw const bindings::param_ops_charp,
            perm: 0,
            level: -1,
            flags: 0,
            __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
                arg: self.0.get().cast(),
            },
        })
    }
}

/// The bytes of a text of length `N`, for a section of their own.
#[doc(hidden)]
pub const fn bytes_of<const N: usize>(text: &str) -> [u8; N] {
    let mut all = [0; N];
    let mut rest = text.as_bytes();
    let mut at = 0;
    while let [first, tail @ ..] = rest {
        all[at] = *first;
        at += 1; // OVERFLOW: runs at compile time.
        rest = tail;
    }
    all
}

/// A parameter that is text: `virgo_string_param!(ROOT, "root", "the folder to serve");` and then
/// `ROOT.get()`. It can be given when the module is loaded, and not changed later.
#[macro_export]
macro_rules! virgo_string_param {
    ($value:ident, $name:literal, $description:literal) => {
        static $value: $crate::lib::param::StringParam = $crate::lib::param::StringParam::new();

        const _: () = {
            const PARM: &str = concat!("parm=", $name, ":", $description, "\0");
            const TYPE: &str = concat!("parmtype=", $name, ":charp\0");

            #[used(compiler)]
            #[link_section = ".modinfo"]
            static PARM_BYTES: [u8; PARM.len()] = $crate::lib::param::bytes_of(PARM);
            #[used(compiler)]
            #[link_section = ".modinfo"]
            static TYPE_BYTES: [u8; TYPE.len()] = $crate::lib::param::bytes_of(TYPE);
            #[used(compiler)]
            #[link_section = "__param"]
            static PARAM: ::kernel::module_param::KernelParam =
                $value.describe(concat!($name, "\0"));
        };
    };
}
