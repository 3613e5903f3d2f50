//! What every version stored stays readable, and what the newest computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "layers3_bits6_beam5_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("layers", Param::Int(3)), ("bits", Param::Int(6))],
    },
    Case {
        name: "layers4_bits4_beam1_d12_ip",
        dim: 12,
        metric: Metric::Ip,
        params: &[("layers", Param::Int(4)), ("bits", Param::Int(4)), ("beam", Param::Int(1))],
    },
    Case {
        name: "layers5_bits3_beam3_d7",
        dim: 7,
        metric: Metric::L2,
        params: &[("layers", Param::Int(5)), ("bits", Param::Int(3)), ("beam", Param::Int(3))],
    },
    Case {
        name: "layers2_bits8_beam4_d20",
        dim: 20,
        metric: Metric::L2,
        params: &[
            ("layers", Param::Int(2)),
            ("beam", Param::Int(4)),
            ("points_per_centroid", Param::Int(2)),
        ],
    },
    Case {
        name: "splits3_layers2_bits5_joint2_d12",
        dim: 12,
        metric: Metric::L2,
        params: &[
            ("splits", Param::Int(3)),
            ("layers", Param::Int(2)),
            ("bits", Param::Int(5)),
            ("joint", Param::Int(2)),
        ],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_rq::plugin(), folder, CASES);
}
