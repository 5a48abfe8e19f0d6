//! Logs that are read late, slowly, and to their end.

use super::*;
use futures::FutureExt as _;

fn failed(failures: u32) -> SideEvent {
    SideEvent::SourceFailed { message: String::new(), failures }
}

fn log(events: u32) -> EventLog {
    let log = EventLog::new(Arc::default());
    (0..events).for_each(|n| log.append(failed(n)));
    log
}

fn ready(reader: &mut EventReader) -> Option<Reading> {
    reader.next().now_or_never().expect("something is there to read")
}

#[test]
fn a_reader_goes_on_after_what_it_saw() {
    let log = log(3);
    for (seen, expected) in [(None, 0), (Some(0), 1), (Some(1), 2)] {
        let mut reader = log.read(seen);
        for n in expected..3 {
            let event = Arc::new(failed(n as u32));
            assert_eq!(ready(&mut reader), Some(Reading::Event(n, event)), "after {seen:?}");
        }
        assert!(reader.next().now_or_never().is_none(), "it waits for more");
    }
    assert_eq!(log.totals.source_failures.load(Ordering::Relaxed), 3);
}

#[test]
fn what_is_no_longer_held_is_a_gap() {
    let most = SIDE_EVENTS_MAX;
    let log = log(SIDE_EVENTS_MAX as u32 + 5);
    let mut late = log.read(Some(1));
    assert_eq!(ready(&mut late), Some(Reading::Gap { missed: 3, last: 4 }));
    assert_eq!(ready(&mut late), Some(Reading::Event(5, Arc::new(failed(5)))));
    // Who resumes after the gap's own number misses nothing more.
    assert!(matches!(ready(&mut log.read(Some(4))), Some(Reading::Event(5, _))));
    // Who never read has missed nothing.
    assert!(matches!(ready(&mut log.read(None)), Some(Reading::Event(5, _))));
    let mut ahead = log.read(Some(most + 4));
    assert!(ahead.next().now_or_never().is_none());
    // A reader that falls behind is told, too.
    for n in 0..2 * SIDE_EVENTS_MAX as u32 {
        log.append(failed(n));
    }
    assert_eq!(ready(&mut ahead), Some(Reading::Gap { missed: most, last: 2 * most + 4 }));
}

#[tokio::test]
async fn a_log_ends_by_deletion_and_when_the_server_stops() {
    let deleted = log(1);
    let mut reader = deleted.read(Some(0));
    let waiting = tokio::spawn(async move { (reader.next().await, reader.next().await) });
    deleted.append(SideEvent::Deleted);
    let expected = Reading::Event(1, Arc::new(SideEvent::Deleted));
    assert_eq!(waiting.await.unwrap(), (Some(expected), None));
    deleted.append(failed(1));
    assert_eq!(deleted.read(Some(1)).next().await, None, "nothing follows");

    let closed = log(1);
    let mut reader = closed.read(Some(0));
    let waiting = tokio::spawn(async move { reader.next().await });
    closed.close();
    assert_eq!(waiting.await.unwrap(), None);
}
