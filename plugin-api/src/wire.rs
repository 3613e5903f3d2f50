//! C values ⇄ Rust values, for both sides of the boundary. Reading checks everything that can be
//! checked without trusting the other side's pointers: null, lengths, UTF-8, kinds, depth.

use crate::abi::{
    VqBuf, VqCodes, VqCodesMut, VqConfig, VqEntry, VqMat, VqMatMut, VqParam, VqSpace, VqStr,
    VqValue, kind,
};
use crate::params::{Config, Kind, Param, Value};
use crate::{Error, Metric, Space};
use ndarray::{ArrayView2, ArrayViewMut2, CowArray, Ix2, ShapeBuilder};
use std::marker::PhantomData;

/// Longest text and longest list that is believed.
const MAX_LEN: usize = 1 << 20;
/// Deepest nesting of lists.
const MAX_DEPTH: usize = 4;

/// Borrows an array of the other side.
///
/// # Safety
/// If not null, `ptr` points to `len` initialised values that outlive `'a`.
pub(crate) unsafe fn slice<'a, T>(ptr: *const T, len: usize) -> Result<&'a [T], Error> {
    if len == 0 {
        return Ok(&[]);
    }
    if ptr.is_null()
        || !ptr.is_aligned()
        || len.checked_mul(size_of::<T>()).is_none_or(|b| b > isize::MAX as usize)
    {
        return Err(Error::failed(format!("bad pointer for {len} values")));
    }
    // SAFETY: not null, aligned, and the caller vouches for `len` values.
    Ok(unsafe { core::slice::from_raw_parts(ptr, len) })
}

/// # Safety
/// As for [`slice`], with unique access.
pub(crate) unsafe fn slice_mut<'a, T>(ptr: *mut T, len: usize) -> Result<&'a mut [T], Error> {
    // SAFETY: the same requirements; only the checks are wanted here.
    unsafe { slice::<T>(ptr, len) }?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: checked above, and the caller vouches for unique access.
    Ok(unsafe { core::slice::from_raw_parts_mut(ptr, len) })
}

impl VqStr {
    /// # Safety
    /// The bytes outlive `'a`.
    pub(crate) unsafe fn text<'a>(self) -> Result<&'a str, Error> {
        if self.len > MAX_LEN {
            return Err(Error::failed(format!("a text of {} bytes", self.len)));
        }
        // SAFETY: passed on to the caller.
        let bytes = unsafe { slice(self.ptr, self.len) }?;
        core::str::from_utf8(bytes).map_err(|_| Error::failed("a text that is not UTF-8"))
    }
}

impl VqBuf {
    pub(crate) fn over(bytes: &mut [u8]) -> Self {
        VqBuf { ptr: bytes.as_mut_ptr(), cap: bytes.len(), len: 0 }
    }
}

