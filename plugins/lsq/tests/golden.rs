//! What every version stored stays readable, and what the newest computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "layers3_bits6_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("layers", Param::Int(3)), ("bits", Param::Int(6)), ("rounds", Param::Int(3))],
    },
    Case {
        name: "splits3_layers4_bits4_d12_ip",
        dim: 12,
        metric: Metric::Ip,
        params: &[
            ("splits", Param::Int(3)),
            ("layers", Param::Int(4)),
            ("bits", Param::Int(4)),
            ("rounds", Param::Int(4)),
        ],
    },
    Case {
        name: "layers2_bits8_tries2_d20",
        dim: 20,
        metric: Metric::L2,
        params: &[
            ("layers", Param::Int(2)),
            ("tries", Param::Int(2)),
            ("rounds", Param::Int(2)),
            ("points_per_centroid", Param::Int(2)),
        ],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_lsq::plugin(), folder, CASES);
}
