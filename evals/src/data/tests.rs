//! Good files and broken ones: the message names file and line.

use super::DataFile;
use flate2::{Compression, write::GzEncoder};
use std::{fs, io::Write as _};

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Pair {
    a: u32,
}

fn with(name: &str, bytes: &[u8]) -> (tempfile::TempDir, anyhow::Result<DataFile>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), bytes).unwrap();
    let file = DataFile::open(folder.path(), name.trim_end_matches(".gz"));
    (folder, file)
}

#[track_caller]
fn says<T: std::fmt::Debug>(result: anyhow::Result<T>, words: &[&str]) {
    let error = format!("{:#}", result.unwrap_err());
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn lines_are_read_plain_and_packed() {
    let text = b"{\"a\": 1}\n\n{\"a\": 2}\n";
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text).unwrap();
    for (name, bytes) in [("x.jsonl", text.to_vec()), ("x.jsonl.gz", packed.finish().unwrap())] {
        let (_folder, file) = with(name, &bytes);
        let pairs: Vec<Pair> = file.unwrap().json_lines().unwrap();
        assert_eq!(pairs, [Pair { a: 1 }, Pair { a: 2 }]);
    }
}

#[test]
fn a_broken_line_is_named() {
    let (_folder, file) = with("x.jsonl", b"{\"a\": 1}\n\n{\"b\": 2}\n");
    says(file.unwrap().json_lines::<Pair>(), &["x.jsonl line 3", "`a`"]);
    let (_folder, file) = with("x.json", b"[\n{\"a\": 1},\n{\"a\": -1}]");
    says(file.unwrap().json::<Vec<Pair>>(), &["x.json line 3", "-1"]);
    let (_folder, file) = with("x.json", b"[\n{\"a\"");
    says(file.unwrap().json::<Vec<Pair>>(), &["x.json line 2", "EOF"]);
    let (_folder, file) = with("x.json", b"ok\n\xff");
    says(file, &["x.json line 2", "UTF-8"]);
    let (_folder, file) = with("x.json.gz", b"no gzip");
    says(file, &["x.json.gz"]);
}

#[test]
fn a_missing_file_names_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    says(DataFile::open(folder.path(), "x.json"), &["reads x.json", "x.json.gz is there"]);
}

#[test]
fn csv_fields_may_be_quoted() {
    let text = "text,category\r\n\"a, \"\"b\"\"\r\nc\",one\r\nplain,two\r\n";
    let (_folder, file) = with("x.csv", text.as_bytes());
    let rows = file.unwrap().csv(["text", "category"]).unwrap();
    assert_eq!(rows, [["a, \"b\"\r\nc", "one"], ["plain", "two"]]);
    let (_folder, file) = with("x.csv", b"a,b\nx,");
    assert_eq!(file.unwrap().csv(["a", "b"]).unwrap(), [["x", ""]], "no line end at the end");
}

#[test]
fn broken_csv_is_named() {
    let read = |text: &str| {
        let (_folder, file) = with("x.csv", text.as_bytes());
        file.unwrap().csv(["a", "b"])
    };
    says(read("b,a\n1,2\n"), &["x.csv line 1", "\"b,a\"", "\"a,b\""]);
    says(read(""), &["x.csv line 1", "header"]);
    says(read("a,b\n1,2\n3\n"), &["x.csv line 3", "1 fields"]);
    says(read("a,b\n\"1\n2\",3\n4,5,6\n"), &["x.csv line 4", "3 fields"]);
    says(read("a,b\n1,\"2\n"), &["x.csv line 2", "never closed"]);
    says(read("a,b\n\"1\"x,2\n"), &["x.csv line 2", "closing quote"]);
}
