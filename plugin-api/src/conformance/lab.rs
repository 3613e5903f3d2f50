//! The calls that rules make. What a call is lent to read is a copy that must come back unchanged;
//! what it is lent to fill lies between guards and holds a filling that is known.

use super::Hear;
use super::cell::SEED;
use crate::handle::{Breach, CallError, Caller, Guarded, Instance};
use ndarray::{Array2, ArrayView2, s};

/// Threads to lend, and somewhere to speak to.
pub(crate) struct Lab {
    one: rayon::ThreadPool,
    two: rayon::ThreadPool,
    hear: Hear,
}

/// What an output holds before a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    First,
    Second,
    Third,
}

impl Fill {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Fill::First => 0xA5,
            Fill::Second => 0x5A,
            Fill::Third => 0x3C,
        }
    }

    /// A row that no block has.
    pub(crate) fn id(self) -> u64 {
        u64::from(self.number().to_bits()) << 32 | 7
    }

    /// Finite, so that a plugin may read it, and none that a method computes.
    pub(crate) fn number(self) -> f32 {
        f32::from_bits(match self {
            Fill::First => 0x7E57_C0DE,
            Fill::Second => 0xFACE_B00C,
            Fill::Third => 0x7D06_F00D,
        })
    }
}

/// A copy of what a call is lent to read, its rows as far apart as the original's.
struct Lent<T> {
    wide: Array2<T>,
    width: usize,
}

impl<T: Copy> Lent<T> {
    /// `between` lies between the rows.
    fn copy(x: ArrayView2<'_, T>, between: T) -> Self {
        let (rows, width) = x.dim();
        let apart = if rows > 1 { x.strides()[0].unsigned_abs() } else { width };
        let mut wide = Array2::from_elem((rows, apart.max(width)), between);
        wide.slice_mut(s![.., ..width]).assign(&x);
        Lent { wide, width }
    }

    fn view(&self) -> ArrayView2<'_, T> {
        self.wide.slice(s![.., ..self.width])
    }

    /// Judges that `function` left `name` as it was lent.
    fn unchanged(
        &self,
        x: ArrayView2<'_, T>,
        between: T,
        (function, name): (&'static str, &str),
        same: impl Fn(&T, &T) -> bool,
    ) -> Result<(), CallError> {
        // The compiler may believe that nobody wrote through a shared reference.
        let now = std::hint::black_box(self);
        let rows = now.view().iter().zip(x).all(|(now, before)| same(now, before));
        let gaps = now.wide.slice(s![.., now.width..]);
        if rows && gaps.iter().all(|now| same(now, &between)) {
            return Ok(());
        }
        let message = format!("wrote into {name}, which it was lent");
        Err(CallError::Broke { function, breach: Breach::Lent, message })
    }
}

fn same_bits(a: &f32, b: &f32) -> bool {
    a.to_bits() == b.to_bits()
}

/// What two calls made that differ only by what their outputs held before.
pub(super) struct Twice<T> {
    pub(super) first: Array2<T>,
    pub(super) second: Array2<T>,
    /// The first place (row, column) that no call wrote.
    pub(super) unwritten: Option<(usize, usize)>,
}

impl<T: Copy + PartialEq> Twice<T> {
    /// Calls with two fillings; a third time where something seems unwritten, as a random code may
    /// look like two fillings by chance.
    fn call(
        filling: fn(Fill) -> T,
        call: impl Fn(Fill) -> Result<Array2<T>, CallError>,
    ) -> Result<Self, CallError> {
        let (first, second) = (call(Fill::First)?, call(Fill::Second)?);
        let mut kept = both_keep(&first, &second, filling);
        if !kept.is_empty() {
            let (c, third) = (filling(Fill::Third), call(Fill::Third)?);
            kept.retain(|at| third[*at] == c);
        }
        Ok(Twice { first, second, unwritten: kept.first().copied() })
    }
}

/// Where `first` has the first filling and `second` the second.
pub(crate) fn both_keep<T: Copy + PartialEq>(
    first: &Array2<T>,
    second: &Array2<T>,
    filling: fn(Fill) -> T,
) -> Vec<(usize, usize)> {
    let [a, b] = [Fill::First, Fill::Second].map(filling);
    let keeps = first.indexed_iter().filter(|(at, v)| **v == a && second[*at] == b);
    keeps.map(|(at, _)| at).collect()
}

