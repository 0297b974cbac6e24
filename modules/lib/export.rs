// SPDX-License-Identifier: GPL-2.0-only

//! Exporting functions to other modules.

/// Exports a `#[no_mangle] extern "C"` function in symbol namespace "VIRGO", to GPL modules.
///
/// Emits the record that `EXPORT_SYMBOL_NS_GPL()` does (include/linux/export.h); modpost makes the
/// symbol's table entry from it.
#[macro_export]
macro_rules! virgo_export {
    ($function:ident) => {
        ::core::arch::global_asm!(concat!(
            ".section \".export_symbol\",\"a\"\n",
            "__export_symbol_",
            stringify!($function),
            ":\n.asciz \"GPL\"\n.asciz \"VIRGO\"\n.balign 8\n.quad ",
            stringify!($function),
            "\n.previous"
        ));
    };
}
