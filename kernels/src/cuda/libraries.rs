//! Finding and opening the libraries of CUDA at run time, with no panic where there are none.
//!
//! Order: the folders of `CENTO_CUDA_LIBS`, where the loader looks by itself, where toolkits are
//! installed, and the `nvidia/*/lib` folders beside the packages of the `python3` on the path
//! (what `pip install torch` brings). A library is loaded once and stays.

use super::GpuError;
use cudarc::driver::{result, sys};
use libloading::Library;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A library of the toolkit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Toolkit {
    /// The compiler of kernels.
    Nvrtc,
    /// Matrix products.
    CublasLt,
}

impl Toolkit {
    const fn name(self) -> &'static str {
        match self {
            Self::Nvrtc => "NVRTC",
            Self::CublasLt => "cuBLASLt",
        }
    }

    /// The wheel that brings the library of CUDA `major`.
    fn package(self, major: i32) -> String {
        let name = match self {
            Self::Nvrtc => "nvidia-cuda-nvrtc",
            Self::CublasLt => "nvidia-cublas",
        };
        // From 13 on wheels carry the version in their number, not in their name.
        if major < 13 { format!("{name}-cu{major}") } else { format!("'{name}=={major}.*'") }
    }

    /// File names of the library of CUDA `major`.
    fn files(self, major: i32) -> Vec<String> {
        let stem = match self {
            Self::Nvrtc => "nvrtc",
            Self::CublasLt => "cublasLt",
        };
        if cfg!(windows) {
            vec![format!("{stem}64_{major}0_0.dll"), format!("{stem}64_{major}.dll")]
        } else {
            vec![format!("lib{stem}.so.{major}")]
        }
    }
}

/// The driver's version of CUDA, once it is started.
///
/// # Errors
/// When there is no driver, it does not start, or it is too old.
pub(super) fn start_driver() -> Result<(i32, i32), GpuError> {
    static STARTED: OnceLock<Result<(i32, i32), GpuError>> = OnceLock::new();
    STARTED.get_or_init(start_driver_once).clone()
}

fn start_driver_once() -> Result<(i32, i32), GpuError> {
    // What is loaded already is found again by its name: so a folder that the loader does not know
    // gets its turn before cudarc looks.
    let preloaded = named_folders().iter().find_map(|folder| open(&folder.join(DRIVER)).ok());
    // SAFETY: it opens the driver and closes it again, which is as safe as any program's start.
    if preloaded.is_none() && !unsafe { sys::is_culib_present() } {
        return Err(GpuError::NoDriver(format!("{DRIVER} was not found")));
    }
    std::mem::forget(preloaded);
    result::init()
        .map_err(|error| GpuError::NoDriver(format!("it does not start ({:?})", error.0)))?;
    let mut version = 0;
    // SAFETY: the driver is loaded, and writes one integer.
    let answer = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    answer.result().map_err(|error| GpuError::of("asking for the driver's version", error))?;
    let found = (version / 1000, version % 1000 / 10);
    if found < DRIVER_MIN {
        Err(GpuError::OldDriver { found, needed: DRIVER_MIN })
    } else {
        Ok(found)
    }
}

/// Opens the library for a driver of CUDA `major`: the newest one that this driver understands.
/// `accept` makes something of it or says why not.
pub(super) fn find<T>(
    toolkit: Toolkit,
    major: i32,
    accept: impl Fn(Library, &Path) -> Result<T, String>,
) -> Result<T, GpuError> {
    let files: Vec<String> =
        (DRIVER_MIN.0..=major).rev().flat_map(|major| toolkit.files(major)).collect();
    let mut refused = Vec::new();
    let near = named_folders().into_iter().map(Some).chain([None]);
    let far = || installed_folders().into_iter().chain(python_folders()).map(Some);
    // Python is asked only when all else failed.
    for folder in near.chain(std::iter::once_with(far).flatten()) {
        for file in &files {
            let path =
                folder.as_ref().map_or_else(|| PathBuf::from(file), |folder| folder.join(file));
            // Of what is not there, the loader's message says nothing that helps.
            let Ok(library) = open(&path) else {
                if folder.is_some() && path.is_file() {
                    refused.push(format!("{} cannot be loaded", path.display()));
                }
                continue;
            };
            match accept(library, &path) {
                Ok(made) => return Ok(made),
                Err(why) => refused.push(format!("{}: {why}", path.display())),
            }
        }
    }
    Err(GpuError::NoLibrary { library: toolkit.name(), package: toolkit.package(major), refused })
}

