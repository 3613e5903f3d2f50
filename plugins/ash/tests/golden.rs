//! What version 0.1.0 stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden_but};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "kept5_f32_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("kept", Param::Int(5)), ("scalars", Param::Name("f32"))],
    },
    Case {
        name: "rate2_unbiased_d100_ip",
        dim: 100,
        metric: Metric::Ip,
        params: &[("rate", Param::Float(2.0)), ("scale", Param::Name("unbiased"))],
    },
    Case {
        name: "bits8_none_d15_cosine",
        dim: 15,
        metric: Metric::Cosine,
        params: &[
            ("bits", Param::Int(8)),
            ("kept", Param::Int(9)),
            ("center", Param::Name("none")),
        ],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    // Of points in one direction 0.1.0 took any.
    check_golden_but(vq_ash::plugin(), folder, CASES, &["0.1.0/kept5_f32_d13"]);
}
