//! An author's instance behind `vq_instance`, and what every call on it needs: threads, a context,
//! and a guard against panics.

use crate::abi::{VqBuf, VqCtx, rc};
use crate::error::ErrorKind;
use crate::{Error, Quantizer, Space, wire};
use core::any::Any;
use core::ffi::c_void;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// What the host's `vq_instance` points to.
pub(crate) struct Held<Q> {
    pub(crate) quantizer: Q,
    pub(crate) space: Space,
    pub(crate) code_bytes: usize,
    /// fit or load has succeeded.
    pub(super) ready: bool,
}

/// One pool per thread budget, kept: starting threads for every block would cost more than small
/// blocks do.
static POOLS: Mutex<Vec<(usize, Arc<ThreadPool>)>> = Mutex::new(Vec::new());

thread_local! {
    /// A pool that is the calling thread alone, in which a call of one thread stays: to wake another takes longer than
    /// small calls do, and it may be woken on a processor that is busy. None where the thread is one of another pool
    /// already. rayon keeps a few kilobytes of it when the thread ends.
    static HERE: Option<ThreadPool> =
        ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().ok();
}

fn pool(threads: usize) -> Result<Arc<ThreadPool>, Error> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, pool)) = pools.iter().find(|(n, _)| *n == threads) {
        return Ok(pool.clone());
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("vq-plugin-{i}"))
        .build()
        .map_err(|e| Error::failed(format!("cannot start {threads} threads: {e}")))?;
    let pool = Arc::new(pool);
    pools.push((threads, pool.clone()));
    Ok(pool)
}

/// Runs `body` on `threads` threads.
pub(crate) fn in_pool(
    threads: usize,
    body: impl FnOnce() -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let mut body = Some(body);
    install(threads, &mut || body.take().map_or(Ok(()), |body| body()))
}

/// Not generic: rayon's part of it is long, and compiled once.
fn install(
    threads: usize,
    body: &mut (dyn FnMut() -> Result<(), Error> + Send),
) -> Result<(), Error> {
    if threads == 1
        && let Ok(Some(done)) =
            HERE.try_with(|here| here.as_ref().map(|pool| pool.install(&mut *body)))
    {
        return done;
    }
    pool(threads)?.install(body)
}

/// Runs `body`; its error or panic becomes a return code and text in `err`.
///
/// # Safety
/// `err` is null or the caller's buffer.
pub(crate) unsafe fn guard(err: *mut VqBuf, body: impl FnOnce() -> Result<(), Error>) -> i32 {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return rc::OK,
        Ok(Err(error)) => error,
        Err(payload) => panicked(payload),
    };
    // SAFETY: passed on.
    unsafe { told(&error, err) }
}

fn panicked(payload: Box<dyn Any + Send>) -> Error {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&'static str>().copied())
        .unwrap_or("no message");
    let error = Error::new(ErrorKind::Panicked, format!("panicked: {text}"));
    // Its Drop is author code and could panic again.
    core::mem::forget(payload);
    error
}

/// # Safety
/// `err` is null or the caller's buffer.
unsafe fn told(error: &Error, err: *mut VqBuf) -> i32 {
    // SAFETY: passed on.
    unsafe { wire::write_error(err, &error.to_string()) };
    error.kind().code()
}

/// # Safety
/// `ctx` is null or valid during the call.
pub(crate) unsafe fn context<'a>(ctx: *const VqCtx) -> Result<&'a VqCtx, Error> {
    // SAFETY: null or valid, says the caller.
    let ctx = unsafe { ctx.as_ref() }.ok_or_else(|| Error::failed("no vq_ctx"))?;
    if ctx.struct_size as usize != size_of::<VqCtx>() {
        return Err(Error::failed(format!("a vq_ctx of {} bytes", ctx.struct_size)));
    }
    Ok(ctx)
}

impl<Q: Quantizer> Held<Q> {
    /// # Safety
    /// `this` is null or came from `create` of the same method.
    pub(crate) unsafe fn of<'a>(this: *const c_void) -> Result<&'a Self, Error> {
        // SAFETY: null or a Held<Q>, says the caller.
        unsafe { this.cast::<Self>().as_ref() }.ok_or_else(|| Error::failed("no instance"))
    }

    /// # Safety
    /// As for [`Held::of`], with unique access.
    pub(super) unsafe fn of_mut<'a>(this: *mut c_void) -> Result<&'a mut Self, Error> {
        // SAFETY: null or a Held<Q>, says the caller.
        unsafe { this.cast::<Self>().as_mut() }.ok_or_else(|| Error::failed("no instance"))
    }

    /// fit or load has succeeded; a width that nobody knew before is known now.
    pub(super) fn is_ready(&mut self) {
        self.ready = true;
        if self.code_bytes == 0 {
            self.code_bytes = self.quantizer.code_bytes();
        }
    }

    pub(crate) fn ready(&self, function: &str) -> Result<(), Error> {
        if self.ready {
            return Ok(());
        }
        Err(Error::failed(format!("{function} was called before fit or load")))
    }

    pub(crate) fn matches(&self, what: &str, expected: usize, found: usize) -> Result<(), Error> {
        if expected == found {
            return Ok(());
        }
        Err(Error::failed(format!("{what} is {found}, expected {expected}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn threads_of(budget: usize) -> usize {
        let mut threads = 0;
        in_pool(budget, || {
            threads = rayon::current_num_threads();
            Ok(())
        })
        .unwrap();
        threads
    }

    #[test]
    fn a_call_of_one_thread_stays_on_its_thread() {
        let caller = thread::current().id();
        for _ in 0..2 {
            let mut nested = [0, 0];
            in_pool(1, || {
                assert_eq!(thread::current().id(), caller);
                nested = [threads_of(1), threads_of(2)];
                Ok(())
            })
            .unwrap();
            assert_eq!(nested, [1, 2]);
            let panicked = catch_unwind(AssertUnwindSafe(|| in_pool(1, || panic!("an author's"))));
            assert!(panicked.is_err());
        }
    }

    #[test]
    fn it_has_one_thread_also_inside_another_pool_and_beside_other_calls() {
        in_pool(2, || {
            assert_eq!(threads_of(1), 1);
            Ok(())
        })
        .unwrap();
        thread::scope(|scope| {
            let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| threads_of(1))).collect();
            for call in calls {
                assert_eq!(call.join().unwrap(), 1);
            }
        });
    }
}
