//! What version 0.1.0 stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "rate4_d100",
        dim: 100,
        metric: Metric::L2,
        params: &[("rate", Param::Float(4.0))],
    },
    Case {
        name: "kept5_none_f32_d13_ip",
        dim: 13,
        metric: Metric::Ip,
        params: &[
            ("kept", Param::Int(5)),
            ("tail", Param::Name("none")),
            ("center", Param::Name("none")),
            ("scalars", Param::Name("f32")),
        ],
    },
    Case {
        name: "natural_d96_cosine",
        dim: 96,
        metric: Metric::Cosine,
        params: &[
            ("rate", Param::Float(2.0)),
            ("basis", Param::Name("natural")),
            ("tail", Param::Name("none")),
        ],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_pca::plugin(), folder, CASES);
}
