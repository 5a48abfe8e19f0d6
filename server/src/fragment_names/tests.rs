//! Names over restarts, and files that are no names.

use super::{FragmentName, FragmentNames, file::NAME};
use crate::limits::{FRAGMENT_NAMES_MAX, NAME_BYTES_MAX};
use engine::FragmentId;
use std::{fs, path::Path, sync::Arc};

fn id(n: u32) -> FragmentId {
    FragmentId((u128::from(n) + 1).to_le_bytes())
}

fn tenant() -> Arc<str> {
    "tenant \"ä\"".into()
}

fn named(name: &str, created: u64) -> FragmentName {
    FragmentName { name: Some(name.into()), created }
}

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join(NAME)).unwrap()
}

#[test]
fn names_are_back_with_their_times() {
    let folder = tempfile::tempdir().unwrap();
    let names = FragmentNames::kept_in(folder.path());
    names.put(&tenant(), id(1), Some("one".into()), 5);
    names.put(&tenant(), id(2), None, 6);
    names.put(&"other".into(), id(1), Some("theirs".into()), 7);
    names.put(&tenant(), id(3), Some("gone".into()), 8);
    names.remove(&tenant(), id(3));
    names.save();
    let again = FragmentNames::kept_in(folder.path());
    assert_eq!(again.get(&tenant(), id(1)), Some(named("one", 5)));
    assert_eq!(again.get(&tenant(), id(2)), Some(FragmentName { name: None, created: 6 }));
    assert_eq!(again.get(&"other".into(), id(1)), Some(named("theirs", 7)));
    assert_eq!(again.get(&tenant(), id(3)), None);
    again.put(&tenant(), id(1), Some("new".into()), 100);
    again.put(&tenant(), id(2), Some("two".into()), 100);
    again.save();
    let third = FragmentNames::kept_in(folder.path());
    assert_eq!(third.get(&tenant(), id(1)), Some(named("new", 5)), "first put then");
    assert_eq!(third.get(&tenant(), id(2)), Some(named("two", 6)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
}

#[test]
fn the_file_is_written_when_something_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let names = FragmentNames::kept_in(folder.path());
    names.save();
    assert!(!path.exists(), "there is nothing to keep");
    let is_written = |change: &dyn Fn()| {
        change();
        names.save();
        fs::remove_file(&path).is_ok()
    };
    let put = |name: Option<&str>| names.put(&tenant(), id(1), name.map(str::to_owned), 1);
    assert!(is_written(&|| put(None)));
    assert!(!is_written(&|| put(None)));
    assert!(is_written(&|| put(Some("a"))));
    assert!(!is_written(&|| put(Some("a"))));
    assert!(is_written(&|| put(Some("b"))));
    assert!(!is_written(&|| names.remove(&tenant(), id(2))));
    assert!(is_written(&|| names.remove(&tenant(), id(1))));
    FragmentNames::new().save();
}

#[test]
fn what_could_not_be_written_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("later");
    let names = FragmentNames::kept_in(&folder);
    names.put(&tenant(), id(1), Some("one".into()), 5);
    names.save();
    fs::create_dir(&folder).unwrap();
    names.save();
    assert_eq!(FragmentNames::kept_in(&folder).get(&tenant(), id(1)), Some(named("one", 5)));
}

#[test]
fn the_latest_are_kept_where_there_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let names = FragmentNames::kept_in(folder.path());
    let most = FRAGMENT_NAMES_MAX as u32;
    (0..=most).for_each(|n| names.put(&tenant(), id(n), None, n.into()));
    names.save();
    let again = FragmentNames::kept_in(folder.path());
    let created = |n| again.get(&tenant(), id(n)).map(|named| named.created);
    assert_eq!((created(0), created(1), created(most)), (None, Some(1), Some(most.into())));
    again.put(&tenant(), id(0), None, 9);
    assert_eq!(again.get(&tenant(), id(1)), None, "the oldest goes first, as before");
    assert!(again.get(&tenant(), id(2)).is_some());
}

#[test]
fn a_file_that_is_none_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let names = FragmentNames::kept_in(folder.path());
    names.put(&tenant(), id(1), Some("one".into()), 5);
    names.save();
    let sound = text(folder.path());
    let replaced = |from: &str, to: &str| {
        assert!(sound.contains(from), "{from} in {sound}");
        sound.replace(from, to)
    };
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let many = format!("[{}]", vec!["0"; FRAGMENT_NAMES_MAX + 1].join(","));
    for bad in [
        String::new(),
        "{".into(),
        "[]".into(),
        sound[..sound.len() - 1].into(),
        replaced("names 1", "names 2"),
        replaced("\"created\":5", "\"created\":-5"),
        replaced("\"created\":5", "\"created\":5,\"more\":1"),
        replaced("frg_", "ctx_"),
        replaced("\"one\"", &format!("\"{long}\"")),
        replaced("\"one\"", &many),
    ] {
        let path = folder.path().join(NAME);
        fs::write(&path, &bad).unwrap();
        let names = FragmentNames::kept_in(folder.path());
        assert_eq!(names.get(&tenant(), id(1)), None, "{bad:.80}");
        assert!(!path.exists(), "it is read no more: {bad:.80}");
        let aside = folder.path().join(format!("{NAME}.bad"));
        assert_eq!(fs::read_to_string(aside).unwrap(), bad);
        names.put(&tenant(), id(1), Some("one".into()), 5);
        names.save();
        assert_eq!(text(folder.path()), sound, "it goes on without");
    }
}
