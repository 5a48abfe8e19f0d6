//! The tree is in order: rules about files that the compiler and clippy do not know.
//!
//! Each rule's message names what to do instead.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines a source file may have before it is asked whether it holds two nouns.
const FILE_LINES_MAX: usize = 500;
/// Lines ARCHITECTURE.md may have.
const ARCHITECTURE_LINES_MAX: usize = 250;
/// Lines of Rust without tests in the whole tree, comments and blank lines included; raised only by
/// a commit that says why.
const TREE_LINES_MAX: usize = 63_000;

/// Words that must not stand in a crate's sources, and why.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("kernels/src", &["serde", "tokio", "fragment::", "anyhow"], "kernels know arrays only"),
    ("models/src", &["engine::", "tokio::", "axum"], "models know no policy and no HTTP"),
    (
        "engine/src",
        &["serde", "tokio", "axum", "std::fs", "Instant::now"],
        "the engine does no I/O but in its tiers",
    ),
    ("server/src", &["KvPool", "PageId"], "the server does not know what a page is"),
];

/// The engine's one place that reads and writes files and objects, on threads of its own.
const TIERS: &str = "engine/src/tier";

/// File names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "misc", "helpers", "manager"];

#[test]
fn every_file_says_what_it_owns() {
    let silent = sources(|text, _| !text.starts_with("//!"));
    assert!(silent.is_empty(), "open these files with a `//!` that says what they own: {silent:?}");
}

#[test]
fn files_are_short() {
    let long = sources(|text, path| !is_test(path) && text.lines().count() > FILE_LINES_MAX);
    assert!(long.is_empty(), "over {FILE_LINES_MAX} lines; is there a second noun? {long:?}");
}

#[test]
fn names_say_something() {
    let empty = sources(|_, path| {
        path.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            EMPTY_NAMES.contains(&name.trim_end_matches(".rs"))
        })
    });
    assert!(empty.is_empty(), "name these after the noun they hold: {empty:?}");
}

#[test]
fn crates_do_not_know_what_they_must_not() {
    for (folder, words, why) in BANNED {
        let found = sources(|text, path| {
            path.starts_with(folder)
                && !path.starts_with(TIERS)
                && !is_test(path)
                && text
                    .lines()
                    .map(|line| line.split("//").next().unwrap_or_default())
                    .any(|code| words.iter().any(|word| code.contains(word)))
        });
        assert!(found.is_empty(), "{why}: {words:?} in {found:?}");
    }
}

#[test]
fn warnings_are_not_silenced() {
    let allowing = sources(|text, _| {
        let marker = ["#[", "allow("].concat();
        let inner = ["#![", "allow("].concat();
        text.contains(&marker) || text.contains(&inner)
    });
    assert!(allowing.is_empty(), "mend the cause, or expect with a reason: {allowing:?}");
}

#[test]
fn only_kernels_and_the_weights_mapping_are_unsafe() {
    let found = sources(|text, path| {
        !path.starts_with("kernels")
            && path != Path::new("models/src/weights.rs")
            && text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                let marker = ["unsa", "fe {"].concat();
                code.contains(&marker)
            })
    });
    assert!(found.is_empty(), "unsafe belongs in kernels: {found:?}");
}

#[test]
fn every_op_has_its_reference_and_its_cases() {
    let ops = fs::read_dir(root().join("kernels/src")).expect("kernels/src").flatten();
    for op in ops.map(|entry| entry.path()).filter(|path| path.join("cpu.rs").is_file()) {
        for file in ["mod.rs", "reference.rs", "cases.rs"] {
            assert!(op.join(file).is_file(), "{} lacks {file}", op.display());
        }
    }
}

#[test]
fn documents_stay_readable() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let lines = architecture.lines().count();
    assert!(lines <= ARCHITECTURE_LINES_MAX, "{lines} lines; at most {ARCHITECTURE_LINES_MAX}");
}

#[test]
fn the_tree_keeps_its_budget() {
    let mut total = 0;
    sources(|text, path| {
        total += if is_test(path) { 0 } else { text.lines().count() };
        false
    });
    assert!(total <= TREE_LINES_MAX, "{total} lines of Rust; the budget is {TREE_LINES_MAX}");
}

/// Paths, relative to the repository, of the Rust files that `is_found` picks.
fn sources(mut is_found: impl FnMut(&str, &Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the tree").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let short = path.strip_prefix(root()).expect("below the root").to_path_buf();
                if is_found(&text, &short) {
                    found.push(short);
                }
            }
        }
    }
    found.sort();
    found
}

/// Tests, in sibling files or test folders.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name == "tests" || name == "tests.rs" || name == "fuzz" || name.ends_with("_tests.rs")
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}
