//! Threads that share the tasks of one call: a pool made for steps of a few microseconds.
//!
//! The caller opens a job, works on it like the others, closes it and waits for those inside. A
//! thread that comes late finds the job closed and misses nothing. Threads spin between jobs, so
//! that the hundreds of ops of a forward pass do not wake anyone, and park when no job comes.
//! A call that finds the pool at work (from a task, or from another thread) runs alone.
//! Nothing here allocates once the threads run.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};

/// Threads beside the caller's.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A job, the gate to it, and who sleeps.
struct Shared {
    /// [`OPEN`], [`ENDED`], the number of threads inside, and above them the number of the job.
    gate: AtomicU64,
    /// Written by the caller alone while the gate is closed and nobody is inside.
    job: UnsafeCell<Job>,
    /// The next task to take.
    next: AtomicUsize,
    /// A caller is at work.
    busy: AtomicBool,
    /// What a task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: Vec<Sleeper>,
}

// SAFETY: `job` is written only by the one caller that holds `busy`, while the gate is closed and
// nobody is inside; threads read it only between entering and leaving.
unsafe impl Sync for Shared {}

// SAFETY: as above; the pointer in `job` is followed only while the caller keeps its target alive.
unsafe impl Send for Shared {}

#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

/// One thread's bed.
#[derive(Default)]
struct Sleeper {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Pool {
    /// A pool in which `threads` threads work, the caller's among them.
    ///
    /// # Panics
    /// When the operating system starts no threads.
    pub(crate) fn new(threads: usize) -> Self {
        let others = threads - 1;
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            job: UnsafeCell::new(Job { task: &|_| (), tasks: 0 }),
            next: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            panic: Mutex::new(None),
            sleepers: (0..others).map(|_| Sleeper::default()).collect(),
        });
        let start = |index: usize| {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name(format!("kernels-{}", index + 1))
                .spawn(move || shared.work(index))
                .expect("the operating system starts threads")
        };
        let threads: Vec<_> = (0..others).map(start).collect();
        for (sleeper, thread) in shared.sleepers.iter().zip(&threads) {
            sleeper.thread.get_or_init(|| thread.thread().clone());
        }
        Self { shared, threads }
    }

    /// Runs `task(0)` to `task(tasks - 1)`, each once, in no particular order.
    ///
    /// # Panics
    /// When a task does, with the same payload, after all threads have left.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        if shared.busy.swap(true, Ordering::Acquire) {
            (0..tasks).for_each(task);
            return;
        }
        // SAFETY: only the lifetime changes, and `Open` lets go of the pointer before this call
        // returns or unwinds.
        let task: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(task) };
        shared.open(Job { task, tasks });
        let open = Open(shared);
        shared.take_tasks(Job { task, tasks });
        drop(open);
        let panic = lock(&shared.panic).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.gate.fetch_or(ENDED, Ordering::SeqCst);
        self.shared.wake();
        for thread in self.threads.drain(..) {
            // A thread catches what its tasks panic with.
            let _ = thread.join();
        }
    }
}

/// An open job: closed, and left by all, when dropped.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let gate = &self.0.gate;
        let mut seen = gate.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        let mut spins = 0;
        while seen & INSIDE != 0 {
            pause(&mut spins);
            seen = gate.load(Ordering::Acquire);
        }
    }
}

impl Shared {
    /// Lets threads into `job`.
    fn open(&self, job: Job) {
        // SAFETY: the caller holds `busy`, so the last job is closed and everyone has left it.
        unsafe { *self.job.get() = job };
        self.next.store(0, Ordering::Relaxed);
        // SeqCst, as in `sleep`: either a sleeper sees the open gate, or it is seen asleep here.
        self.gate.fetch_add(JOB | OPEN, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        for sleeper in &self.sleepers {
            if sleeper.asleep.load(Ordering::SeqCst)
                && let Some(thread) = sleeper.thread.get()
            {
                thread.unpark();
            }
        }
    }

    /// A thread's life.
    fn work(&self, index: usize) {
        let mut done = 0;
        while let Some(number) = self.next_job(index, done) {
            done = number;
            // SAFETY: this thread is inside, so the caller does not write.
            let job = unsafe { *self.job.get() };
            self.take_tasks(job);
            self.gate.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for a job other than number `done`, enters it and gives its number; none at the end.
    fn next_job(&self, index: usize, done: u64) -> Option<u64> {
        let mut spins = 0;
        loop {
            let seen = self.gate.load(Ordering::Acquire);
            if seen & ENDED != 0 {
                return None;
            }
            let number = seen / JOB;
            if seen & OPEN == 0 || number == done {
                spins += 1;
                if spins < SPINS_AWAKE {
                    std::hint::spin_loop();
                } else {
                    self.sleep(&self.sleepers[index], done);
                    spins = 0;
                }
            } else if self
                .gate
                .compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Some(number);
            }
        }
    }

    /// Parks until a job other than number `done` is open, or the pool ends.
    fn sleep(&self, sleeper: &Sleeper, done: u64) {
        sleeper.asleep.store(true, Ordering::SeqCst);
        loop {
            let seen = self.gate.load(Ordering::SeqCst);
            if seen & ENDED != 0 || (seen & OPEN != 0 && seen / JOB != done) {
                break;
            }
            std::thread::park();
            // A job that came and went in between is a sign of more to come.
            if self.gate.load(Ordering::SeqCst) / JOB != done {
                break;
            }
        }
        sleeper.asleep.store(false, Ordering::SeqCst);
    }

    /// Takes tasks until none is left.
    fn take_tasks(&self, job: Job) {
        // SAFETY: whoever takes tasks is inside an open job, whose closure the caller keeps.
        let task = unsafe { &*job.task };
        let done = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= job.tasks {
                    break;
                }
                task(index);
            }
        }));
        if let Err(panic) = done {
            *lock(&self.panic) = Some(panic);
        }
    }
}

/// Waits a moment, and lets others run where the machine has too few cores for all.
fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS_HOLDING {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// A panic elsewhere leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads inside.
const INSIDE: u64 = 0xffff;
/// Threads may enter.
const OPEN: u64 = 1 << 16;
/// The pool is dropped.
const ENDED: u64 = 1 << 17;
/// One more job: its number is all bits from here on.
const JOB: u64 = 1 << 18;

/// Pauses before a thread without work parks: some hundred microseconds, longer than a step of a
/// sequence spends between two forward passes.
const SPINS_AWAKE: u32 = 20_000;

/// Pauses before a caller that waits for a thread lets others run.
const SPINS_HOLDING: u32 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_job_after_job() {
        let pool = Pool::new(4);
        for round in 0..2_000 {
            let counts: Vec<_> = (0..round % 37).map(|_| AtomicUsize::new(0)).collect();
            pool.run(counts.len(), &|i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "round {round}");
        }
    }

    #[test]
    fn threads_that_fell_asleep_wake() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let barrier = std::sync::Barrier::new(3);
            // Ends only when three threads are in it at once.
            pool.run(3, &|_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn a_call_from_a_task_or_from_another_thread_runs_alone() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        let add = |_| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        pool.run(4, &|_| pool.run(5, &add));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| pool.run(10, &add)));
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 20 + 4_000);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert!(i != 5, "five"))));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"five"));
        let count = AtomicUsize::new(0);
        pool.run(8, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 8);
    }
}
