//! What the host lends to a call: threads, a seed, and somewhere to speak to.

use super::call::one_line;
use crate::Level;
use crate::abi::{VqCtx, VqStr, VqTask};
use crate::thread_state::{Change, Changed, Float, ThreadState};
use core::ffi::c_void;
use rayon::prelude::*;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the host lends to a call; see `vq_ctx`.
pub struct Caller<'a> {
    /// The thread budget.
    pub threads: usize,
    /// The seed.
    pub seed: u64,
    /// Takes a log line.
    pub log: &'a (dyn Fn(Level, &str) + Sync),
    /// Takes progress (fraction, stage); `false` asks the plugin to stop.
    pub progress: &'a (dyn Fn(f32, &str) -> bool + Sync),
    /// Runs `parallel_for`.
    pub pool: &'a rayon::ThreadPool,
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller {{ threads: {}, seed: {} }}", self.threads, self.seed)
    }
}

/// What a call is lent: its caller, and where what its tasks leave changed is noted.
pub(crate) struct Lending<'a> {
    pub(super) caller: &'a Caller<'a>,
    pub(super) changed: &'a Changed,
}

/// # Safety
/// `host` is the `Lending` that `Lending::raw` lent.
unsafe fn lending<'a>(host: *mut c_void) -> Option<&'a Lending<'a>> {
    // SAFETY: passed on.
    unsafe { host.cast::<Lending<'a>>().as_ref() }
}

/// # Safety
/// As for `lending`.
unsafe fn caller<'a>(host: *mut c_void) -> Option<&'a Caller<'a>> {
    // SAFETY: passed on.
    unsafe { lending(host) }.map(|lending| lending.caller)
}

unsafe extern "C" fn ctx_log(host: *mut c_void, level: u32, text: VqStr) {
    let level = match level {
        0 => Level::Debug,
        1 => Level::Info,
        _ => Level::Warn,
    };
    // SAFETY: the plugin passes back what it was lent.
    let (Some(caller), Ok(text)) = (unsafe { caller(host) }, unsafe { text.text() }) else {
        return;
    };
    // A panic of the host's own closure must not unwind into the plugin.
    let _ = catch_unwind(AssertUnwindSafe(|| (caller.log)(level, &one_line(text))));
}

unsafe extern "C" fn ctx_progress(host: *mut c_void, fraction: f32, stage: VqStr) -> i32 {
    // SAFETY: the plugin passes back what it was lent.
    let Some(caller) = (unsafe { caller(host) }) else { return 1 };
    // SAFETY: the stage's text lives during the call.
    let stage = one_line(unsafe { stage.text() }.unwrap_or_default());
    let go_on = catch_unwind(AssertUnwindSafe(|| (caller.progress)(fraction, &stage)));
    i32::from(!go_on.unwrap_or(false))
}

/// The plugin's task context, handed to worker threads as the contract says it may be.
struct TaskContext(*mut c_void);

// SAFETY: parallel_for promises to run the task on several threads; the plugin agreed to that.
unsafe impl Sync for TaskContext {}

unsafe extern "C" fn ctx_parallel_for(
    host: *mut c_void,
    n: usize,
    task: VqTask,
    task_ctx: *mut c_void,
) {
    // SAFETY: the plugin passes back what it was lent.
    let Some(Lending { caller, changed }) = (unsafe { lending(host) }) else { return };
    let context = TaskContext(task_ctx);
    let context = &context;
    // Once for the tasks that a thread runs in a row: to ask for the processors takes a system
    // call, and a task may be short.
    let thread = || PutBack { before: ThreadState::take(), changed };
    let run = |_: &mut PutBack<'_>, i: usize| {
        let before = Float::take();
        // SAFETY: the plugin's function with the plugin's context, as it asked.
        unsafe { (task.run)(context.0, i) };
        // The next task of this thread rounds as this one was to.
        changed.note(Change { float: before.restore(), processors: false });
    };
    caller.pool.install(|| (0..n).into_par_iter().for_each_init(thread, run));
}

/// Puts the state of its thread back when dropped, and notes what had changed.
struct PutBack<'a> {
    before: ThreadState,
    pub(super) changed: &'a Changed,
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        self.changed.note(self.before.restore());
    }
}

unsafe extern "C" fn ctx_get_host_extension(_host: *mut c_void, _id: VqStr) -> *const c_void {
    core::ptr::null()
}

impl Lending<'_> {
    pub(crate) fn raw(&self) -> VqCtx {
        VqCtx {
            struct_size: size_of::<VqCtx>() as u32,
            threads: u32::try_from(self.caller.threads).unwrap_or(1).max(1),
            seed: self.caller.seed,
            host: core::ptr::from_ref(self).cast_mut().cast(),
            log: ctx_log,
            progress: ctx_progress,
            parallel_for: ctx_parallel_for,
            get_host_extension: ctx_get_host_extension,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves its thread flushing small numbers to zero.
    #[cfg(target_arch = "x86_64")]
    unsafe extern "C" fn flushes(_context: *mut c_void, _i: usize) {
        let flushing = 0x9fc0u32;
        // SAFETY: masks all exceptions and flushes; the caller puts it back.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const flushing) };
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_a_task_leaves_changed_is_put_back_and_noted() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let states = || pool.broadcast(|_| ThreadState::take());
        let (before, changed) = (states(), Changed::default());
        let caller =
            Caller { threads: 2, seed: 0, log: &|_, _| (), progress: &|_, _| true, pool: &pool };
        let lending = Lending { caller: &caller, changed: &changed };
        let ctx = lending.raw();
        // SAFETY: the context was lent just now, and the task needs none of its own.
        unsafe {
            (ctx.parallel_for)(ctx.host, 8, VqTask { run: flushes }, core::ptr::null_mut());
        }
        assert_eq!(states(), before);
        assert_eq!(changed.so_far(), Change { float: true, processors: false });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_a_task_pinned_gets_its_processors_back() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let state = || pool.install(ThreadState::take);
        let (before, changed) = (state(), Changed::default());
        let pinned = pool.install(|| {
            let _put_back = PutBack { before: ThreadState::take(), changed: &changed };
            crate::thread_state::pin();
            ThreadState::take() != before
        });
        assert_eq!(state(), before);
        assert_eq!(changed.so_far().processors, pinned);
    }
}
