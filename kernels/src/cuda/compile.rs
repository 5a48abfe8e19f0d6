//! What kernels are compiled to, kept on disk: compiled once for a source, an architecture and a
//! version of NVRTC.
//!
//! A file is written aside and renamed, and begins with a checksum of the rest. One that cannot be
//! written is compiled again the next time; nothing else depends on it.

use super::nvrtc::{Nvrtc, Target, options};
use super::sources::Source;
use super::table::{HEADERS, SOURCES};
use super::{Gpu, GpuError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

/// Compiles, or finds what was compiled before in `folder`.
pub(super) fn image(
    nvrtc: &Nvrtc,
    source: &Source,
    target: Target,
    folder: Option<&Path>,
) -> Result<Vec<u8>, GpuError> {
    let Some(folder) = folder else { return nvrtc.compile(source, target) };
    let path = folder.join(file_name(nvrtc.version(), source, target));
    if let Some(image) = read(&path) {
        return Ok(image);
    }
    let image = nvrtc.compile(source, target)?;
    // Who cannot write, compiles every time.
    let _ = write(&path, &image);
    Ok(image)
}

/// Names all that an image depends on.
fn file_name(version: (i32, i32), source: &Source, target: Target) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part(&format!("{}.{}", version.0, version.1));
    for option in options(source, target) {
        part(&option);
    }
    for (name, text) in HEADERS {
        part(name);
        part(text);
    }
    part(source.name);
    part(source.text);
    let digest = hash.finalize();
    let first = digest.first_chunk().expect("a digest of 32 bytes");
    let hash = u128::from_be_bytes(*first);
    let stem = source.name.rsplit('/').next().unwrap_or(source.name);
    let stem: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{stem}-{hash:032x}.image")
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let (checksum, image) = bytes.split_at_checked(CHECKSUM)?;
    (Sha256::digest(image)[..] == *checksum).then(|| image.to_vec())
}

fn write(path: &Path, image: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let aside: PathBuf = path.with_extension(format!("aside-{}", std::process::id()));
    let bytes = [&Sha256::digest(image)[..], image].concat();
    std::fs::write(&aside, bytes)?;
    std::fs::rename(&aside, path).inspect_err(|_| drop(std::fs::remove_file(&aside)))
}

/// Bytes of a checksum.
const CHECKSUM: usize = 32;

impl Gpu {
    /// Compiles every kernel, or loads what was compiled before: afterwards no launch waits for
    /// the compiler. It takes all threads of the machine, as one takes minutes. An imagined device has
    /// nothing to compile.
    ///
    /// # Errors
    /// When a source does not compile, or the device does not take what it was compiled to.
    ///
    /// # Panics
    /// When a thread cannot be started.
    pub fn compile(&self) -> Result<(), GpuError> {
        if self.is_imagined() {
            return Ok(());
        }
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let some = || {
            loop {
                let source = next.fetch_add(1, Ordering::Relaxed);
                if source >= SOURCES.len() {
                    return Ok(());
                }
                self.module(source)?;
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
            let ended = |thread: ScopedJoinHandle<'_, _>| thread.join().expect("no thread panics");
            threads.into_iter().try_for_each(ended)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Source = Source { name: "op/op.cu", text: "text", options: &[], kernels: &[] };

    #[test]
    fn an_image_is_of_its_source_architecture_and_compiler() {
        let name = file_name((12, 9), &SOURCE, Target::Cubin(90));
        assert!(name.starts_with("op_cu-"), "{name}");
        let others = [
            file_name((12, 8), &SOURCE, Target::Cubin(90)),
            file_name((12, 9), &SOURCE, Target::Cubin(89)),
            file_name((12, 9), &SOURCE, Target::Ptx(90)),
            file_name((12, 9), &Source { text: "texts", ..SOURCE }, Target::Cubin(90)),
            file_name((12, 9), &Source { options: &["-DX"], ..SOURCE }, Target::Cubin(90)),
        ];
        assert!(others.iter().all(|other| *other != name), "{name} {others:?}");
        assert_eq!(name, file_name((12, 9), &SOURCE, Target::Cubin(90)));
    }

    #[test]
    fn a_damaged_image_is_none() {
        let folder = std::env::temp_dir().join(format!("cento-images-{}", std::process::id()));
        let path = folder.join("one.image");
        write(&path, b"code").expect("a file");
        assert_eq!(read(&path).as_deref(), Some(&b"code"[..]));
        let mut bytes = std::fs::read(&path).expect("the file");
        bytes.pop();
        std::fs::write(&path, &bytes).expect("the file");
        assert_eq!(read(&path), None);
        std::fs::write(&path, b"short").expect("the file");
        assert_eq!(read(&path), None);
        let left = std::fs::read_dir(&folder).expect("the folder").count();
        std::fs::remove_dir_all(&folder).expect("the folder");
        assert_eq!(left, 1, "nothing stays aside");
    }
}
