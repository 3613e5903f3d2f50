//! The variables that a worker gets of the user's environment: those that say how libraries find
//! each other, share out threads and memory, and speak. Everything else, secrets above all, stays
//! with the user; docs/methodology.md has the list, and every run records the values.

use crate::python::interpreter;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;

/// Passed on under exactly these names.
const NAMES: [&str; 7] = ["GLIBC_TUNABLES", "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TZ"];

/// Passed on when a name begins so.
const PREFIXES: [&str; 41] = [
    // The dynamic loader and the language.
    "LD_",
    "LC_",
    // Threads and kernels of numeric libraries.
    "ACCELERATE_",
    "ARMPL_",
    "ATLAS_",
    "BLIS_",
    "DNNL_",
    "FAISS_",
    "GOMP_",
    "GOTO_",
    "KMP_",
    "MKL_",
    "NUMEXPR_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "RAYON_",
    "TBB_",
    "VECLIB_",
    // Allocators.
    "JEMALLOC_",
    "MALLOC_",
    "MIMALLOC_",
    "TCMALLOC_",
    // Graphics processors.
    "CUDA_",
    "GPU_",
    "HIP_",
    "HSA_",
    "NCCL_",
    "NVIDIA_",
    "ONEAPI_",
    "ROCM_",
    "ROCR_",
    "SYCL_",
    "ZE_",
    // Sanitizers, and what Rust reads.
    "ASAN_",
    "LSAN_",
    "MSAN_",
    "TSAN_",
    "UBSAN_",
    "RUST_",
    // Ours, and a plugin's own.
    "VQ_",
];

/// Never passed on: they pin threads to processors. Cells that run beside each other would pin
/// theirs to the same ones, and runtimes set them for threads other than the calling one, which a
/// sandbox denies.
const PINNING: [&str; 9] = [
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_HIDDEN_HELPER_AFFINITY",
    "KMP_HW_SUBSET",
    "KMP_PLACE_THREADS",
    "KMP_TEAMS_PROC_BIND",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_TEAMS_PROC_BIND",
];

/// Never passed on, whatever a name begins with.
const SECRETS: [&str; 7] = ["KEY", "PASS", "SECRET", "TOKEN", "CREDENTIAL", "LICENSE", "_AUTH"];

/// True for a variable that workers get.
fn passes(name: &str) -> bool {
    let named = NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    named
        && !PINNING.contains(&name)
        && !SECRETS.iter().any(|secret| name.to_ascii_uppercase().contains(secret))
}

/// What a worker gets of this process's environment, with the Python that the sweep names.
pub(super) fn passed() -> Vec<(OsString, OsString)> {
    let python = interpreter::named().map(|path| (interpreter::VARIABLE.into(), path.into()));
    let own = env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passes));
    // The last of equal names holds.
    own.chain(python).collect()
}

/// The same as texts, for the record of a run.
pub fn recorded() -> BTreeMap<String, String> {
    let text = |value: OsString| value.to_string_lossy().into_owned();
    passed().into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_what_they_read_but_neither_secrets_nor_where_to_pin_threads() {
        for name in [
            "OMP_SCHEDULE",
            "OMP_AFFINITY_FORMAT",
            "KMP_BLOCKTIME",
            "LD_LIBRARY_PATH",
            "LC_ALL",
            "TZ",
            "VQ_TEST_SITE",
            "HOME",
        ] {
            assert!(passes(name), "{name}");
        }
        for name in [
            "OMP_PROC_BIND",
            "OMP_PLACES",
            "GOMP_CPU_AFFINITY",
            "KMP_AFFINITY",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "VQ_UPLOAD_TOKEN",
            "CUDA_LICENSE_KEY",
            "VQ_APIKEY",
            "VQ_PASSPHRASE",
            "vq_key",
            "MKL_LICENSE_FILE",
            "SSH_AUTH_SOCK",
            "HOMEBREW",
            "PS1",
            "TMPDIR",
        ] {
            assert!(!passes(name), "{name}");
        }
    }
}
