//! What version 0.1.0 stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case { name: "bits8_d13", dim: 13, metric: Metric::L2, params: &[] },
    Case {
        name: "bits4_global_d12",
        dim: 12,
        metric: Metric::L2,
        params: &[("bits", Param::Int(4)), ("range", Param::Name("global"))],
    },
    Case {
        name: "bits5_mse_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("bits", Param::Int(5)), ("fit", Param::Name("mse"))],
    },
    Case {
        name: "bits3_lloyd_max_d7",
        dim: 7,
        metric: Metric::Ip,
        params: &[("bits", Param::Int(3)), ("levels", Param::Name("lloyd_max"))],
    },
    Case {
        name: "bits6_lloyd_max_global_d9",
        dim: 9,
        metric: Metric::L2,
        params: &[
            ("bits", Param::Int(6)),
            ("levels", Param::Name("lloyd_max")),
            ("range", Param::Name("global")),
        ],
    },
    Case {
        name: "bits12_trim_d10",
        dim: 10,
        metric: Metric::L2,
        params: &[("bits", Param::Int(12)), ("trim", Param::Float(0.01))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_sq::plugin(), folder, CASES);
}
