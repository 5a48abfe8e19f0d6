//! A folder of wheels for `pip --find-links`.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A folder of wheels.
pub(super) struct FakeWheels {
    pub(super) folder: PathBuf,
}

impl FakeWheels {
    /// An empty folder under `root`.
    pub(super) fn new(root: &Path) -> Self {
        let folder = root.join("wheels");
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    /// Cuts `content` into `parts` wheels; odd ones are stored, even ones deflated.
    pub(super) fn put_parts(&self, content: &[u8], parts: usize) {
        let length = content.len().div_ceil(parts);
        for (index, part) in content.chunks(length).enumerate() {
            let number = index + 1;
            let member = format!("data/part{number:02}.bin");
            self.put(&format!("fake_model_part{number}"), &[(&member, part)]);
        }
    }

    /// Makes a wheel, version 1.0.
    pub(super) fn put(&self, package: &str, members: &[(&str, &[u8])]) {
        let mut wheel = ZipWriter::new(File::create(self.path(package)).unwrap());
        let is_even = package.ends_with(['2', '4', '6', '8', '0']);
        let method = if is_even { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let options = SimpleFileOptions::default().compression_method(method);
        let mut add = |name: &str, content: &[u8]| {
            wheel.start_file(name, options).unwrap();
            wheel.write_all(content).unwrap();
        };
        for (member, content) in members {
            add(&format!("{package}/{member}"), content);
        }
        let info = format!("{package}-1.0.dist-info");
        let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n");
        add(&format!("{info}/METADATA"), metadata.as_bytes());
        add(
            &format!("{info}/WHEEL"),
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        );
        add(&format!("{info}/RECORD"), b"");
        wheel.finish().unwrap();
    }

    /// Takes a wheel away.
    pub(super) fn remove(&self, package: &str) {
        fs::remove_file(self.path(package)).unwrap();
    }

    fn path(&self, package: &str) -> PathBuf {
        self.folder.join(format!("{package}-1.0-py3-none-any.whl"))
    }
}
