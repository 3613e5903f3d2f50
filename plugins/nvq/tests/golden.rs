//! What version 0.1.0 stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "bits4_f32_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("bits", Param::Int(4)), ("scalars", Param::Name("f32"))],
    },
    Case {
        name: "rate8_d100_ip",
        dim: 100,
        metric: Metric::Ip,
        params: &[("rate", Param::Float(8.0))],
    },
    Case {
        name: "rate5_none_tries256_d96",
        dim: 96,
        metric: Metric::L2,
        params: &[
            ("rate", Param::Float(5.0)),
            ("center", Param::Name("none")),
            ("tries", Param::Int(256)),
        ],
    },
    Case {
        name: "bits8_hadamard_d15_cosine",
        dim: 15,
        metric: Metric::Cosine,
        params: &[("bits", Param::Int(8)), ("rotation", Param::Name("hadamard"))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_nvq::plugin(), folder, CASES);
}
