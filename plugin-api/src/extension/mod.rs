//! What a method may offer beyond the functions of ABI 1, one folder for each extension:
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the trait that an author implements, and its name in [`export_plugin!`](crate::export_plugin) |
//! | `shim.rs` | the C table on top of that trait |
//! | `handle.rs` | the calling side of any plugin's table |
//! | `law.rs` | what the conformance kit checks |
//!
//! To add one:
//! 1. Append its id, flags and table to `include/vq_plugin.h` and [`abi`](crate::abi), both with the
//!    same layout assertions, and raise the minor version. What is there never changes.
//! 2. Write the four files.
//! 3. Name it in `KNOWN` and in `offered` below, and its handle in [`handle`](crate::handle).
//! 4. Describe it in `docs/abi.md` and `docs/adding-a-method.md`.

use crate::conformance::{Law, Rule};
use crate::handle::Method;
use core::ffi::c_void;

mod packed;
pub mod scorer;
pub mod search;

/// An extension as the host and the conformance kit know it.
pub(crate) struct Extension {
    pub(crate) id: &'static str,
    /// True if the method offers it; an error for a table that cannot be used.
    pub(crate) offered: fn(&Method) -> Result<bool, String>,
    pub(crate) law: Law,
}

/// Every extension of this build.
pub(crate) const KNOWN: &[Extension] = &[scorer::EXTENSION, search::EXTENSION];

/// The rules of all of them.
pub(crate) fn rules() -> impl Iterator<Item = &'static Rule> {
    KNOWN.iter().flat_map(|extension| extension.law.rules)
}

/// The names that [`export_plugin!`](crate::export_plugin) takes after a quantizer's.
#[doc(hidden)]
pub mod offered {
    pub use super::scorer::Offered as Scorer;
    pub use super::search::Offered as Search;
}

/// An extension that `Q` offers.
#[doc(hidden)]
pub trait Offer<Q> {
    /// Its id.
    const ID: &'static str;
    /// Its static table.
    fn table() -> *const c_void;
}

/// The extensions that `Q` offers: `()`, or one and the others.
#[doc(hidden)]
pub trait Offers<Q> {
    /// The static table for `id`; null where it is none of these.
    fn table(id: &str) -> *const c_void;
}

impl<Q> Offers<Q> for () {
    fn table(_: &str) -> *const c_void {
        core::ptr::null()
    }
}

impl<Q, First: Offer<Q>, More: Offers<Q>> Offers<Q> for (First, More) {
    fn table(id: &str) -> *const c_void {
        if id == First::ID { First::table() } else { More::table(id) }
    }
}
