//! A library's table of methods.

use super::describe::{DescribeError, SHORT_TEXT, cut, describe, size};
use super::method::Method;
use crate::abi::{self, MAGIC, VqMethod, VqPlugin};
use crate::thread_state::{Change, Changed};
use crate::wire;
use std::sync::Arc;

/// More methods than any library has.
const MAX_METHODS: usize = 256;

/// A plugin's table, read and checked.
#[derive(Clone, Debug)]
pub struct Plugin {
    sdk: String,
    abi: (u32, u32),
    methods: Vec<Method>,
    changed: Arc<Changed>,
}

impl Plugin {
    /// Reads a plugin's table.
    ///
    /// # Errors
    /// Anything that makes the table unusable; nothing of the plugin but `get_extension` is
    /// called.
    ///
    /// # Safety
    /// `raw` is what a library's `vq_plugin_entry_v1` answered, and the library stays loaded. Its
    /// pointers are trusted where no check can help: a hostile table can crash this process, which
    /// is why libraries are described in a child process.
    pub unsafe fn read(raw: *const VqPlugin) -> Result<Self, DescribeError> {
        // SAFETY: null or the plugin's static table.
        let raw = unsafe { raw.as_ref() }.ok_or(DescribeError::Refused)?;
        if raw.magic != MAGIC {
            return Err(DescribeError::Magic);
        }
        if raw.abi_major != abi::ABI_MAJOR {
            return Err(DescribeError::Version { major: raw.abi_major, minor: raw.abi_minor });
        }
        size("vq_plugin", raw.struct_size, size_of::<VqPlugin>())?;
        let table = |e: crate::Error| DescribeError::Table(e.to_string());
        if raw.n_methods == 0 || raw.n_methods > MAX_METHODS {
            return Err(DescribeError::Table(format!("it offers {} methods", raw.n_methods)));
        }
        // SAFETY: the plugin's static text.
        let sdk = cut(unsafe { raw.sdk.text() }.map_err(table)?, SHORT_TEXT);
        // SAFETY: `n_methods` pointers, says the table.
        let pointers = unsafe { wire::slice(raw.methods, raw.n_methods) }.map_err(table)?;
        let changed = Arc::new(Changed::default());
        let mut methods: Vec<Method> = Vec::with_capacity(pointers.len());
        for (i, pointer) in pointers.iter().enumerate() {
            // SAFETY: null or a static table of the plugin.
            let method = unsafe { pointer.as_ref() }
                .ok_or_else(|| DescribeError::Table(format!("its method {i} is NULL")))?;
            size("vq_method", method.struct_size, size_of::<VqMethod>())?;
            let about = describe(method, i, &changed)?;
            if methods.iter().any(|m| m.about.id == about.id) {
                return Err(DescribeError::Table(format!("it offers {} twice", about.id)));
            }
            let changed = Arc::clone(&changed);
            methods.push(Method { raw: method, about, watch: None, changed });
        }
        Ok(Plugin { sdk, abi: (raw.abi_major, raw.abi_minor), methods, changed })
    }

    /// A plugin linked into this program, for an author's own tests.
    ///
    /// # Errors
    /// As for [`Plugin::read`].
    pub fn linked(raw: &'static VqPlugin) -> Result<Self, DescribeError> {
        // SAFETY: a static reference to a table of this very program.
        unsafe { Self::read(raw) }
    }

    /// What built it.
    pub fn sdk(&self) -> &str {
        &self.sdk
    }

    /// The contract's version it was built for.
    pub fn abi(&self) -> (u32, u32) {
        self.abi
    }

    /// What its functions have left changed in the threads that called them, so far. All of it
    /// was put back when the call returned.
    pub fn changed(&self) -> Change {
        self.changed.so_far()
    }

    /// Its methods, in its order.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }
}
