//! One call of `run`, and the machine it ran on.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::timestamp;

/// One call of `run`: what was asked, by which version, on which machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// Unique over machines; sorts by time.
    pub run_id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Version of vq-host.
    pub host_version: String,
    /// Name of the sweep.
    pub sweep_name: String,
    /// The sweep's text, whole.
    pub sweep_text: String,
    /// The processor's name, where the system tells it.
    pub cpu_model: Option<String>,
    /// The processor's features that kernels make use of, sorted; Linux's names.
    pub cpu_features: Vec<String>,
    /// Threads that run at once on this machine, as far as this process may use them.
    pub cores: u32,
    /// Installed memory, where the system tells it.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture: `linux x86_64`.
    pub os: String,
    /// The variables that workers were given, by name.
    pub environment: BTreeMap<String, String>,
}

impl RunInfo {
    /// A new run, now and on this machine.
    pub fn begin(sweep_name: impl Into<String>, sweep_text: impl Into<String>) -> Self {
        let now = SystemTime::now();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Two machines of a cluster may begin in the same second; std's hash seeds are random.
        let random = RandomState::new().build_hasher().finish() as u32;
        let second = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "");
        Self {
            run_id: format!("{second}-{random:08x}"),
            started_at: timestamp(now),
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
            sweep_name: sweep_name.into(),
            sweep_text: sweep_text.into(),
            cpu_model: cpu_model(&cpuinfo),
            cpu_features: cpu_features(&cpuinfo),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory_bytes: memory_bytes(&meminfo),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            environment: crate::worker::environment::recorded(),
        }
    }
}

impl RunInfo {
    /// The machine in a line, equal for runs whose times compare.
    pub fn machine(&self) -> String {
        let model = self.cpu_model.as_deref().unwrap_or("unknown processor");
        let memory = self.memory_bytes.map(|bytes| bytes.div_ceil(1 << 30));
        let memory = memory.map(|gib| format!(", {gib} GiB")).unwrap_or_default();
        let features = self.cpu_features.join(" ");
        format!("{model}, {} cores{memory}, {}, {features}", self.cores, self.os)
    }
}

/// The values of `/proc` lines `key : value` with this key.
fn proc_values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    ["model name", "Model", "cpu model"]
        .into_iter()
        .find_map(|key| proc_values(cpuinfo, key).next())
        .filter(|model| !model.is_empty())
        .map(str::to_owned)
}

/// The features that decide how fast a quantizer runs, by Linux's names.
const CPU_FEATURES: [&str; 23] = [
    "amx_bf16",
    "amx_fp16",
    "amx_int8",
    "amx_tile",
    "asimd",
    "asimddp",
    "avx",
    "avx2",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx512_vpopcntdq",
    "avx512bw",
    "avx512dq",
    "avx512f",
    "avx512vbmi",
    "avx512vl",
    "avx_vnni",
    "f16c",
    "fma",
    "i8mm",
    "sve",
    "sve2",
];

fn cpu_features(cpuinfo: &str) -> Vec<String> {
    let line = ["flags", "Features"].into_iter().find_map(|key| proc_values(cpuinfo, key).next());
    let present: BTreeSet<&str> = match line {
        Some(line) => line.split_whitespace().collect(),
        None => detected_features(),
    };
    CPU_FEATURES.into_iter().filter(|name| present.contains(name)).map(str::to_owned).collect()
}

/// What the processor itself says, where there is no `/proc/cpuinfo`.
#[cfg(target_arch = "x86_64")]
fn detected_features() -> BTreeSet<&'static str> {
    [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512_vnni", is_x86_feature_detected!("avx512vnni")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("fma", is_x86_feature_detected!("fma")),
    ]
    .into_iter()
    .filter_map(|(name, present)| present.then_some(name))
    .collect()
}

/// NEON is part of the architecture's baseline.
#[cfg(target_arch = "aarch64")]
fn detected_features() -> BTreeSet<&'static str> {
    BTreeSet::from(["asimd"])
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected_features() -> BTreeSet<&'static str> {
    BTreeSet::new()
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = proc_values(meminfo, "MemTotal").next()?;
    let kib: u64 = total.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described_from_what_linux_says() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\n\
                       flags\t\t: fpu avx2 fma amx_tile avx512_vnni sse\nprocessor\t: 1\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("Some CPU @ 2.00GHz"));
        assert_eq!(cpu_features(cpuinfo), ["amx_tile", "avx2", "avx512_vnni", "fma"]);
        let arm = "Features\t: fp asimd sve\nCPU implementer\t: 0x41\n";
        assert_eq!(cpu_features(arm), ["asimd", "sve"]);
        assert_eq!(memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2_097_152));
        assert_eq!(memory_bytes("MemTotal: lots\n"), None);
        assert_eq!(cpu_model(""), None);
    }

    #[test]
    fn two_runs_never_share_an_id() {
        let (a, b) = (RunInfo::begin("s", "text"), RunInfo::begin("s", "text"));
        assert_ne!(a.run_id, b.run_id);
        assert!(a.cores >= 1);
        assert!(humantime::parse_rfc3339(&a.started_at).is_ok());
    }
}
