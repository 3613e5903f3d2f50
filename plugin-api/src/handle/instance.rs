//! A constructed method.

use super::call::{CallError, call, present};
use super::guarded::Guarded;
use super::lending::Caller;
use super::method::Method;
use crate::Space;
use crate::abi::{MODEL_BYTES_UNKNOWN, VqBuf, VqCodes, VqCodesMut, VqMat, VqMatMut, VqStr};
use crate::error::ErrorKind;
use crate::wire;
use core::ffi::c_void;
use ndarray::ArrayView2;

/// A constructed method. Destroyed on drop.
#[derive(Debug)]
pub struct Instance {
    pub(super) method: Method,
    pub(super) space: Space,
    pub(super) this: *mut c_void,
}

// SAFETY: an instance may move between threads; the contract only forbids concurrent calls to
// fit, load and destroy, which need unique access here.
unsafe impl Send for Instance {}
// SAFETY: `&Instance` offers only the functions that a VQ_THREAD_SAFE method allows concurrently;
// the host asks `thread_safe` before it shares one.
unsafe impl Sync for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.method.raw.destroy {
            self.method.guarded("destroy", || {
                // SAFETY: `this` came from `create` and is given up here.
                unsafe { destroy(self.this) }
            });
        }
    }
}

impl Instance {
    /// The method it was made by.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The space it was made for.
    pub fn space(&self) -> Space {
        self.space
    }

    /// What the plugin's functions take.
    pub(crate) fn this(&self) -> *const c_void {
        self.this
    }

    /// Stored bytes per vector; 0 where the method does not know before training.
    pub fn code_bytes(&self) -> usize {
        let Some(code_bytes) = self.method.raw.code_bytes else { return 0 };
        self.method.guarded("code_bytes", || {
            // SAFETY: `this` is this method's instance.
            unsafe { code_bytes(self.this) }
        })
    }

    /// Bytes of state that decoding needs; `None` where the method does not state them.
    pub fn model_bytes(&self) -> Option<u64> {
        let model_bytes = self.method.raw.model_bytes?;
        let bytes = self.method.guarded("model_bytes", || {
            // SAFETY: `this` is this method's instance.
            unsafe { model_bytes(self.this) }
        });
        Some(bytes).filter(|bytes| *bytes != MODEL_BYTES_UNKNOWN)
    }

    /// The method's own claim; `None` where it makes none.
    pub fn ratio(&self) -> Option<f64> {
        let ratio = self.method.raw.ratio?;
        Some(self.method.guarded("ratio", || {
            // SAFETY: `this` is this method's instance.
            unsafe { ratio(self.this) }
        }))
    }

    /// Learns from `train` (n, d).
    ///
    /// # Errors
    /// As the plugin says.
    pub fn fit(
        &mut self,
        train: ArrayView2<'_, f32>,
        caller: &Caller<'_>,
    ) -> Result<(), CallError> {
        let fit = present("fit", self.method.raw.fit)?;
        let train = wire::lendable(train);
        let lending = self.method.lending(caller);
        let (ctx, train) = (lending.raw(), VqMat::of(&train.view()));
        call(&self.method, "fit", |err| {
            // SAFETY: the arguments live during the call, and `&mut self` has the instance alone.
            unsafe { fit(self.this, &ctx, train, err) }
        })
    }

    /// Encodes `x` (n, d) into `codes`, n · `code_bytes` bytes.
    ///
    /// # Errors
    /// As the plugin says.
    ///
    /// # Panics
    /// If `codes` has another length.
    pub fn compress(
        &self,
        x: ArrayView2<'_, f32>,
        code_bytes: usize,
        caller: &Caller<'_>,
        codes: &mut [u8],
    ) -> Result<(), CallError> {
        assert_eq!(codes.len(), x.nrows() * code_bytes, "room for the codes of all rows");
        let compress = present("compress", self.method.raw.compress)?;
        let lending = self.method.lending(caller);
        let ctx = lending.raw();
        let x = wire::lendable(x);
        let out = VqCodesMut::over(codes, x.nrows(), code_bytes);
        call(&self.method, "compress", |err| {
            // SAFETY: the arguments live during the call.
            unsafe { compress(self.this, &ctx, VqMat::of(&x.view()), out, err) }
        })
    }

    /// Decodes `codes` (n, code_bytes) into `x`, n · d values.
    ///
    /// # Errors
    /// As the plugin says.
    ///
    /// # Panics
    /// If `x` has another length.
    pub fn decompress(
        &self,
        codes: ArrayView2<'_, u8>,
        caller: &Caller<'_>,
        x: &mut [f32],
    ) -> Result<(), CallError> {
        let (rows, dim) = (codes.nrows(), self.space.dim);
        assert_eq!(x.len(), rows * dim, "room for the rows of all codes");
        let decompress = present("decompress", self.method.raw.decompress)?;
        let lending = self.method.lending(caller);
        let ctx = lending.raw();
        let codes = wire::lendable(codes);
        let out = VqMatMut::over(x, rows, dim);
        call(&self.method, "decompress", |err| {
            // SAFETY: the arguments live during the call.
            unsafe { decompress(self.this, &ctx, VqCodes::of(&codes.view()), out, err) }
        })
    }

    /// The fitted model; `None` where the method does not offer it.
    ///
    /// # Errors
    /// As the plugin says; a length that changes between two calls.
    pub fn save(&self) -> Result<Option<Vec<u8>>, CallError> {
        let Some(save) = self.method.raw.save else { return Ok(None) };
        let mut model = Guarded::codes();
        let mut room = 0;
        for _ in 0..2 {
            let mut buf = VqBuf::over(model.lend(room));
            let done = call(&self.method, "save", |err| {
                // SAFETY: the buffers live during the call.
                unsafe { save(self.this, &mut buf, err) }
            });
            let (cap, len) = (buf.cap, buf.len);
            let saved = model.finish("save")?;
            match done {
                Ok(()) if len <= cap => return Ok(Some(saved[..len].to_vec())),
                Ok(()) => {
                    return Err(CallError::broke("save", format!("wrote {len} bytes into {cap}")));
                }
                Err(error) => match error.kind() {
                    Some(ErrorKind::Unsupported) => return Ok(None),
                    Some(ErrorKind::ShortBuffer) if len > cap && len <= isize::MAX as usize => {
                        room = len;
                    }
                    _ => return Err(error),
                },
            }
        }
        Err(CallError::broke("save", "asked for more room after it was given what it asked for"))
    }

    /// Restores a model that an equal instance saved.
    ///
    /// # Errors
    /// As the plugin says.
    pub fn load(&mut self, model: &[u8]) -> Result<(), CallError> {
        let Some(load) = self.method.raw.load else {
            return Err(CallError::Said {
                function: "load",
                kind: ErrorKind::Unsupported,
                message: "load is not offered".into(),
            });
        };
        call(&self.method, "load", |err| {
            // SAFETY: the bytes live during the call, and `&mut self` has the instance alone.
            unsafe { load(self.this, VqStr { ptr: model.as_ptr(), len: model.len() }, err) }
        })
    }
}
