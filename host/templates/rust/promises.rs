//! What this method promises beyond the law: replace these tests with the method.

use {{crate}}::{{{type}}Params, {{type}}Quantizer};

use vq_plugin_api::ndarray::Array2;
use vq_plugin_api::{Context, Metric, Params, Quantizer, Space};

#[test]
fn no_coordinate_in_range_is_off_by_more_than_half_a_step() {
    let (rows, dim, metric) = (310, 3, Metric::L2);
    let x = Array2::from_shape_fn((rows, dim), |(i, j)| ((i * 7 + j * 13) % 31) as f32);
    let params = {{type}}Params::from_config(&[("step".into(), 0.1.into())].into()).unwrap();
    let mut method = {{type}}Quantizer::create(params, Space { dim, metric }).unwrap();

    let ctx = Context::detached(1, 0);
    let mut codes = Array2::zeros((rows, method.code_bytes()));
    let mut y = Array2::zeros((rows, dim));
    method.fit(x.view(), &ctx).unwrap();
    method.compress(x.view(), codes.view_mut(), &ctx).unwrap();
    method.decompress(codes.view(), y.view_mut(), &ctx).unwrap();

    // Another process, which has the saved model alone, decodes to the same numbers.
    let params = {{type}}Params::from_config(&[("step".into(), 0.1.into())].into()).unwrap();
    let mut restored = {{type}}Quantizer::create(params, Space { dim, metric }).unwrap();
    restored.load(&method.save().unwrap()).unwrap();
    let mut again = Array2::zeros((rows, dim));
    restored.decompress(codes.view(), again.view_mut(), &ctx).unwrap();
    assert_eq!(y, again);

    let step = 0.1 * x.std(0.0); // of the whole as of each dimension: all hold the same values
    for (x, y) in x.iter().zip(&y) {
        assert!((x - y).abs() < 0.501 * step, "{x} came back as {y}");
    }
}
