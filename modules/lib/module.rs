// SPDX-License-Identifier: GPL-2.0-only

//! The module that this source is compiled into.

use kernel::{
    bindings,
    prelude::*,
    types::Opaque, //
};

/// This module's `THIS_MODULE`.
///
/// Asked of the linker rather than of the `module!` macro, whose name for it differs between
/// releases.
pub(super) const fn this_module() -> *mut bindings::module {
    #[allow(
        improper_ctypes,
        reason = "its address alone is taken; see modules/lib/ffi.rs"
    )]
    extern "C" {
        static __this_module: Opaque<bindings::module>;
    }
    // SAFETY: Every module has `__this_module`, made by modpost, for as long as it is loaded; its
    // address alone is taken.
    unsafe { __this_module.get() }
}

/// Version of the suite: major, minor, patch.
pub const VERSION: (u32, u32, u32) = (0, 1, 0);

/// [`VERSION`] as the uAPI has it.
pub const VERSION_NUMBER: u32 = VERSION.0 << 16 | VERSION.1 << 8 | VERSION.2;

/// Checks the module parameter `name`; the kernel's log says what is wrong with it. `EINVAL` outside
/// `low` to `high`.
pub fn checked(name: &str, value: u32, low: u32, high: u32) -> Result<u32> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    pr_err!(
        "parameter {} is {}: it must be {} to {}\n",
        name,
        value,
        low,
        high
    );
    Err(EINVAL)
}

/// Puts the suite's version into the module, where modinfo finds it: `module!` has no field for it.
#[macro_export]
macro_rules! virgo_module_version {
    () => {
        // Not by a static with `#[used]`: with newer compilers its section has other flags than the
        // kernel's own, so there would be two of the name, and the kernel refuses such a module.
        ::core::arch::global_asm!(
            ".section \".modinfo\",\"a\"\n.asciz \"version=0.1.0\"\n.previous"
        );
    };
}

/// A reference on a module, which keeps it from being unloaded.
///
/// # Invariants
///
/// The pointer is null (built into the kernel) or a loaded module, of which one reference is owned.
pub struct ModuleRef(*mut bindings::module);

// SAFETY: `module_put()` may be called from any thread.
unsafe impl Send for ModuleRef {}
// SAFETY: There are no methods that take `&self` and touch the module.
unsafe impl Sync for ModuleRef {}

impl ModuleRef {
    /// Pins `module`, unless it is being unloaded. Does not sleep.
    ///
    /// # Safety
    ///
    /// `module` is null or points to a module which is not freed during the call.
    pub(crate) unsafe fn try_get(module: *mut bindings::module) -> Option<ModuleRef> {
        // SAFETY: By the safety requirements.
        // INVARIANT: On success one reference is owned.
        // Not `then_some`: its value is made, and dropped, where none was got too.
        unsafe { bindings::try_module_get(module) }.then(|| ModuleRef(module))
    }

    /// Takes over a reference that is owned already.
    ///
    /// # Safety
    ///
    /// The caller owns a reference on `module` and gives it up.
    pub(crate) unsafe fn adopt(module: *mut bindings::module) -> ModuleRef {
        // INVARIANT: By the safety requirements.
        ModuleRef(module)
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the invariant, one reference is owned; it is given up here.
        unsafe { bindings::module_put(self.0) };
    }
}
