//! Commands that write, fail, hang and leave others behind.
#![cfg(unix)]

use super::*;
use std::{fs, path::Path, time::Duration};

fn repeated(line: &str) -> Repeated {
    Repeated::new(line.parse().unwrap())
}

async fn fails(repeated: &mut Repeated) -> String {
    repeated.poll().await.expect_err("a failure").to_string()
}

#[test]
fn lines_are_split_as_in_a_shell_and_are_none() {
    let line: CommandLine = "prog 'two words' \"$HOME\" a\\ b ; rm".parse().unwrap();
    assert_eq!(line.program, "prog");
    assert_eq!(line.arguments, ["two words", "$HOME", "a b", ";", "rm"]);
    for (text, error) in [
        ("", "no program"),
        ("'' x", "no program"),
        ("x 'y", "a quote or a backslash is not closed"),
    ] {
        assert_eq!(text.parse::<CommandLine>().unwrap_err(), error);
    }
}

#[tokio::test]
async fn what_it_writes_is_an_entry_when_it_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said");
    fs::write(&file, "one\n").unwrap();
    let mut cat = repeated(&format!("cat {}", file.display()));
    assert_eq!(cat.poll().await.unwrap(), ["one\n"]);
    assert_eq!(cat.poll().await.unwrap(), [""; 0]);
    fs::write(&file, "two\nlines\n").unwrap();
    assert_eq!(cat.poll().await.unwrap(), ["two\nlines\n"]);
    fs::write(&file, "").unwrap();
    assert_eq!(cat.poll().await.unwrap(), [""; 0]);
    fs::write(&file, "x".repeat(2 * SIDE_ENTRY_BYTES_MAX)).unwrap();
    let cut = cat.poll().await.unwrap();
    assert!(cut[0].ends_with("… (cut off: 131072 bytes in all)\n") && cut[0].len() <= 65_536);
}

#[tokio::test]
async fn failures_say_what_happened() {
    let error = fails(&mut repeated("sh -c 'echo no such thing >&2; exit 3'")).await;
    assert_eq!(error, "it ended with exit status: 3: no such thing");
    let error = fails(&mut repeated("/nonexistent/program")).await;
    assert!(error.starts_with("/nonexistent/program cannot be run: "), "{error}");
    let error = fails(&mut repeated("cat /dev/zero")).await;
    assert_eq!(error, "it wrote more than 1048576 bytes");
}

/// A command that starts another, says both ids in `file`, and hangs.
fn hanging(file: &Path) -> Repeated {
    let script = format!("sleep 600 & echo $$ $! > {}; wait", file.display());
    let mut hanging = repeated(&format!("sh -c '{script}'"));
    hanging.limit = Duration::from_secs(2);
    hanging
}

/// Whether both are gone, or are going to be within a second or two.
async fn are_gone(file: &Path) -> bool {
    let said = fs::read_to_string(file).unwrap();
    let ids: Vec<i32> = said.split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{said:?}");
    for _ in 0..40 {
        let lives = |id: &i32| {
            // A zombie is dead: who started it has only not looked yet.
            fs::read_to_string(format!("/proc/{id}/stat"))
                .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z")))
        };
        if !ids.iter().any(lives) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_command_that_takes_too_long_is_ended_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ids");
    assert_eq!(fails(&mut hanging(&file)).await, "it took longer than 2 seconds");
    assert!(are_gone(&file).await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_command_whose_reader_goes_away_is_ended_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ids");
    let mut hanging = hanging(&file);
    hanging.limit = Duration::from_mins(10);
    let task = tokio::spawn(async move { hanging.poll().await });
    while !fs::read_to_string(&file).is_ok_and(|said| said.ends_with('\n')) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    task.abort();
    assert!(are_gone(&file).await);
}
