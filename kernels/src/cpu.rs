//! What runs the ops: an instruction set and a pool of threads.
//!
//! Ops only say how work may be cut ([`Cpu::for_each`], [`Cpu::split`], [`Cpu::split_rows`]); how
//! the pieces reach threads is this file's business. Invariant: how work was cut never changes a
//! result, so every piece computes its outputs alone.

use crate::Isa;
use crate::pool::Pool;
use std::ops::Range;
use std::sync::Arc;

/// An instruction set and a pool of threads. Cheap to clone; clones share the threads.
#[derive(Clone)]
pub struct Cpu {
    isa: Isa,
    threads: usize,
    /// None: one thread, everything runs on the caller's.
    pool: Option<Arc<Pool>>,
}

impl Cpu {
    /// A pool of `threads` threads running `isa`.
    ///
    /// # Panics
    /// When `threads` is 0, this machine lacks `isa` and this build does not emulate it, or threads
    /// cannot be started.
    pub fn new(threads: usize, isa: Isa) -> Self {
        assert!(threads > 0, "a Cpu needs at least one thread");
        assert!(isa.is_available() || isa.is_emulated(), "this machine has no {isa}");
        let pool = (threads > 1).then(|| Arc::new(Pool::new(threads)));
        Self { isa, threads, pool }
    }

    /// The instruction set. It is available on this machine, or emulated: [`Cpu::new`] checked.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads that work at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `task(0)` to `task(tasks - 1)`, each once, in no particular order.
    pub fn for_each(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        match &self.pool {
            Some(pool) if tasks > 1 => pool.run(tasks, &task),
            _ => (0..tasks).for_each(task),
        }
    }

    /// Cuts `0..items` into ranges, none shorter than `grain` unless there are fewer items, and runs
    /// `work` on each. Work smaller than two grains runs on the caller's thread.
    pub fn split(&self, items: usize, grain: usize, work: impl Fn(Range<usize>) + Sync) {
        if items == 0 {
            return;
        }
        let pieces = (self.threads * PIECES).min(items / grain.max(1)).max(1);
        self.for_each(pieces, |i| work(items * i / pieces..items * (i + 1) / pieces));
    }

    /// Cuts `out`, rows of `row_len` elements, into runs of rows (none shorter than
    /// `grain` rows, see [`Cpu::split`]) and calls `work(first_row, rows)` on each.
    ///
    /// # Panics
    /// When `out` is not whole rows.
    pub fn split_rows<T: Send>(
        &self,
        out: &mut [T],
        row_len: usize,
        grain: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(row_len > 0 && out.len().is_multiple_of(row_len), "out holds whole rows");
        let rows = out.len() / row_len;
        let shared = Disjoint::new(out);
        self.split(rows, grain, |range| {
            // SAFETY: the ranges of one split are disjoint, and so are their elements.
            let piece = unsafe { shared.range(range.start * row_len..range.end * row_len) };
            work(range.start, piece);
        });
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu({} x {})", self.threads, self.isa)
    }
}

/// Pieces per thread: a thread that was held up leaves its rest to others.
const PIECES: usize = 4;

/// A slice that several tasks write at places none shares with another.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    owner: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out `&mut` to parts of a slice it borrows mutably, and its users promise that
// the parts are disjoint; sending such parts to threads needs `T: Send` only.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Borrows `slice` for as long as parts of it are written.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), owner: std::marker::PhantomData }
    }

    /// Elements of the slice.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part `range` of the slice.
    ///
    /// # Safety
    /// No two parts alive at once overlap.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part of the slice");
        // SAFETY: in bounds by the assertion, inside a slice borrowed for 'a, unshared by promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
