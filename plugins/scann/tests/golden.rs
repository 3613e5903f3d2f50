//! What version 0.1.0 stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "m4_bits8_d12_ip",
        dim: 12,
        metric: Metric::Ip,
        params: &[
            ("m", Param::Int(4)),
            ("threshold", Param::Float(0.5)),
            ("rounds", Param::Int(3)),
            ("points_per_centroid", Param::Int(2)),
        ],
    },
    Case {
        name: "m5_bits4_d15",
        dim: 15,
        metric: Metric::L2,
        params: &[("m", Param::Int(5)), ("bits", Param::Int(4)), ("threshold", Param::Float(0.4))],
    },
    Case {
        name: "m32_bits2_d64_cosine",
        dim: 64,
        metric: Metric::Cosine,
        params: &[("m", Param::Int(32)), ("bits", Param::Int(2)), ("rounds", Param::Int(2))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_scann::plugin(), folder, CASES);
}
