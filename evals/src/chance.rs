//! Chance from a seed: every made question can be made again.

/// Numbers without pattern, the same for the same seed and purpose.
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    key: u64,
    counter: u64,
}

impl Chance {
    /// Numbers for one purpose; purposes of one seed do not share theirs.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let key = purpose.bytes().fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)));
        Self { key, counter: 0 }
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        mix(self.key ^ mix(self.counter))
    }

    /// A number below `limit`; each is as likely, to one part in 2^64 / `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        assert!(limit > 0, "no number is below 0");
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `count` numbers below `limit`, all different, in random order.
    pub(crate) fn distinct(&mut self, count: usize, limit: usize) -> Vec<usize> {
        assert!(count <= limit, "{count} different numbers below {limit}");
        let mut all: Vec<usize> = (0..limit).collect();
        self.shuffle(&mut all);
        all.truncate(count);
        all
    }

    /// `count` of `from`, no place twice.
    pub(crate) fn sample<T: Clone>(&mut self, from: &[T], count: usize) -> Vec<T> {
        self.distinct(count, from.len()).into_iter().map(|place| from[place].clone()).collect()
    }

    /// Lower-case hex digits.
    pub(crate) fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[self.below(16)])).collect()
    }
}

/// SplitMix64's finalizer (Steele, Lea and Flood, 2014): a counter to a number without pattern.
fn mix(counter: u64) -> u64 {
    let x = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
