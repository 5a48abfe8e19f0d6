//! Rotation against f64 trigonometry, and the one property everything here stands on.

use super::*;

fn inv_freq(dims: usize, base: f32) -> Vec<f32> {
    (0..dims / 2).map(|i| base.powf(-2.0 * i as f32 / dims as f32)).collect()
}

fn head(dims: usize) -> Vec<f32> {
    (0..dims).map(|i| crate::uniform(5, i as u64) as f32 * 4.0 - 2.0).collect()
}

#[test]
fn turns_are_those_of_the_formula_at_every_position() {
    for style in [RopeStyle::Interleaved, RopeStyle::HalfSplit] {
        for dims in [2, 16, 64, 80, 128, 256] {
            let freqs = inv_freq(dims, 10_000.0);
            let table = RopeTable::new(style, freqs.clone(), 1000);
            for position in [0, 1, 255, 256, 999, 1024, 131_072, -1, -256, -70_001] {
                let from = head(2 * dims);
                let mut turned = from.clone();
                table.rotate(position, &mut turned);
                let want =
                    from.chunks(dims).flat_map(|h| reference::rotate(style, &freqs, position, h));
                for (got, want) in turned.iter().zip(want) {
                    // Two products of numbers up to 2, each factor and the sum rounded.
                    assert!((f64::from(*got) - want).abs() < 6e-7, "{style:?} {dims} {position}");
                }
            }
        }
    }
}

#[test]
fn the_length_of_the_table_changes_no_bit() {
    let freqs = inv_freq(64, 500_000.0);
    let [short, long] =
        [0, 5000].map(|max| RopeTable::new(RopeStyle::HalfSplit, freqs.clone(), max));
    for position in (0..5000).step_by(37) {
        let (mut a, mut b) = (head(64), head(64));
        short.rotate(position, &mut a);
        long.rotate(position, &mut b);
        assert_eq!(a.map_bits(), b.map_bits(), "{position}");
    }
}

#[test]
fn position_zero_turns_nothing_and_scores_depend_on_distance_only() {
    let table = RopeTable::new(RopeStyle::Interleaved, inv_freq(64, 10_000.0), 4096);
    let (q, k) = (head(64), head(128)[64..].to_vec());
    let at = |position: i64, x: &[f32]| {
        let mut x = x.to_vec();
        table.rotate(position, &mut x);
        x
    };
    assert_eq!(at(0, &q), q);
    let score = |p: i64, r: i64| -> f64 {
        at(p, &q).iter().zip(at(r, &k)).map(|(&q, k)| f64::from(q) * f64::from(k)).sum()
    };
    for shift in [1, 700, 4000, -90] {
        assert!((score(90, 40) - score(90 + shift, 40 + shift)).abs() < 3e-5, "{shift}");
    }
    assert!((score(90, 40) - score(90, 41)).abs() > 1e-2);
}

trait Bits {
    fn map_bits(&self) -> Vec<u32>;
}

impl Bits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|x| x.to_bits()).collect()
    }
}
