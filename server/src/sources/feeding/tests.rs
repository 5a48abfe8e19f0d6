//! How reading a source goes, and how long it waits then.

use super::*;

#[test]
fn failures_in_a_row_are_further_and_further_apart() {
    let seconds = Duration::from_secs;
    for (every, failures, expected) in
        [(5, 0, 5), (5, 1, 10), (5, 4, 80), (5, 100, 640), (300, 100, 3600), (86_400, 3, 86_400)]
    {
        assert_eq!(wait(seconds(every), failures), seconds(expected), "{every}, {failures}");
    }
}

#[test]
fn it_is_noted_how_reading_goes() {
    let name = String::new();
    let spec = SourceSpec::Command { name, every: Duration::from_secs(1) };
    let mut feeding = Feeding::new(spec);
    let failed = Err(SourceError::Output);
    assert_eq!(feeding.note(&failed, Duration::from_secs(1)), 1);
    assert_eq!(feeding.note(&failed, Duration::from_secs(2)), 2);
    assert_eq!(feeding.last_success, None);
    assert_eq!(feeding.note(&Ok(()), Duration::from_secs(3)), 0);
    assert_eq!(feeding.last_success, Some(Duration::from_secs(3)));
    assert!(feeding.last_error.is_some_and(|error| error.contains("wrote more than")));
}