/// Writes as much of an error's text as fits, cut at a character.
///
/// # Safety
/// `buf` is null or points to a buffer of the caller.
pub(crate) unsafe fn write_error(buf: *mut VqBuf, text: &str) {
    // SAFETY: null or valid, says the caller.
    let Some(buf) = (unsafe { buf.as_mut() }) else { return };
    // SAFETY: `cap` bytes are the caller's to lend.
    let Ok(bytes) = (unsafe { slice_mut(buf.ptr, buf.cap) }) else { return };
    let mut len = text.len().min(bytes.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    buf.len = len;
}

fn check_rows(rows: usize, width: usize, stride: usize) -> Result<(), Error> {
    let spans = rows.checked_mul(stride).is_some_and(|n| n <= isize::MAX as usize / 4);
    if stride < width || !spans {
        return Err(Error::failed(format!("{rows} rows of {width} with stride {stride}")));
    }
    Ok(())
}

/// `of` as the contract can lend it: unit column stride, rows that do not overlap. Anything else
/// (a transposed, stepped or broadcast view) is copied.
pub(crate) fn lendable<T: Clone>(of: ArrayView2<'_, T>) -> CowArray<'_, T, Ix2> {
    let (rows, columns) = of.dim();
    let apart = |stride: isize| usize::try_from(stride).is_ok_and(|stride| stride >= columns);
    let unit = columns <= 1 || of.strides()[1] == 1;
    if unit && (rows <= 1 || apart(of.strides()[0])) {
        of.into()
    } else {
        of.as_standard_layout().into_owned().into()
    }
}

impl VqMat {
    /// Of a view that [`lendable`] answered.
    pub(crate) fn of(x: &ArrayView2<'_, f32>) -> Self {
        let stride = usize::try_from(x.strides()[0]).unwrap_or(0);
        VqMat {
            data: x.as_ptr(),
            rows: x.nrows(),
            dim: x.ncols(),
            row_stride: stride.max(x.ncols()),
        }
    }

    /// # Safety
    /// The rows outlive `'a`.
    pub(crate) unsafe fn view<'a>(self) -> Result<ArrayView2<'a, f32>, Error> {
        if self.rows == 0 {
            return Ok(ArrayView2::from_shape((0, self.dim), &[]).expect("no rows need no data"));
        }
        check_rows(self.rows, self.dim, self.row_stride)?;
        // SAFETY: the caller vouches for rows and stride; overflow is checked above.
        unsafe { slice(self.data, (self.rows - 1) * self.row_stride + self.dim) }?;
        let shape = (self.rows, self.dim).strides((self.row_stride, 1));
        // SAFETY: the shape lies inside the slice just checked.
        Ok(unsafe { ArrayView2::from_shape_ptr(shape, self.data) })
    }
}

impl VqMatMut {
    pub(crate) const NONE: VqMatMut =
        VqMatMut { data: core::ptr::null_mut(), rows: 0, dim: 0, row_stride: 0 };

    pub(crate) fn over(values: &mut [f32], rows: usize, dim: usize) -> Self {
        VqMatMut { data: values.as_mut_ptr(), rows, dim, row_stride: dim }
    }

    /// # Safety
    /// The rows outlive `'a` and are the caller's alone to lend.
    pub(crate) unsafe fn view_mut<'a>(self) -> Result<ArrayViewMut2<'a, f32>, Error> {
        if self.rows == 0 {
            return Ok(
                ArrayViewMut2::from_shape((0, self.dim), &mut []).expect("no rows need no data")
            );
        }
        check_rows(self.rows, self.dim, self.row_stride)?;
        // SAFETY: the caller vouches for rows and stride; overflow is checked above.
        unsafe { slice_mut(self.data, (self.rows - 1) * self.row_stride + self.dim) }?;
        let shape = (self.rows, self.dim).strides((self.row_stride, 1));
        // SAFETY: the shape lies inside the slice just checked.
        Ok(unsafe { ArrayViewMut2::from_shape_ptr(shape, self.data) })
    }
}

impl VqCodes {
    /// Of a view that [`lendable`] answered.
    pub(crate) fn of(codes: &ArrayView2<'_, u8>) -> Self {
        let stride = usize::try_from(codes.strides()[0]).unwrap_or(0);
        VqCodes {
            data: codes.as_ptr(),
            rows: codes.nrows(),
            code_bytes: codes.ncols(),
            row_stride: stride.max(codes.ncols()),
        }
    }

    /// # Safety
    /// The rows outlive `'a`.
    pub(crate) unsafe fn view<'a>(self) -> Result<ArrayView2<'a, u8>, Error> {
        if self.rows == 0 {
            return Ok(
                ArrayView2::from_shape((0, self.code_bytes), &[]).expect("no rows need no data")
            );
        }
        check_rows(self.rows, self.code_bytes, self.row_stride)?;
        // SAFETY: the caller vouches for rows and stride; overflow is checked above.
        unsafe { slice(self.data, (self.rows - 1) * self.row_stride + self.code_bytes) }?;
        let shape = (self.rows, self.code_bytes).strides((self.row_stride, 1));
        // SAFETY: the shape lies inside the slice just checked.
        Ok(unsafe { ArrayView2::from_shape_ptr(shape, self.data) })
    }
}

impl VqCodesMut {
    pub(crate) fn over(bytes: &mut [u8], rows: usize, code_bytes: usize) -> Self {
        VqCodesMut { data: bytes.as_mut_ptr(), rows, code_bytes, row_stride: code_bytes }
    }

    /// # Safety
    /// The rows outlive `'a` and are the caller's alone to lend.
    pub(crate) unsafe fn view_mut<'a>(self) -> Result<ArrayViewMut2<'a, u8>, Error> {
        if self.rows == 0 {
            return Ok(ArrayViewMut2::from_shape((0, self.code_bytes), &mut [])
                .expect("no rows need no data"));
        }
        check_rows(self.rows, self.code_bytes, self.row_stride)?;
        // SAFETY: the caller vouches for rows and stride; overflow is checked above.
        unsafe { slice_mut(self.data, (self.rows - 1) * self.row_stride + self.code_bytes) }?;
        let shape = (self.rows, self.code_bytes).strides((self.row_stride, 1));
        // SAFETY: the shape lies inside the slice just checked.
        Ok(unsafe { ArrayViewMut2::from_shape_ptr(shape, self.data) })
    }
}

impl Space {
    pub(crate) fn raw(self) -> VqSpace {
        let metric = match self.metric {
            Metric::L2 => 0,
            Metric::Ip => 1,
            Metric::Cosine => 2,
        };
        VqSpace { dim: self.dim, metric, reserved: 0 }
    }

    pub(crate) fn of(raw: VqSpace) -> Result<Self, Error> {
        let metric = match raw.metric {
            0 => Metric::L2,
            1 => Metric::Ip,
            2 => Metric::Cosine,
            other => return Err(Error::failed(format!("metric {other} is unknown"))),
        };
        if raw.dim == 0 {
            return Err(Error::failed("a space of dimension 0"));
        }
        Ok(Space { dim: raw.dim, metric })
    }
}

/// Values lent to the other side: what the C structs point to lives here.
#[derive(Default)]
pub(crate) struct Lent<'a> {
    lists: Vec<Box<[VqValue]>>,
    entries: Vec<VqEntry>,
    owner: PhantomData<&'a ()>,
}

impl<'a> Lent<'a> {
    pub(crate) fn config(config: &'a Config) -> Self {
        let mut lent = Lent::default();
        for (name, value) in config {
            let value = lent.value(value);
            lent.entries.push(VqEntry { name: VqStr::new(name), value });
        }
        lent
    }

    pub(crate) fn axes(axes: impl IntoIterator<Item = (&'a String, &'a Vec<Value>)>) -> Self {
        let mut lent = Lent::default();
        for (name, values) in axes {
            let value = lent.list(values);
            lent.entries.push(VqEntry { name: VqStr::new(name), value });
        }
        lent
    }

    pub(crate) fn entries(&self) -> &[VqEntry] {
        &self.entries
    }

    pub(crate) fn as_config(&self) -> VqConfig {
        VqConfig { entries: self.entries.as_ptr(), n_entries: self.entries.len() }
    }

    pub(crate) fn value(&mut self, value: &'a Value) -> VqValue {
        let of = |kind| VqValue { kind, ..VqValue::NULL };
        match value {
            Value::Bool(v) => VqValue { i: i64::from(*v), ..of(kind::BOOL) },
            Value::Int(v) => VqValue { i: *v, ..of(kind::INT) },
            Value::Float(v) => VqValue { f: *v, ..of(kind::FLOAT) },
            Value::Str(v) => VqValue { s: VqStr::new(v), ..of(kind::STRING) },
            Value::List(items) => self.list(items),
        }
    }

    pub(crate) fn list(&mut self, items: &'a [Value]) -> VqValue {
        let items: Box<[VqValue]> = items.iter().map(|item| self.value(item)).collect();
        let list = VqValue {
            kind: kind::LIST,
            items: items.as_ptr(),
            n_items: items.len(),
            ..VqValue::NULL
        };
        self.lists.push(items);
        list
    }
}

/// # Safety
/// What `value` points to is initialised and lives during the call.
pub(crate) unsafe fn read_value(value: &VqValue) -> Result<Option<Value>, Error> {
    // SAFETY: passed on.
    unsafe { read_value_at(value, 0) }
}

/// # Safety
/// As for [`read_value`].
unsafe fn read_value_at(value: &VqValue, depth: usize) -> Result<Option<Value>, Error> {
    Ok(Some(match value.kind {
        kind::NULL => return Ok(None),
        kind::BOOL => Value::Bool(value.i != 0),
        kind::INT => Value::Int(value.i),
        kind::FLOAT => Value::Float(value.f),
        // SAFETY: passed on.
        kind::STRING => Value::Str(unsafe { value.s.text() }?.to_owned()),
        kind::LIST if depth < MAX_DEPTH && value.n_items <= MAX_LEN => {
            // SAFETY: passed on.
            let items = unsafe { slice(value.items, value.n_items) }?;
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                // SAFETY: passed on.
                let item = unsafe { read_value_at(item, depth + 1) }?;
                list.push(item.ok_or_else(|| Error::failed("a list holds a null"))?);
            }
            Value::List(list)
        }
        other => return Err(Error::failed(format!("a value of unknown kind {other}"))),
    }))
}

