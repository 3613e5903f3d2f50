//! What every version stored stays readable, and what the newest computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "m4_bits4_d12",
        dim: 12,
        metric: Metric::L2,
        params: &[("m", Param::Int(4)), ("bits", Param::Int(4)), ("rounds", Param::Int(5))],
    },
    Case {
        name: "m5_bits3_d15_ip",
        dim: 15,
        metric: Metric::Ip,
        params: &[("m", Param::Int(5)), ("bits", Param::Int(3)), ("rounds", Param::Int(0))],
    },
    Case {
        name: "m13_bits5_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("m", Param::Int(13)), ("bits", Param::Int(5)), ("iterations", Param::Int(4))],
    },
    Case {
        name: "m1_bits6_d7",
        dim: 7,
        metric: Metric::Cosine,
        params: &[("m", Param::Int(1)), ("bits", Param::Int(6))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_opq::plugin(), folder, CASES);
}
