//! Memory of records that were handed out, to read others into once nobody needs it: to be given fresh
//! memory by the system takes as long as to hash what is read into it.

use crate::tier::Kv;
use std::{collections::VecDeque, sync::Arc};

/// What was handed out last: no more than a few, and few bytes.
#[derive(Default)]
pub(crate) struct Spares(VecDeque<Kv>);

impl Spares {
    /// Memory for so many bytes, in which anything may stand.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let fits = |kv: &Kv| (bytes..=2 * bytes).contains(&kv.capacity());
        let free = self.0.iter().position(|kv| Arc::strong_count(kv) == 1 && fits(kv));
        free.and_then(|at| self.0.remove(at)).and_then(Arc::into_inner).unwrap_or_default()
    }

    /// Remembers what is handed out.
    pub(crate) fn note(&mut self, kv: &Kv) {
        self.0.push_back(Arc::clone(kv));
        let bytes = |kept: &VecDeque<Kv>| kept.iter().map(|kv| kv.capacity()).sum::<usize>();
        while self.0.len() > SPARES_MAX || bytes(&self.0) > SPARE_BYTES_MAX {
            self.0.pop_front();
        }
    }
}

/// One that is read into, one that the loop reads, and one between.
const SPARES_MAX: usize = 3;
const SPARE_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_by_nobody_is_used_again() {
        let mut spares = Spares::default();
        let [first, second] = [1, 2].map(|byte| Arc::new(vec![byte; 1000]));
        spares.note(&first);
        spares.note(&second);
        assert_eq!(spares.take(1000).capacity(), 0, "both are read");
        let place = first.as_ptr();
        drop(first);
        assert_eq!(spares.take(1001).capacity(), 0, "it is too small");
        assert_eq!(spares.take(400).capacity(), 0, "it would be wasted");
        let again = spares.take(900);
        assert_eq!(again.as_ptr(), place);
        drop(second);
        assert_eq!(spares.take(1000), [2; 1000]);
        assert_eq!(spares.take(1000).capacity(), 0, "none is left");
    }

    #[test]
    fn few_are_kept() {
        let mut spares = Spares::default();
        for _ in 0..=SPARES_MAX {
            spares.note(&Arc::new(vec![0; 10]));
        }
        assert_eq!(spares.0.len(), SPARES_MAX);
        spares.note(&Arc::new(vec![0; SPARE_BYTES_MAX + 1]));
        assert!(spares.0.is_empty());
    }
}
