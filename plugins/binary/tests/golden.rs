//! What version 0.1.0 stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case { name: "none_d13", dim: 13, metric: Metric::L2, params: &[] },
    Case {
        name: "rate1_random_d100_ip",
        dim: 100,
        metric: Metric::Ip,
        params: &[("rate", Param::Float(1.0)), ("rotation", Param::Name("random"))],
    },
    Case {
        name: "itq_rate0_5_d32",
        dim: 32,
        metric: Metric::L2,
        params: &[("rate", Param::Float(0.5)), ("rotation", Param::Name("itq"))],
    },
    Case {
        name: "levels1_5_d15_cosine",
        dim: 15,
        metric: Metric::Cosine,
        params: &[("levels", Param::Name("1.5")), ("center", Param::Name("none"))],
    },
    Case {
        name: "levels2_random_d96",
        dim: 96,
        metric: Metric::L2,
        params: &[("levels", Param::Name("2")), ("rotation", Param::Name("random"))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_binary::plugin(), folder, CASES);
}