/// Opens the library at `path`, or of this name where the loader looks.
pub(super) fn open(path: &Path) -> Result<Library, String> {
    // SAFETY: runs the initialisers of a library that the machine's owner installed under the name
    // of NVIDIA's; nothing here can tell another one from it.
    unsafe { Library::new(path) }.map_err(|error| error.to_string())
}

/// Folders that the user names.
fn named_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("CENTO_CUDA_LIBS").unwrap_or_default();
    std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// Where toolkits are installed without telling the loader.
fn installed_folders() -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let usual = ["/usr/local/cuda", "/opt/cuda"].map(OsString::from);
    let homes = homes.chain(usual).map(PathBuf::from);
    homes.flat_map(|home| ["lib64", "lib", "bin"].map(|folder| home.join(folder))).collect()
}

/// The libraries that Python packages bring.
fn python_folders() -> Vec<PathBuf> {
    static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let ask = || {
        let mut python = Command::new("python3");
        python.args(["-c", "import sys; print('\\n'.join(sys.path))"]);
        let answer = python.stdin(Stdio::null()).stderr(Stdio::null()).output();
        let paths = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
        nvidia_folders(paths.unwrap_or_default().lines().map(Path::new))
    };
    FOLDERS.get_or_init(ask).clone()
}

/// `nvidia/*/lib` (and `bin`) of folders of packages, in the order of their names.
fn nvidia_folders<'a>(packages: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in packages.filter(|path| path.is_absolute()) {
        let entries = std::fs::read_dir(folder.join("nvidia")).into_iter().flatten().flatten();
        let mut inside: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        inside.sort();
        let both = inside.iter().flat_map(|path| ["lib", "bin"].map(|name| path.join(name)));
        found.extend(both.filter(|path| path.is_dir()));
    }
    found
}

/// File name of the driver.
const DRIVER: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// CUDA of the oldest driver that works.
const DRIVER_MIN: (i32, i32) = (12, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_python_packages_are_seen() {
        let site = std::env::temp_dir().join(format!("cento-site-{}", std::process::id()));
        for folder in ["nvidia/cublas/lib", "nvidia/cuda_nvrtc/lib", "nvidia/cuda_nvrtc/include"] {
            std::fs::create_dir_all(site.join(folder)).expect("a folder");
        }
        let found = nvidia_folders([Path::new("relative"), site.as_path()].into_iter());
        std::fs::remove_dir_all(&site).expect("the folder made above");
        assert_eq!(
            found,
            ["nvidia/cublas/lib", "nvidia/cuda_nvrtc/lib"].map(|path| site.join(path))
        );
    }

    #[test]
    fn a_missing_library_says_how_to_get_it() {
        let found = find::<()>(Toolkit::Nvrtc, 99, |_, _| Err("not this one".to_owned()));
        let Err(GpuError::NoLibrary { library, package, .. }) = found else { panic!("{found:?}") };
        assert_eq!((library, package.as_str()), ("NVRTC", "'nvidia-cuda-nvrtc==99.*'"));
    }

    #[test]
    fn packages_are_named_as_the_registry_has_them() {
        assert_eq!(Toolkit::Nvrtc.package(12), "nvidia-cuda-nvrtc-cu12");
        assert_eq!(Toolkit::CublasLt.package(12), "nvidia-cublas-cu12");
    }
}
