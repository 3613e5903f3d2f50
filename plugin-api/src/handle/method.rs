//! A method's table.

use super::call::{CallError, call, present};
use super::describe::Descriptor;
use super::instance::Instance;
use super::lending::{Caller, Lending};
use crate::Space;
use crate::abi::{VqMethod, VqStr};
use crate::params::Config;
use crate::thread_state::{Changed, ThreadState};
use crate::wire::Lent;
use core::ffi::c_void;
use std::fmt;
use std::sync::Arc;

/// One method, ready to be called.
#[derive(Clone)]
pub struct Method {
    pub(super) raw: &'static VqMethod,
    pub(super) about: Descriptor,
    pub(super) watch: Option<Watch>,
    pub(super) changed: Arc<Changed>,
}

/// Hears the name of each function of a method before it is called, on the thread that calls.
pub type Watch = Arc<dyn Fn(&'static str) + Send + Sync>;

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Method {
    /// What the plugin says of it.
    pub fn about(&self) -> &Descriptor {
        &self.about
    }

    /// The same method; `watch` hears of every call that it and its instances are about to get.
    /// For who must know which call never came back.
    #[must_use]
    pub fn watched(&self, watch: Watch) -> Method {
        Method { watch: Some(watch), ..self.clone() }
    }

    /// Runs a call into the plugin: whoever watches hears of it first, and what it leaves changed
    /// in this thread is put back.
    pub(crate) fn guarded<T>(&self, function: &'static str, call: impl FnOnce() -> T) -> T {
        if let Some(watch) = &self.watch {
            watch(function);
        }
        let before = ThreadState::take();
        let answer = call();
        self.changed.note(before.restore());
        answer
    }

    pub(crate) fn lending<'a>(&'a self, caller: &'a Caller<'a>) -> Lending<'a> {
        Lending { caller, changed: &self.changed }
    }

    /// The constructor.
    ///
    /// # Errors
    /// The plugin refused, naming the parameter.
    pub fn create(&self, config: &Config, space: Space) -> Result<Instance, CallError> {
        let lent = Lent::config(config);
        let space_raw = space.raw();
        let mut this: *mut c_void = core::ptr::null_mut();
        let create = present("create", self.raw.create)?;
        call(self, "create", |err| {
            // SAFETY: all arguments live during the call; the table is the plugin's own.
            unsafe { create(&lent.as_config(), &space_raw, &mut this, err) }
        })?;
        if this.is_null() {
            return Err(CallError::broke("create", "succeeded but gave no instance"));
        }
        Ok(Instance { method: self.clone(), space, this })
    }

    /// The table that the plugin answers for the extension `id`; null where it has none.
    pub(crate) fn extension(&self, id: &str) -> *const c_void {
        let Some(get_extension) = self.raw.get_extension else { return core::ptr::null() };
        self.guarded("get_extension", || {
            // SAFETY: the table is the plugin's own; the id lives during the call.
            unsafe { get_extension(VqStr::new(id)) }
        })
    }
}
