//! A commit is named where it is that of this code, and nowhere else.

use super::{OWN, commit};
use std::{fs, path::Path, process::Command};

fn git(folder: &Path, words: &[&str]) {
    let settings = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    let out = Command::new("git").current_dir(folder).args(settings).args(words).output();
    let out = out.expect("git, which the checkout came by");
    assert!(out.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A repository with this file below a folder of its own, committed or not.
fn repository(at: &Path, above: &str, is_tracked: bool) {
    git(at, &["init", "-q"]);
    let own = at.join(above).join(OWN);
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(own, "// ours\n").unwrap();
    fs::write(at.join("other.rs"), "// theirs\n").unwrap();
    git(at, &["add", if is_tracked { "." } else { "other.rs" }]);
    git(at, &["commit", "-q", "-m", "first"]);
}

#[test]
fn a_commit_is_that_of_the_checkout() {
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path(), "", true);
    let evals = folder.path().join("evals");
    let clean = commit(&evals).expect("a checkout");
    assert!(clean.len() == 12 && clean.bytes().all(|b| b.is_ascii_hexdigit()), "{clean}");
    fs::write(folder.path().join("results.json"), "{}").unwrap();
    assert_eq!(commit(&evals).as_ref(), Some(&clean), "results are no code");
    fs::write(folder.path().join(OWN), "// changed\n").unwrap();
    assert_eq!(commit(&evals), Some(format!("{clean}+changed")));
}

#[test]
fn outside_a_checkout_the_commit_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(commit(&folder.path().join("evals")), None, "the folder is gone");
    fs::create_dir_all(folder.path().join("evals/src")).unwrap();
    assert_eq!(commit(&folder.path().join("evals")), None, "no repository");
    for (above, is_tracked) in [("", false), ("vendor/cento", true), ("vendor/cento", false)] {
        let theirs = tempfile::tempdir().unwrap();
        repository(theirs.path(), above, is_tracked);
        let evals = theirs.path().join(above).join("evals");
        assert_eq!(commit(&evals), None, "in another repository, {above:?}, {is_tracked}");
    }
}
