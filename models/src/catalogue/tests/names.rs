//! What a person calls a model.

use super::{super::name, *};
use name::ModelName;

fn error(text: &str) -> String {
    name::parse(text).expect_err(text).to_string()
}

#[test]
fn every_name_of_the_table_is_found() {
    for entry in super::super::table::MODELS {
        let found = name::parse(&entry.name.to_uppercase()).unwrap();
        assert!(matches!(found, ModelName::Entry(found) if found.name == entry.name));
        assert!(entry.is_folder || entry.files.len() == 1, "{}", entry.name);
        for file in entry.files.iter() {
            assert!(file.hub.is_some() || file.wheel.is_some(), "{}", entry.name);
            assert!(file.checksums().iter().all(|checksum| stamp::is_sha256(checksum)));
        }
    }
    assert!(matches!(name::parse(super::super::DEFAULT), Ok(ModelName::Entry(_))));
}

#[test]
fn an_unknown_name_lists_what_is_known_and_what_is_near() {
    let text = error("smolm2-135");
    assert!(text.contains("Did you mean smollm2-135m?"), "{text}");
    assert!(text.contains("qwen3-8b"), "{text}");
    let text = error("qwen3");
    assert!(
        text.contains("qwen3-4b or qwen3-8b") || text.contains("qwen3-8b or qwen3-4b"),
        "{text}"
    );
    let text = error("zzz");
    assert!(!text.contains("Did you mean"), "{text}");
    assert!(error("").contains("Known names"));
}

#[test]
fn paths() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("m.gguf");
    fs::write(&file, b"GGUF").unwrap();
    for path in [file, temp.path().to_owned()] {
        let found = name::parse(path.to_str().unwrap()).unwrap();
        assert!(matches!(found, ModelName::Path(found) if found == path));
    }
    assert_eq!(error("nowhere/m.gguf"), "no file or folder is at nowhere/m.gguf");
    assert_eq!(error("nowhere.gguf"), "no file or folder is at nowhere.gguf");
}

#[test]
fn hub_references() {
    let Ok(ModelName::Entry(entry)) = name::parse("hf:some.one/a-repo_1/sub/m.gguf") else {
        panic!("a good reference is refused");
    };
    let hub = entry.files[0].hub.clone().unwrap();
    assert_eq!((&*hub.repo, &*hub.path), ("some.one/a-repo_1", "sub/m.gguf"));
    assert_eq!(
        entry.folder().join(&*entry.files[0].name),
        PathBuf::from("hf/some.one/a-repo_1/sub/m.gguf")
    );
    for bad in [
        "hf:",
        "hf:m.gguf",
        "hf:owner/repo",
        "hf:owner/repo/",
        "hf:owner//m.gguf",
        "hf:/repo/m.gguf",
        "hf:owner/repo//etc/passwd",
        "hf:owner/repo/../../x",
        "hf:../repo/m.gguf",
        "hf:owner/../m.gguf",
        "hf:owner/repo/.hidden",
        "hf:owner/repo/a\\b",
        "hf:owner/re?po/m",
    ] {
        let text = error(bad);
        assert!(text.contains("hf:OWNER/REPO/FILE"), "{bad}: {text}");
    }
}
