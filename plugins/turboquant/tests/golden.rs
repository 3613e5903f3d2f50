//! What earlier versions stored stays readable, and what they computed stays the same to the bit (0.1.0 had no file of a
//! Gaussian sketch, whose numbers 0.2.0 rounds).

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case {
        name: "bits1_f32_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("bits", Param::Int(1)), ("scalars", Param::Name("f32"))],
    },
    Case {
        name: "rate3_unbiased_d100_ip",
        dim: 100,
        metric: Metric::Ip,
        params: &[("rate", Param::Float(3.0)), ("scale", Param::Name("unbiased"))],
    },
    Case {
        name: "prod_rotation_d96",
        dim: 96,
        metric: Metric::L2,
        params: &[
            ("rate", Param::Float(4.0)),
            ("variant", Param::Name("prod")),
            ("sketch", Param::Name("rotation")),
        ],
    },
    Case {
        name: "prod_gaussian_d141",
        dim: 141,
        metric: Metric::L2,
        params: &[("bits", Param::Int(3)), ("variant", Param::Name("prod"))],
    },
    Case {
        name: "bits8_dense_d15_cosine",
        dim: 15,
        metric: Metric::Cosine,
        params: &[("bits", Param::Int(8)), ("rotation", Param::Name("dense"))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_turboquant::plugin(), folder, CASES);
}
