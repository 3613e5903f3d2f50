//! What version 0.1.0 stored stays readable, and what it computed stays the same to the bit.

use vq_blocks::testing::{Case, Param, check_golden};
use vq_plugin_api::Metric;

const CASES: &[Case] = &[
    Case { name: "f32_d13", dim: 13, metric: Metric::L2, params: &[("type", Param::Name("f32"))] },
    Case { name: "f16_d13", dim: 13, metric: Metric::L2, params: &[("type", Param::Name("f16"))] },
    Case {
        name: "bf16_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("type", Param::Name("bf16"))],
    },
    Case {
        name: "fp8_e4m3_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("type", Param::Name("fp8_e4m3"))],
    },
    Case {
        name: "int8_d13",
        dim: 13,
        metric: Metric::L2,
        params: &[("type", Param::Name("int8"))],
    },
];

#[test]
fn models_and_codes_of_every_version_stay_as_they_were() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    check_golden(vq_cast::plugin(), folder, CASES);
}