/// # Safety
/// As for [`read_value`].
pub(crate) unsafe fn read_entries(entries: &[VqEntry]) -> Result<Vec<(&str, Value)>, Error> {
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        // SAFETY: passed on.
        let name = unsafe { entry.name.text() }?;
        // SAFETY: passed on.
        let value = unsafe { read_value(&entry.value) }?;
        read.push((name, value.ok_or_else(|| Error::param(name, "has no value"))?));
    }
    Ok(read)
}

/// # Safety
/// `config` is null or points to a configuration that lives during the call.
pub(crate) unsafe fn read_config(config: *const VqConfig) -> Result<Config, Error> {
    // SAFETY: null or valid, says the caller.
    let Some(config) = (unsafe { config.as_ref() }) else { return Ok(Config::new()) };
    // SAFETY: passed on.
    let entries = unsafe { slice(config.entries, config.n_entries) }?;
    // SAFETY: passed on.
    let entries = unsafe { read_entries(entries) }?;
    Ok(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

impl Kind {
    pub(crate) fn code(self) -> u32 {
        match self {
            Kind::Bool => kind::BOOL,
            Kind::Int => kind::INT,
            Kind::Float => kind::FLOAT,
            Kind::Str => kind::STRING,
            Kind::List => kind::LIST,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        [Kind::Bool, Kind::Int, Kind::Float, Kind::Str, Kind::List]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// Copies a parameter's description out of the plugin.
///
/// # Safety
/// As for [`read_value`].
pub(crate) unsafe fn read_param(raw: &VqParam) -> Result<Param, Error> {
    if raw.struct_size as usize != size_of::<VqParam>() {
        return Err(Error::failed(format!("a vq_param of {} bytes", raw.struct_size)));
    }
    // SAFETY: passed on.
    let name = unsafe { raw.name.text() }?.to_owned();
    // SAFETY: passed on.
    let help = unsafe { raw.help.text() }?.to_owned();
    let kind = Kind::from_code(raw.kind)
        .ok_or_else(|| Error::param(&name, format!("kind {} is unknown", raw.kind)))?;
    let read = |value: &VqValue| {
        // SAFETY: passed on.
        unsafe { read_value(value) }
    };
    let list = |value: &VqValue, what: &str| match read(value)? {
        None => Ok(Vec::new()),
        Some(Value::List(items)) => Ok(items),
        Some(_) => Err(Error::param(&name, format!("{what} is not a list"))),
    };
    Ok(Param {
        default: read(&raw.default_value)?,
        min: read(&raw.min)?,
        max: read(&raw.max)?,
        choices: list(&raw.choices, "choices")?,
        grid: list(&raw.grid, "grid")?,
        item_kind: Kind::from_code(raw.item_kind),
        kind,
        help,
        name,
    })
}
