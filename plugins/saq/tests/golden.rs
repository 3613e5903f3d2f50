//! What version 0.1.0 stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "bits2_f32_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("bits", Param::Int(2)), ("scalars", Param::Name("f32"))],
    },
    Case {
        name: "rate3_d100_ip",
        dim: 100,
        metric: Metric::Ip,
        params: &[("rate", Param::Float(3.0))],
    },
    Case {
        name: "rate1_paper_none_d96",
        dim: 96,
        metric: Metric::L2,
        params: &[
            ("rate", Param::Float(1.0)),
            ("objective", Param::Name("paper")),
            ("start", Param::Name("largest")),
            ("center", Param::Name("none")),
        ],
    },
    Case {
        name: "rate9_dense_d15_cosine",
        dim: 15,
        metric: Metric::Cosine,
        params: &[("rate", Param::Float(9.0)), ("rotation", Param::Name("dense"))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_saq::plugin(), folder, CASES);
}
