//! What is a place of a store, and what is said of what is none.

use super::StoreUrl;
use std::fs;

fn parsed(text: &str) -> Result<StoreUrl, String> {
    text.parse::<StoreUrl>().map_err(|error| error.to_string())
}

#[test]
fn urls_that_work() {
    let s3 = |bucket: &str, prefix: &str| {
        Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    };
    assert_eq!(parsed("s3://kv"), s3("kv", ""));
    assert_eq!(parsed("s3://kv/"), s3("kv", ""));
    assert_eq!(parsed("s3://my.kv-1/team/cento/"), s3("my.kv-1", "team/cento"));
    assert_eq!(parsed("file:///mnt/kv%20store"), Ok(StoreUrl::Folder("/mnt/kv store".into())));
    for text in ["s3://kv", "s3://kv/team/cento", "file:///mnt/kv"] {
        assert_eq!(parsed(text).unwrap().to_string(), text);
    }
}

#[test]
fn urls_that_do_not_work_are_told_what_does() {
    for (text, expected) in [
        ("kv", "not a URL (relative URL without a base)"),
        ("/mnt/kv", "not a URL"),
        ("gs://kv/team", "gs:// is not supported"),
        ("https://example.com/kv", "https:// is not supported"),
        ("s3://", "a bucket is missing"),
        ("s3:///team", "a bucket is missing"),
        ("s3://key:secret@kv", "it must not have a user or a password"),
        ("s3://kv:9000/team", "it must not have a port"),
        ("s3://kv/team?region=x", "it must not have a query"),
        ("s3://kv/team#x", "it must not have a #"),
        ("s3://kv/a//b", "its path cannot be used"),
        ("file://host/kv", "not of this machine"),
    ] {
        let error = parsed(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains("expected s3://BUCKET/PREFIX or file:///FOLDER"), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_folder_is_made_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    StoreUrl::Folder(folder.clone()).open().unwrap();
    assert!(folder.is_dir());
    fs::write(dir.path().join("file"), "").unwrap();
    let error = StoreUrl::Folder(dir.path().join("file/kv")).open().err().unwrap().to_string();
    assert!(error.contains("cannot make the folder") && error.contains("file/kv"), "{error}");
}
