//! What casting promises.

#![expect(clippy::unwrap_used, reason = "a test fails where a promise is broken")]

use ndarray::{Array2, s};
use vq_cast::{Cast, CastParams, Format};
use vq_plugin_api::{Context, Metric, Params, Quantizer, Space, Value};

const FORMATS: [Format; 5] =
    [Format::F32, Format::F16, Format::Bf16, Format::Fp8E4m3, Format::Int8];

fn cast(format: Format, dim: usize) -> Cast {
    let space = Space { dim, metric: Metric::L2 };
    Cast::create(CastParams { r#type: format }, space).unwrap()
}

/// Rows that look random, over some orders of magnitude.
fn rows(n: usize, d: usize) -> Array2<f32> {
    Array2::from_shape_fn((n, d), |(i, j)| {
        let t = ((i * 7919 + j * 104_729 + 13) % 10_007) as f32 / 10_007.0 - 0.5;
        t * 10.0_f32.powi((j % 5) as i32 - 2)
    })
}

fn codes(cast: &Cast, x: &Array2<f32>, threads: usize) -> Array2<u8> {
    let mut codes = Array2::zeros((x.nrows(), cast.code_bytes()));
    cast.compress(x.view(), codes.view_mut(), &Context::detached(threads, 1)).unwrap();
    codes
}

fn decoded(cast: &Cast, codes: &Array2<u8>, dim: usize) -> Array2<f32> {
    let mut x = Array2::from_elem((codes.nrows(), dim), f32::NAN);
    cast.decompress(codes.view(), x.view_mut(), &Context::detached(2, 1)).unwrap();
    x
}

fn fitted(format: Format, x: &Array2<f32>) -> Cast {
    let mut cast = cast(format, x.ncols());
    cast.fit(x.view(), &Context::detached(2, 1)).unwrap();
    cast
}

#[test]
fn f32_is_bit_exact_for_every_finite_value() {
    let odd = [0.0, -0.0, f32::MAX, f32::MIN, 1e-45, -1e-45, f32::MIN_POSITIVE, 1.0];
    let x = Array2::from_shape_vec((1, 8), odd.to_vec()).unwrap();
    let cast = fitted(Format::F32, &x);
    let back = decoded(&cast, &codes(&cast, &x, 1), 8);
    assert!(x.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(cast.model_bytes(), Some(0));
}

#[test]
fn each_format_is_as_precise_as_its_fraction() {
    let x = rows(500, 13);
    let largest = x.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
    // Half a unit in the last place, relative; and half of the smallest spacing, absolute.
    let cases = [
        (Format::F16, 2.0_f32.powi(-11), 2.0_f32.powi(-25)),
        (Format::Bf16, 2.0_f32.powi(-8), 0.0),
        (Format::Fp8E4m3, 2.0_f32.powi(-4), 2.0_f32.powi(-10) * largest / 224.0),
        (Format::Int8, 0.0, 0.5001 * largest / 127.0),
    ];
    for (format, relative, absolute) in cases {
        let cast = fitted(format, &x);
        let back = decoded(&cast, &codes(&cast, &x, 2), 13);
        for (x, y) in x.iter().zip(&back) {
            assert!((x - y).abs() <= (relative * x.abs()).max(absolute), "{format:?}: {x} → {y}");
        }
    }
}

#[test]
fn codes_take_the_bytes_of_their_format() {
    let bytes = FORMATS.map(|format| cast(format, 7).code_bytes());
    assert_eq!(bytes, [28, 14, 14, 7, 7]);
}

#[test]
fn neither_batches_nor_threads_nor_strides_change_codes() {
    let wide = rows(300, 20);
    let x = wide.slice(s![.., 3..16]).to_owned();
    for format in FORMATS {
        let cast = fitted(format, &x);
        let whole = codes(&cast, &x, 1);
        assert_eq!(whole, codes(&cast, &x, 2));
        let mut strided = Array2::zeros(whole.raw_dim());
        let ctx = Context::detached(2, 9);
        cast.compress(wide.slice(s![.., 3..16]), strided.view_mut(), &ctx).unwrap();
        assert_eq!(whole, strided);
        for (i, row) in x.outer_iter().enumerate().step_by(37) {
            let one = row.to_owned().insert_axis(ndarray::Axis(0));
            assert_eq!(whole.slice(s![i..=i, ..]), codes(&cast, &one, 1));
        }
    }
}

#[test]
fn a_loaded_model_decodes_bit_identically_and_damage_is_refused() {
    let x = rows(50, 9);
    for format in FORMATS {
        let trained = fitted(format, &x);
        let codes = codes(&trained, &x, 1);
        let model = trained.save().unwrap();
        let mut restored = cast(format, 9);
        restored.load(&model).unwrap();
        assert_eq!(decoded(&trained, &codes, 9), decoded(&restored, &codes, 9));
        assert_eq!(codes, self::codes(&restored, &x, 1));
        assert!(restored.load(&[model.as_slice(), &[0]].concat()).is_err());
    }
}

#[test]
fn finite_rows_stay_finite_whatever_their_size() {
    let values = [f32::MAX, f32::MIN, 1e-45, 0.0, -1e30, 1e30, 65520.0, 449.0];
    let x = Array2::from_shape_fn((8, 8), |(i, j)| values[(i + j) % 8]);
    let constant = Array2::from_elem((3, 8), 1e-45_f32);
    for format in FORMATS {
        for train in [&x, &constant, &Array2::zeros((1, 8))] {
            let cast = fitted(format, train);
            let back = decoded(&cast, &codes(&cast, &x, 1), 8);
            assert!(back.iter().all(|x| x.is_finite()), "{format:?}");
        }
    }
}

#[test]
fn codes_of_no_number_are_refused() {
    for format in [Format::F32, Format::F16, Format::Bf16, Format::Fp8E4m3] {
        let cast = fitted(format, &rows(5, 4));
        let codes = Array2::from_elem((1, cast.code_bytes()), 0xFF);
        let mut x = Array2::zeros((1, 4));
        assert!(cast.decompress(codes.view(), x.view_mut(), &Context::detached(1, 1)).is_err());
    }
}

#[test]
fn a_wanted_rate_names_the_formats_that_have_it() {
    let space = Space { dim: 100, metric: Metric::L2 };
    let types = |bits: f64| Cast::rate_axes(space, bits).pop().map(|(_, types)| types);
    let names = |names: &[&str]| Some(names.iter().map(|n| Value::from(*n)).collect::<Vec<_>>());
    assert_eq!(types(32.0), names(&["f32"]));
    assert_eq!(types(16.0), names(&["f16", "bf16"]));
    assert_eq!(types(8.0), names(&["fp8_e4m3", "int8"]));
    assert_eq!(types(8.4), types(8.0));
    assert_eq!((types(4.0), types(9.0)), (None, None));
    assert_eq!(CastParams::schema()[0].grid.len(), 5);
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_cast::plugin()).assert_clean();
}
