//! What every version stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case { name: "e8_bits4_d13", dim: 13, metric: Metric::L2, params: &[] },
    Case {
        name: "d4_bits2_d15",
        dim: 15,
        metric: Metric::L2,
        params: &[("lattice", Param::Name("d4")), ("bits", Param::Int(2))],
    },
    Case {
        name: "z_bits3_d7",
        dim: 7,
        metric: Metric::Ip,
        params: &[("lattice", Param::Name("z")), ("bits", Param::Int(3))],
    },
    Case {
        name: "e8_bits1_scale_d16",
        dim: 16,
        metric: Metric::L2,
        params: &[("bits", Param::Int(1)), ("scale", Param::Float(0.7))],
    },
    Case {
        name: "leech_bits3_d37",
        dim: 37,
        metric: Metric::L2,
        params: &[("lattice", Param::Name("leech")), ("bits", Param::Int(3))],
    },
    Case {
        name: "leech_bits1_d24_ip",
        dim: 24,
        metric: Metric::Ip,
        params: &[("lattice", Param::Name("leech")), ("bits", Param::Int(1))],
    },
    Case {
        name: "e8_levels3_d45",
        dim: 45,
        metric: Metric::L2,
        params: &[("levels", Param::Int(3))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_lattice::plugin(), folder, CASES);
}
