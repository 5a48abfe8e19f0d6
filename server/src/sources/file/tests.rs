//! Files that grow, shrink, move and are not there.

use super::*;
use std::{fs, io::Write as _};
use tempfile::TempDir;

struct Case {
    folder: TempDir,
    tail: Tail,
}

impl Case {
    /// A tail of `log`, which may be there already.
    fn new(before: Option<&str>, from: Begin) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = before {
            fs::write(folder.path().join("log"), text).unwrap();
        }
        let folders = Folders::new([folder.path().to_owned()]).unwrap();
        let tail = Tail::new(folder.path().join("log"), from, Arc::new(folders));
        Self { folder, tail }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn append(&self, bytes: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    #[track_caller]
    fn comes(&mut self, lines: &[&str]) {
        assert_eq!(self.tail.poll().unwrap(), lines);
    }
}

#[test]
fn each_whole_line_that_comes_is_an_entry() {
    let mut case = Case::new(Some("old\n"), Begin::End);
    case.comes(&[]);
    case.append("one\ntwo\n\n  \nthr");
    case.comes(&["one\n", "two\n"]);
    case.comes(&[]);
    case.append("ee\r\nfo");
    case.comes(&["three\n"]);
    case.append("ur");
    case.comes(&[]);
    case.append("\n");
    case.comes(&["four\n"]);
    case.append(b"not \xff UTF-8\n");
    case.comes(&["not \u{fffd} UTF-8\n"]);
}

#[test]
fn it_begins_where_it_is_told() {
    Case::new(Some("old\nhalf"), Begin::Start).comes(&["old\n"]);
    // Half a line is no line.
    let mut case = Case::new(Some("old\nhalf"), Begin::End);
    case.comes(&[]);
    case.append(" of it\nwhole\n");
    case.comes(&["whole\n"]);
}

#[test]
fn a_file_that_is_not_there_is_waited_for() {
    for from in [Begin::Start, Begin::End] {
        let mut case = Case::new(None, from);
        case.comes(&[]);
        case.append("first\n");
        // All of it is new, whatever was asked.
        case.comes(&["first\n"]);
        fs::remove_file(case.path()).unwrap();
        case.comes(&[]);
        case.append("again\n");
        case.comes(&["again\n"]);
    }
}

#[test]
fn a_file_that_is_cut_short_is_read_from_its_start() {
    let mut case = Case::new(Some("one\ntwo\nhalf"), Begin::Start);
    case.comes(&["one\n", "two\n"]);
    fs::write(case.path(), "new\n").unwrap();
    case.comes(&["new\n"]);
    fs::write(case.path(), "").unwrap();
    case.comes(&[]);
    case.append("x\n");
    case.comes(&["x\n"]);
}

#[test]
fn a_file_that_is_replaced_is_read_to_its_end_first() {
    let mut case = Case::new(Some("one\n"), Begin::Start);
    case.comes(&["one\n"]);
    case.append("last\nunended");
    fs::rename(case.path(), case.folder.path().join("log.1")).unwrap();
    case.append("first of the next\n");
    case.comes(&["last\n"]);
    case.comes(&["unended\n", "first of the next\n"]);
    case.append("second\n");
    case.comes(&["second\n"]);
}

#[test]
fn a_long_line_is_cut_off_and_says_so() {
    let mut case = Case::new(None, Begin::Start);
    let long = 3 * SOURCE_FILE_BYTES_MAX as usize;
    case.append("x".repeat(long) + "\nshort\n");
    let mut lines = Vec::new();
    for _ in 0..4 {
        lines.extend(case.tail.poll().unwrap());
        assert!(case.tail.line.bytes.len() <= SIDE_ENTRY_BYTES_MAX);
    }
    let [cut, short] = lines.as_slice() else { panic!("{} lines", lines.len()) };
    assert_eq!(short, "short\n");
    assert!(cut.len() <= SIDE_ENTRY_BYTES_MAX, "{}", cut.len());
    assert!(cut.ends_with(&format!("… (cut off: {} bytes in all)\n", long + 1)));
}

#[test]
fn only_files_below_allowed_folders_are_opened() {
    let case = Case::new(None, Begin::Start);
    let other = tempfile::tempdir().unwrap();
    let secret = other.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let inside = case.folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let folders = Folders::new([case.folder.path().to_owned()]).unwrap();

    for path in ["inside/log", "inside/../log", "not/there/yet"] {
        assert!(folders.check(&case.folder.path().join(path)).is_ok(), "{path}");
    }
    let outside = case.folder.path().join("../elsewhere");
    for path in [Path::new("/etc/passwd"), &secret, &outside, Path::new("relative"), Path::new("/")]
    {
        let error = folders.check(path).unwrap_err().to_string();
        assert!(error.contains("--allow-file") || error.contains("absolute"), "{path:?}: {error}");
    }
    let none = Folders::default().check(&case.path()).unwrap_err().to_string();
    assert!(none.contains("`cento serve --allow-file"), "{none}");
    assert!(folders.open(&inside).is_err(), "a folder is no file");
}

#[cfg(unix)]
#[test]
fn links_that_lead_outside_are_not_followed() {
    use std::os::unix::fs::symlink;
    let mut case = Case::new(None, Begin::Start);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("log"), "secret\n").unwrap();
    symlink(other.path(), case.folder.path().join("way")).unwrap();
    let folders = Arc::clone(&case.tail.folders);
    assert!(folders.check(&case.folder.path().join("way/log")).is_err());
    assert!(folders.check(&case.folder.path().join("way/not/there")).is_err());
    // Also when it comes to be one later.
    case.comes(&[]);
    symlink(other.path().join("log"), case.path()).unwrap();
    let error = case.tail.poll().unwrap_err().to_string();
    assert!(error.contains("--allow-file"), "{error}");
    // A link to what is allowed is as good as that.
    fs::remove_file(case.path()).unwrap();
    fs::write(case.folder.path().join("real"), "fine\n").unwrap();
    symlink(case.folder.path().join("real"), case.path()).unwrap();
    case.comes(&["fine\n"]);
}
