//! Levels for normal numbers, and the nearest of any levels.

use vq_kernels::Path;

/// Steps of the uniform quantizer of N(0,1) with the least mean squared error and 2^bits levels, for 1 to 8
/// bits; its levels are ±step/2, ±3·step/2, … (Max 1960, table II, to the accuracy of f64).
const STEPS: [f64; 8] = [
    1.595_769_121_605_730_8,
    0.995_686_685_943_506_3,
    0.586_019_441_443_486_9,
    0.335_200_612_199_972_7,
    0.188_138_790_279_918_26,
    0.104_063_009_442_014_62,
    0.056_867_672_382_358_535,
    0.030_762_387_582_324_61,
];

/// The step of the best uniform quantizer of N(0,1) with `bits` bits.
///
/// # Panics
/// When `bits` is not in 1..=8.
#[must_use]
pub fn uniform_step(bits: u32) -> f64 {
    assert!((1..=8).contains(&bits), "{bits} bits, expected 1 to 8");
    STEPS[bits as usize - 1]
}

/// The 2^bits levels of the best uniform quantizer of N(0,1), ascending.
///
/// # Panics
/// When `bits` is not in 1..=8.
#[must_use]
pub fn uniform(bits: u32) -> Vec<f32> {
    let (step, count) = (uniform_step(bits), 1_i32 << bits);
    (0..count).map(|v| (step * (f64::from(v) - f64::from(count - 1) / 2.0)) as f32).collect()
}

/// The 2^bits levels of the best quantizer of N(0,1), ascending (Lloyd 1982; Max 1960, table I).
///
/// # Panics
/// When `bits` is not in 1..=8.
#[must_use]
pub fn lloyd_max(bits: u32) -> Vec<f32> {
    assert!((1..=8).contains(&bits), "{bits} bits, expected 1 to 8");
    let count = 1 << (bits - 1);
    let positive = LLOYD_MAX[count - 1..][..count].iter().map(|level| *level as f32);
    positive.clone().rev().map(|level| -level).chain(positive).collect()
}

/// Levels in ascending order, ready to find the one nearest to a number: by counting the ends of cells that
/// are not above it, of up to 16 levels; of more by a table of slots so narrow that none has two ends.
#[derive(Clone, Debug)]
pub struct Cells {
    ends: Vec<f32>,
    table: Option<Box<Table>>,
}

/// Slots over the range of the ends. Levels that lie closer than a slot is wide share it with a neighbour and
/// are never chosen; those of normal numbers do not.
const SLOTS: usize = 2048;

#[derive(Clone, Debug)]
struct Table {
    low: f32,
    per_unit: f32,
    /// Ends before the slot.
    before: [u32; SLOTS],
    /// The end in the slot; infinite without one.
    end: [f32; SLOTS],
}

impl Cells {
    /// Of at least two `levels`, ascending. A cell's end is the mean of two levels, in f32.
    ///
    /// # Panics
    /// When there are fewer levels, or they do not ascend.
    #[must_use]
    pub fn new(levels: &[f32]) -> Self {
        assert!(levels.len() > 1 && levels.is_sorted(), "levels in ascending order");
        let ends: Vec<f32> = levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let table = (![1, 3, 7, 15].contains(&ends.len())).then(|| Box::new(Table::new(&ends)));
        Cells { ends, table }
    }

    /// Writes the index of the level nearest to each of `x` (n) times `factor` into `to` (n); the upper of
    /// two as near. O(n), no allocation.
    pub fn nearest(&self, x: &[f32], factor: f32, to: &mut [u16]) {
        Path::fastest().run(
            #[inline(always)]
            || match &self.table {
                Some(table) => table.nearest(x, factor, to),
                None => match self.ends.len() {
                    1 => count::<1>(&self.ends, x, factor, to),
                    3 => count::<3>(&self.ends, x, factor, to),
                    7 => count::<7>(&self.ends, x, factor, to),
                    _ => count::<15>(&self.ends, x, factor, to),
                },
            },
        );
    }
}

