//! One loop, compiled for every instruction set: `Path::fastest().run(|| loop)`.
//!
//! A plain Rust loop means the same on every instruction set, to the bit: the compiler neither fuses
//! a product with a sum nor reorders sums (only the payload of a NaN is unspecified). So a loop that
//! it vectorises needs no second version by hand, only a compilation for wider registers and a choice
//! when the program runs. Safe, so that plugins use it too.

use std::sync::OnceLock;

/// An instruction set that this machine has; there is no other way to one than to ask for it.
///
/// ```
/// use vq_kernels::Path;
///
/// #[inline(always)]
/// fn double(x: &mut [f32]) {
///     x.iter_mut().for_each(|x| *x *= 2.0);
/// }
///
/// let mut x = [1.0; 100];
/// Path::fastest().run(#[inline(always)] || double(&mut x));
/// assert_eq!(x, [2.0; 100]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path(pub(crate) Set);

/// What a [`Path`] may use. The fields of `Path` are closed, so that a set other than the portable
/// one exists only where [`Path::available`] found its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// What the program was compiled for.
    Portable,
    /// AVX2, FMA, F16C and BMI2: Haswell, Zen and later.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Also AVX-512 F, BW, DQ and VL: Skylake-X and later.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Also AVX-512 VBMI: Ice Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Vbmi,
}

impl Path {
    /// The paths that this machine can run, the fastest first and the portable one last.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let fast = {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("bmi2");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let vbmi = avx512 && is_x86_feature_detected!("avx512vbmi");
            let sets = [(vbmi, Set::Vbmi), (avx512, Set::Avx512), (avx2, Set::Avx2)];
            sets.into_iter().filter_map(|(there, set)| there.then_some(set))
        };
        #[cfg(not(target_arch = "x86_64"))]
        let fast = std::iter::empty();
        fast.chain([Set::Portable]).map(Self)
    }

    /// The fastest path of this machine.
    #[must_use]
    pub fn fastest() -> Self {
        // Asking for nine features takes as long as packing fifty codes.
        static FASTEST: OnceLock<Path> = OnceLock::new();
        *FASTEST.get_or_init(|| Self::available().next().unwrap_or(Self(Set::Portable)))
    }

    /// Runs `work` as compiled for this path's instruction set.
    ///
    /// That holds for what is inlined into `work`: the closure and the functions it calls need
    /// `#[inline(always)]`. Anything else runs as it always does.
    #[inline(always)]
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        match self.0 {
            Set::Portable => work(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `available` detected the features of `avx2`.
            Set::Avx2 => unsafe { avx2(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `available` detected the features of `avx512`.
            Set::Avx512 | Set::Vbmi => unsafe { avx512(work) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi2")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi2")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_path_comes_last_and_every_path_runs_the_same_work() {
        let x: Vec<f32> = (0..1000).map(|i| (i as f32).sqrt()).collect();
        let expected: Vec<u32> = x.iter().map(|x| (x * 0.7 + 3.1).to_bits()).collect();
        for path in Path::available() {
            let mut out = vec![0; x.len()];
            path.run(
                #[inline(always)]
                || out.iter_mut().zip(&x).for_each(|(out, x)| *out = (x * 0.7 + 3.1).to_bits()),
            );
            assert_eq!(out, expected, "{path:?}");
        }
        assert_eq!(Path::available().last(), Some(Path(Set::Portable)));
    }
}
