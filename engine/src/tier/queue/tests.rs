//! What is done next, what waits, and what is answered from memory.

use super::{Job, Queue, Takes};
use crate::{
    FragmentId,
    tier::{Entry, Figures, Kv, Notice},
};
use std::{
    iter,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

fn id(n: u8) -> FragmentId {
    FragmentId([n; 16])
}

fn entry(n: u8) -> Entry {
    let (root, tokens) = ([7].into(), [u32::from(n)].into());
    Entry { id: id(n), tenant: "tenant".into(), root, tokens, sealed: None, pinned: false }
}

fn kv(n: u8) -> Kv {
    Arc::new(vec![n; 3])
}

fn queue() -> Queue {
    Queue::new(Figures::default())
}

/// A job that is taken now, as text; `-`: none yet, `.`: none any more.
fn taken(queue: &Queue, takes: Takes) -> String {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(queue.next_of(takes)).poll(&mut context) {
        Poll::Pending => "-".to_owned(),
        Poll::Ready(None) => ".".to_owned(),
        Poll::Ready(Some(job)) => {
            let sign = match &job {
                Job::Fetch(_) => "?",
                Job::Expect(_) => "~",
                Job::Remove(_) => "-",
                Job::Pin(..) => "!",
                Job::Write(entry, kv) => {
                    assert_eq!(**kv, [entry.id.0[0]; 3]);
                    if entry.pinned { "*" } else { "+" }
                }
            };
            format!("{sign}{}", job.id().0[0])
        }
    }
}

fn done(queue: &Queue, n: u8) {
    queue.done(id(n), iter::empty(), Figures::default());
}

#[test]
fn what_is_not_written_yet_is_answered_from_memory() {
    let queue = queue();
    assert!(queue.keep(entry(1), kv(1)));
    let arrived = Notice::Arrived { id: id(1), kv: kv(1), took: Duration::ZERO };
    queue.fetch(entry(1));
    assert_eq!(queue.poll().as_ref(), Some(&arrived), "it waits");
    assert_eq!(taken(&queue, Takes::All), "+1");
    queue.fetch(entry(1));
    assert_eq!(queue.poll(), Some(arrived), "it is being written");
    queue.fetch(Entry { tokens: [9].into(), ..entry(1) });
    assert_eq!(queue.poll(), None, "nobody gets what is another's");
    done(&queue, 1);
    assert_eq!(taken(&queue, Takes::All), "?1");
}

#[test]
fn what_was_removed_is_not_answered_from_memory() {
    let queue = queue();
    assert!(queue.keep(entry(1), kv(1)) && queue.keep(entry(2), kv(2)));
    assert_eq!(taken(&queue, Takes::All), "+1");
    for n in [1, 2] {
        queue.remove(id(n));
        queue.fetch(entry(n));
        assert_eq!(queue.poll(), None, "record {n}");
    }
    assert_eq!(taken(&queue, Takes::All), "-2", "the first is being written still");
    done(&queue, 2);
    assert_eq!(taken(&queue, Takes::All), "?2");
    done(&queue, 1);
    assert_eq!(taken(&queue, Takes::All), "-1");
    assert_eq!(taken(&queue, Takes::All), "-", "one job for each record");
    done(&queue, 1);
    assert_eq!(taken(&queue, Takes::All), "?1");
    assert_eq!(queue.figures().bytes_waiting, 0);
}

#[test]
fn writes_go_last_and_only_to_those_who_take_them() {
    let queue = queue();
    assert!(queue.keep(entry(1), kv(1)) && queue.keep(entry(2), kv(2)));
    queue.fetch(entry(3));
    queue.pin(id(1), true);
    assert_eq!(taken(&queue, Takes::AllButWrites), "?3");
    assert_eq!(taken(&queue, Takes::All), "!1");
    assert_eq!(taken(&queue, Takes::AllButWrites), "-");
    assert_eq!(taken(&queue, Takes::All), "+2", "what is asked about the first is not done yet");
    done(&queue, 1);
    queue.close();
    assert_eq!(taken(&queue, Takes::AllButWrites), ".");
    assert_eq!(taken(&queue, Takes::All), "*1", "closing writes what waits");
    assert_eq!(taken(&queue, Takes::All), ".");
}

#[test]
fn what_may_wait_is_bounded() {
    let queue = queue();
    let offer = |n, mebibytes: usize| queue.keep(entry(n), Arc::new(vec![0; mebibytes << 20]));
    assert!(offer(1, 300), "one record may always wait");
    assert!(!offer(2, 1));
    queue.remove(id(1));
    assert!(offer(2, 100) && offer(3, 156));
    assert!(!offer(4, 1));
    assert_eq!(queue.figures().bytes_waiting, 256 << 20);
    assert!(matches!(queue.next(), Some(Job::Remove(_))));
    assert!(matches!(queue.next(), Some(Job::Write(..))));
    assert!(!offer(4, 1), "it is being written");
    done(&queue, 2);
    assert!(offer(4, 100));
}

#[test]
fn an_end_answers_everything() {
    let queue = queue();
    queue.fetch(entry(1));
    assert!(queue.keep(entry(2), kv(2)) && queue.keep(entry(3), kv(3)));
    assert_eq!(taken(&queue, Takes::All), "?1");
    assert_eq!(taken(&queue, Takes::All), "+2");
    queue.fetch(entry(4));
    queue.remove(id(5));
    queue.end();
    queue.fetch(entry(6));
    assert!(queue.keep(entry(7), kv(7)), "it is not to be offered again");
    let mut notices: Vec<Notice> = iter::from_fn(|| queue.poll()).collect();
    notices.sort_by_key(|notice| match notice {
        Notice::Lost(id) | Notice::Gone(id) | Notice::Kept(id) | Notice::Arrived { id, .. } => *id,
        Notice::Room => panic!("a queue says nothing of room"),
    });
    let [lost, gone] = [Notice::Lost as fn(_) -> _, Notice::Gone];
    let expected = [(1, lost), (2, gone), (3, gone), (4, lost), (6, lost), (7, gone)];
    assert_eq!(notices, expected.map(|(n, notice)| notice(id(n))));
    assert_eq!(queue.figures().bytes_waiting, 0);
}