#[inline(always)]
fn count<const N: usize>(ends: &[f32], x: &[f32], factor: f32, to: &mut [u16]) {
    let ends: &[f32; N] = ends.try_into().expect("as many as were counted");
    for (to, x) in to.iter_mut().zip(x) {
        let x = x * factor;
        *to = ends.iter().map(|end| i32::from(x >= *end)).sum::<i32>() as u16;
    }
}

impl Table {
    fn new(ends: &[f32]) -> Self {
        let (low, high) = (ends[0], ends[ends.len() - 1]);
        let per_unit = (SLOTS - 2) as f32 / (high - low).max(f32::MIN_POSITIVE);
        let per_unit = per_unit.min(f32::MAX);
        let mut table = Table { low, per_unit, before: [0; SLOTS], end: [f32::INFINITY; SLOTS] };
        for end in ends {
            let at = table.slot(*end);
            table.end[at] = *end;
            table.before[at + 1..].iter_mut().for_each(|before| *before += 1);
        }
        table
    }

    /// The slot of `x`: the first for what lies below all ends, so that nothing there is cut off into the slot
    /// of an end.
    #[inline(always)]
    fn slot(&self, x: f32) -> usize {
        let at = ((x - self.low) * self.per_unit + 1.0).max(0.0).min((SLOTS - 1) as f32);
        at as i32 as usize & (SLOTS - 1)
    }

    #[inline(always)]
    fn nearest(&self, x: &[f32], factor: f32, to: &mut [u16]) {
        for (to, x) in to.iter_mut().zip(x) {
            let x = x * factor;
            let at = self.slot(x);
            *to = (self.before[at] + u32::from(x >= self.end[at])) as u16;
        }
    }
}