impl Lab {
    pub(super) fn new(hear: Hear) -> Self {
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start")
        };
        Lab { one: pool(1), two: pool(2), hear }
    }

    pub(super) fn caller(&self, threads: usize, seed: u64) -> Caller<'_> {
        let pool = if threads == 1 { &self.one } else { &self.two };
        Caller { threads, seed, log: &*self.hear, progress: &|_, _| true, pool }
    }

    pub(super) fn fit(
        instance: &mut Instance,
        train: ArrayView2<'_, f32>,
        caller: &Caller<'_>,
    ) -> Result<(), CallError> {
        let lent = Lent::copy(train, f32::NAN);
        let done = instance.fit(lent.view(), caller);
        lent.unchanged(train, f32::NAN, ("fit", "train"), same_bits)?;
        done
    }

    pub(super) fn compress(
        &self,
        instance: &Instance,
        x: ArrayView2<'_, f32>,
        code_bytes: usize,
    ) -> Result<Array2<u8>, CallError> {
        self.compress_over(Fill::First, 2, instance, x, code_bytes)
    }

    pub(super) fn compress_twice(
        &self,
        instance: &Instance,
        x: ArrayView2<'_, f32>,
        code_bytes: usize,
    ) -> Result<Twice<u8>, CallError> {
        Twice::call(Fill::byte, |fill| self.compress_over(fill, 2, instance, x, code_bytes))
    }

    pub(super) fn compress_over(
        &self,
        fill: Fill,
        threads: usize,
        instance: &Instance,
        x: ArrayView2<'_, f32>,
        code_bytes: usize,
    ) -> Result<Array2<u8>, CallError> {
        let caller = self.caller(threads, SEED);
        Lab::encoded(fill, x, code_bytes, |x, room| instance.compress(x, code_bytes, &caller, room))
    }

    /// The codes that `compress` makes of a copy of `x`.
    pub(super) fn encoded(
        fill: Fill,
        x: ArrayView2<'_, f32>,
        code_bytes: usize,
        compress: impl FnOnce(ArrayView2<'_, f32>, &mut [u8]) -> Result<(), CallError>,
    ) -> Result<Array2<u8>, CallError> {
        let lent = Lent::copy(x, f32::NAN);
        let mut codes = Guarded::codes();
        let done = compress(lent.view(), codes.lend_filled(x.nrows() * code_bytes, fill.byte()));
        let codes = codes.finish("compress")?;
        lent.unchanged(x, f32::NAN, ("compress", "x"), same_bits)?;
        done?;
        Ok(matrix(x.nrows(), code_bytes, codes))
    }

    pub(super) fn decompress(
        &self,
        instance: &Instance,
        codes: ArrayView2<'_, u8>,
    ) -> Result<Array2<f32>, CallError> {
        self.decompress_over(Fill::First, instance, codes)
    }

    pub(super) fn decompress_twice(
        &self,
        instance: &Instance,
        codes: ArrayView2<'_, u8>,
    ) -> Result<Twice<f32>, CallError> {
        Twice::call(Fill::number, |fill| self.decompress_over(fill, instance, codes))
    }

    fn decompress_over(
        &self,
        fill: Fill,
        instance: &Instance,
        codes: ArrayView2<'_, u8>,
    ) -> Result<Array2<f32>, CallError> {
        let caller = self.caller(2, SEED);
        let dim = instance.space().dim;
        Lab::decoded(fill, codes, dim, |codes, room| instance.decompress(codes, &caller, room))
    }

    /// The rows of `dim` values that `decompress` makes of a copy of `codes`.
    pub(super) fn decoded(
        fill: Fill,
        codes: ArrayView2<'_, u8>,
        dim: usize,
        decompress: impl FnOnce(ArrayView2<'_, u8>, &mut [f32]) -> Result<(), CallError>,
    ) -> Result<Array2<f32>, CallError> {
        let lent = Lent::copy(codes, 0xFF);
        let mut rows = Guarded::rows();
        let done = decompress(lent.view(), rows.lend_filled(codes.nrows() * dim, fill.number()));
        let rows = rows.finish("decompress")?;
        lent.unchanged(codes, 0xFF, ("decompress", "codes"), u8::eq)?;
        done?;
        Ok(matrix(codes.nrows(), dim, rows))
    }

    /// What `pack` makes of `codes`, in `bytes` bytes.
    pub(crate) fn pack(
        &self,
        bytes: usize,
        codes: ArrayView2<'_, u8>,
        fill: Fill,
        pack: impl FnOnce(ArrayView2<'_, u8>, &Caller<'_>, &mut [u8]) -> Result<(), CallError>,
    ) -> Result<Vec<u8>, CallError> {
        let lent = Lent::copy(codes, 0xFF);
        let mut packed = Guarded::codes();
        let room = packed.lend_filled(bytes, fill.byte());
        let done = pack(lent.view(), &self.caller(2, SEED), room);
        let packed = packed.finish("pack")?;
        lent.unchanged(codes, 0xFF, ("pack", "codes"), u8::eq)?;
        done?;
        Ok(packed.to_vec())
    }

    /// Lends copies of `queries` and `packed` to `ask`, a call of `function`.
    pub(crate) fn ask(
        &self,
        function: &'static str,
        queries: ArrayView2<'_, f32>,
        packed: &[u8],
        ask: impl FnOnce(ArrayView2<'_, f32>, &[u8], &Caller<'_>) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let lent = Lent::copy(queries, f32::NAN);
        let packed = ArrayView2::from_shape((1, packed.len()), packed).expect("one row of all");
        let codes = Lent::copy(packed, 0xFF);
        let read = codes.view().to_slice().expect("one row is contiguous");
        let done = ask(lent.view(), read, &self.caller(2, SEED));
        lent.unchanged(queries, f32::NAN, (function, "queries"), same_bits)?;
        codes.unchanged(packed, 0xFF, (function, "codes"), u8::eq)?;
        done
    }
}

pub(crate) fn matrix<T: Copy>(rows: usize, width: usize, values: &[T]) -> Array2<T> {
    Array2::from_shape_vec((rows, width), values.to_vec()).expect("rows of this width were made")
}