/// Positive Lloyd–Max levels of N(0,1) for 1, 2, … 8 bits, one after another: the zeros of the conditions
/// of an optimum, found by Newton's method in 40 digits.
#[rustfmt::skip]
#[expect(clippy::unreadable_literal, reason = "a table that nobody reads digit by digit")]
const LLOYD_MAX: [f64; 255] = [
    // 1 bit
    0.7978845608028654,
    // 2 bits
    0.452780034636492, 1.5104176084990955,
    // 3 bits
    0.24509417894422167, 0.7560052812058773, 1.343909278505, 2.1519457045369874,
    // 4 bits
    0.128395029851147, 0.3880482994902902, 0.6567591185324634, 0.9423404564869614, 1.2562311973471771,
    1.6180463860218826, 2.0690172265313866, 2.732589570995163,
    // 5 bits
    0.06588965977082256, 0.19805182966943216, 0.3313783057601116, 0.46669952297668094, 0.6049336240094318,
    0.7471357036878163, 0.8945651173883715, 1.0487833199231986, 1.211804380609264, 1.3863403395866256,
    1.5762280786121903, 1.7872332177032693, 2.028728399395497, 2.317739404194735, 2.6911195773766687,
    3.2607324934014006,
    // 6 bits
    0.03340950637010074, 0.10027828930388713, 0.16729690336899547, 0.2345669853360093, 0.302192846371696,
    0.370282645258938, 0.4389496716586352, 0.5083137808979938, 0.5785030305188004, 0.6496555810635404,
    0.7219219405696736, 0.7954676558408593, 0.870476586544118, 0.9471549447432923, 1.0257363490773348,
    1.1064882395373279, 1.1897201418608732, 1.2757944864337445, 1.3651410198102165, 1.4582763746978018,
    1.5558312247051407, 1.6585889004238565, 1.767541882991204, 1.8839772405224506, 2.0096110425936944,
    2.1468102170558803, 2.2989812097603872, 2.4713047976182803, 2.672273835255278, 2.917406790723003,
    3.240437055012211, 3.744101270895345,
    // 7 bits
    0.016828169457257337, 0.05049086396324786, 0.08417264205883766, 0.1178862823031159, 0.15164464790978896,
    0.1854607214256451, 0.21934764023847636, 0.2533187331700954, 0.2873875584246195, 0.32156794318058946,
    0.35587402513815714, 0.39032029636002186, 0.42492164977766744, 0.45969342877351715, 0.4946514802958468,
    0.5298122120178267, 0.56519265411632, 0.6008105263217581, 0.6366843109796396, 0.6728333329695212,
    0.7092778474519102, 0.7460391365610942, 0.7831396163374086, 0.8206029554016402, 0.8584542071245348,
    0.8967199573449002, 0.935428490052102, 0.9746099738874292, 1.0142966728523577, 1.0545231852638806,
    1.0953267157982172, 1.1367473864538342, 1.1788285934942129, 1.2216174189677063, 1.265165107335604,
    1.3095276201894268, 1.3547662851652738, 1.4009485591850843, 1.4481489313717788, 1.4964499978133121,
    1.5459437493733037, 1.596733125792029, 1.6489339055840169, 1.7026770234583626, 1.7581114377453317,
    1.8154077134957767, 1.8747625484931847, 1.9364045587161332, 2.000601771738897, 2.0676714756109984,
    2.1379933780433253, 2.212027517525366, 2.2903391620216333, 2.373634269839721, 2.462811433129822,
    2.5590405215205165, 2.6638865386312016, 2.7795142579810537, 2.9090470736096363, 3.0572461506081066,
    3.231933204266534, 3.447430271103957, 3.7349366443632643, 4.189694156733378,
    // 8 bits
    0.008446193222756295, 0.025339383099345594, 0.042234983804242794, 0.05913460434083632,
    0.07603985639252604, 0.0929523554012122, 0.10987372165229412, 0.12680558136807535, 0.1437495678114996,
    0.16070732240217558, 0.17768049584669052, 0.19467074928525907, 0.21167975545680925, 0.22870919988466995,
    0.24576078208509358, 0.2628362168009263, 0.27993723526282477, 0.2970655864805145, 0.3142230385666894,
    0.33141138009626975, 0.3486324215038598, 0.3658879965223876, 0.38317996366605755, 0.4005102077609124,
    0.41788064152647963, 0.43529320721217035, 0.45274987829231145, 0.47025266122391923, 0.4878035972715734,
    0.5054047644040176, 0.5230582792674087, 0.5407662992404536, 0.5585310245770181, 0.5763547006421683,
    0.5942396202480124, 0.6121881260961544, 0.6302026133340553, 0.6482855322331184, 0.6664393909968923,
    0.6846667587084027, 0.7029702684263094, 0.7213526204403216, 0.7398165856971156, 0.7583650094088884,
    0.7770008148576407, 0.795727007409354, 0.8145466787533798, 0.8334630113836405, 0.8524792833396407,
    0.8715988732268272, 0.8908252655375329, 0.9101620562956106, 0.9296129590499155, 0.9491818112440852,
    0.968872580992572, 0.9886893742956772, 1.0086364427294274, 1.0287181916495645, 1.048939188952738,
    1.0693041744422376, 1.0898180698503408, 1.110485989574644, 1.13131325219166, 1.1523053928175975,
    1.1734681763936767, 1.1948076119816973, 1.2163299681649922, 1.2380417896605218, 1.2599499152598737,
    1.2820614972305167, 1.3043840223240994, 1.3269253345561072, 1.349693659941183, 1.3726976333912353,
    1.3959463280095736, 1.4194492870442756, 1.4432165587984476, 1.4672587348347692, 1.4915869918576432,
    1.5162131377095, 1.5411496619796943, 1.5664097917965718, 1.5920075534576597, 1.6179578406518962,
    1.6442764901443314, 1.6709803659313192, 1.6980874530373322, 1.7256169623186122, 1.753589447870698,
    1.7820269389149666, 1.810953088374312, 1.8403933407534958, 1.8703751224326286, 1.900928058084589,
    1.93208421766716, 1.9638783993546949, 1.99634845490986, 2.029535665415902, 2.063485177076778,
    2.09824650905685, 2.133874148222555, 2.1704282493679052, 2.2079754643316654, 2.246589929732332,
    2.2863544513987355, 2.327361934728369, 2.36971712526939, 2.4135387444120555, 2.458962133587387,
    2.5061425604170537, 2.5552593973824385, 2.6065214664607876, 2.6601739656957775, 2.71650757857875,
    2.775870652699903, 2.8386857867574364, 2.90547290366505, 2.976882133701405, 3.0537420161692928,
    3.1371325317023246, 3.2285002105788148, 3.329848470000476, 3.4440716782142333, 3.5755879723915944,
    3.7316662622241643, 3.9256377839361196, 4.186595442844834, 4.603535612430344,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Density and upper tail of N(0,1), the latter by Simpson's rule over 0..x.
    fn normal(x: f64) -> (f64, f64) {
        let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let steps = 2000;
        let h = x / f64::from(steps);
        let weight = |i: i32| if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
        let integral: f64 = (0..=steps).map(|i| weight(i) * density(h * f64::from(i))).sum();
        (density(x), 0.5 - integral * h / 3.0)
    }

    /// E(x − level)² and the largest distance of a level from the mean of its cell.
    fn judged(levels: &[f32]) -> (f64, f64) {
        let upper: Vec<f64> = levels[levels.len() / 2..].iter().map(|l| f64::from(*l)).collect();
        let (mut error, mut off, mut low) = (0.5, 0.0_f64, (normal(0.0), 0.0));
        for (i, level) in upper.iter().enumerate() {
            let end = upper.get(i + 1).map_or(40.0, |next| (level + next) / 2.0);
            let high = if i + 1 < upper.len() { normal(end) } else { (0.0, 0.0) };
            let (mass, moment) = (low.0.1 - high.1, high.0 - low.0.0);
            error += level * level * mass + 2.0 * level * moment;
            off = off.max((moment / mass + level).abs());
            low = (high, end);
        }
        (2.0 * error, off)
    }

    #[test]
    fn normal_levels_err_as_little_as_published() {
        // Max 1960 to the accuracy of f64; the last digits given here decide the tolerance.
        let published = [
            (0.363_380, 0.797_88, 0.363_380, 0.7979),
            (0.117_482, 1.510_42, 0.118_846, 1.4935),
            (0.034_547_8, 2.151_95, 0.037_439_7, 2.0511),
            (0.009_501_01, 2.732_59, 0.011_542_9, 2.5140),
            (0.002_504_67, 3.260_73, 0.003_495_21, 2.9162),
            (6.442_40e-4, 3.744_10, 1.040_05e-3, 3.2780),
            (1.634_78e-4, 4.189_69, 3.043_33e-4, 3.6111),
            (4.118_51e-5, 4.603_54, 8.768_62e-5, 3.9222),
        ];
        for (bits, (free, outer, even, half_range)) in (1..).zip(published) {
            let levels = lloyd_max(bits);
            let (error, off) = judged(&levels);
            assert!((error / free - 1.0).abs() < 1e-5, "{bits} bits: {error}");
            assert!(off < 1e-6, "{bits} bits: {off} from the means");
            assert!((levels[levels.len() - 1] - outer).abs() < 6e-6);
            let levels = uniform(bits);
            let (error, _) = judged(&levels);
            assert!((error / even - 1.0).abs() < 1e-5, "{bits} bits: {error}");
            assert!((levels[levels.len() - 1] - half_range).abs() < 6e-5);
        }
    }

    fn found(levels: &[f32], x: &[f32]) -> Vec<u16> {
        let mut to = vec![9; x.len()];
        Cells::new(levels).nearest(x, 1.0, &mut to);
        to
    }

    #[test]
    fn of_two_levels_as_near_the_upper_is_taken() {
        for bits in 1..9 {
            let levels = lloyd_max(bits);
            for (v, pair) in levels.windows(2).enumerate() {
                let end = (pair[0] + pair[1]) / 2.0;
                let x = [end.next_down(), end, end.next_up()];
                assert_eq!(found(&levels, &x), [v as u16, v as u16 + 1, v as u16 + 1]);
            }
        }
        assert_eq!(found(&[-1.0, 1.0], &[0.0, -0.0, -1e-30, 1e30]), [1, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn every_number_finds_its_nearest_level(
            bits in 1_u32..9,
            x in prop::collection::vec(-6.0_f32..6.0, 1..70),
        ) {
            let levels = lloyd_max(bits);
            for (x, v) in x.iter().zip(found(&levels, &x)) {
                let off = |level: &f32| f64::from((level - x).abs());
                let least = levels.iter().map(off).fold(f64::INFINITY, f64::min);
                prop_assert!(off(&levels[usize::from(v)]) <= least + 1e-6);
            }
        }
    }
}
