//! NVRTC, NVIDIA's compiler of kernels: its functions, looked up when the library is opened.

use super::sources::Source;
use super::table::HEADERS;
use super::{GpuError, libraries};
use cudarc::nvrtc::sys::nvrtcProgram;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr;

/// The compiler.
pub struct Nvrtc {
    functions: Functions,
    version: (i32, i32),
    path: PathBuf,
    /// Architectures it compiles for, ascending.
    architectures: Vec<u32>,
    /// Keeps the functions where they are.
    _library: Library,
}

/// What is made of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Code of one architecture.
    Cubin(u32),
    /// Text that the driver compiles for any architecture from this one on.
    Ptx(u32),
}

/// Results are plain integers: newer libraries know codes that a list of them would not.
#[derive(Clone, Copy)]
struct Functions {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    architectures: unsafe extern "C" fn(*mut c_int) -> c_int,
    architectures_count: unsafe extern "C" fn(*mut c_int) -> c_int,
    create: CreateProgram,
    compile: unsafe extern "C" fn(nvrtcProgram, c_int, *const *const c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut nvrtcProgram) -> c_int,
    cubin: Get,
    ptx: Get,
    log: Get,
    error: unsafe extern "C" fn(c_int) -> *const c_char,
}

type CreateProgram = unsafe extern "C" fn(
    *mut nvrtcProgram,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;

/// A size, and so many bytes.
#[derive(Clone, Copy)]
struct Get {
    size: unsafe extern "C" fn(nvrtcProgram, *mut usize) -> c_int,
    bytes: unsafe extern "C" fn(nvrtcProgram, *mut c_char) -> c_int,
}

impl Nvrtc {
    /// The newest of this machine that a driver of CUDA `major` understands.
    pub(super) fn find(major: i32) -> Result<Self, GpuError> {
        libraries::find(libraries::Toolkit::Nvrtc, major, Self::with)
    }

    /// The one at `path`.
    ///
    /// # Errors
    /// When there is none, or it is none.
    pub fn open(path: &Path) -> Result<Self, String> {
        Self::with(libraries::open(path)?, path)
    }

    fn with(library: Library, path: &Path) -> Result<Self, String> {
        // SAFETY: the functions have had these types in every version of the library.
        let functions = unsafe { Functions::of(&library) }.map_err(|error| error.to_string())?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two integers.
        functions.check(unsafe { (functions.version)(&raw mut major, &raw mut minor) })?;
        let mut count = 0;
        // SAFETY: writes one integer.
        functions.check(unsafe { (functions.architectures_count)(&raw mut count) })?;
        let mut architectures = vec![0; count.max(0) as usize];
        // SAFETY: writes as many integers as it said.
        functions.check(unsafe { (functions.architectures)(architectures.as_mut_ptr()) })?;
        let mut architectures: Vec<u32> = architectures.into_iter().map(|a| a as u32).collect();
        architectures.sort_unstable();
        let (version, path) = ((major, minor), path.to_path_buf());
        Ok(Self { functions, version, path, architectures, _library: library })
    }

    /// Its version, major and minor.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// What a device of this architecture runs: its own code if it is known, else text of the
    /// newest older architecture.
    pub(super) fn target(&self, architecture: u32) -> Target {
        let older = self.architectures.iter().rev().find(|&&known| known <= architecture);
        match older {
            Some(&known) if known < architecture => Target::Ptx(known),
            _ => Target::Cubin(architecture),
        }
    }

    /// Compiles a source. PTX ends with a zero byte, as the driver wants it.
    ///
    /// # Errors
    /// When NVRTC does not, with what it says.
    pub fn compile(&self, source: &Source, target: Target) -> Result<Vec<u8>, GpuError> {
        let get = match target {
            Target::Cubin(_) => self.functions.cubin,
            Target::Ptx(_) => self.functions.ptx,
        };
        let [code] = self.compile_to(source, target, [get])?;
        Ok(code)
    }

    /// Compiles a source to the code of one architecture, and gives the text that the code was made of,
    /// too.
    ///
    /// # Errors
    /// When NVRTC does not, with what it says.
    pub fn compile_with_text(
        &self,
        source: &Source,
        architecture: u32,
    ) -> Result<[Vec<u8>; 2], GpuError> {
        let Functions { cubin, ptx, .. } = self.functions;
        self.compile_to(source, Target::Cubin(architecture), [cubin, ptx])
    }

    fn compile_to<const N: usize>(
        &self,
        source: &Source,
        target: Target,
        gets: [Get; N],
    ) -> Result<[Vec<u8>; N], GpuError> {
        let refused = |log| GpuError::Compile { source: source.name, log };
        let program = Program::create(&self.functions, source).map_err(refused)?;
        let options: Vec<CString> = options(source, target).into_iter().map(text).collect();
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the program exists, and the options live until the call returns.
        let code = unsafe {
            (self.functions.compile)(program.handle, options.len() as c_int, options.as_ptr())
        };
        if let Err(why) = self.functions.check(code) {
            let log = program.get(self.functions.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
            return Err(refused(format!("{why}\n{log}")));
        }
        let mut results = [const { Vec::new() }; N];
        for (result, get) in results.iter_mut().zip(gets) {
            *result = program.get(get).map_err(refused)?;
        }
        Ok(results)
    }
}

/// How a source is compiled.
pub(super) fn options(source: &Source, target: Target) -> Vec<String> {
    let architecture = match target {
        Target::Cubin(architecture) => format!("sm_{architecture}"),
        Target::Ptx(architecture) => format!("compute_{architecture}"),
    };
    let mut options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
    options.extend(source.options.iter().map(|&option| option.to_owned()));
    options
}

/// A program of NVRTC's, destroyed in the end.
struct Program<'a> {
    functions: &'a Functions,
    handle: nvrtcProgram,
}

impl<'a> Program<'a> {
    fn create(functions: &'a Functions, source: &Source) -> Result<Self, String> {
        let (code, name) = (text(source.text), text(source.name));
        let (names, texts): (Vec<_>, Vec<_>) =
            HEADERS.iter().map(|&(name, header)| (text(name), text(header))).unzip();
        let pointers = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (name_pointers, text_pointers) = (pointers(&names), pointers(&texts));
        let mut handle = ptr::null_mut();
        // SAFETY: all texts live until the call returns, and NVRTC copies them.
        functions.check(unsafe {
            (functions.create)(
                &raw mut handle,
                code.as_ptr(),
                name.as_ptr(),
                names.len() as c_int,
                text_pointers.as_ptr(),
                name_pointers.as_ptr(),
            )
        })?;
        Ok(Self { functions, handle })
    }

    fn get(&self, get: Get) -> Result<Vec<u8>, String> {
        let mut size = 0;
        // SAFETY: the program exists; writes one integer.
        self.functions.check(unsafe { (get.size)(self.handle, &raw mut size) })?;
        let mut bytes = vec![0_u8; size];
        // SAFETY: there is room for as many bytes as it said.
        self.functions.check(unsafe { (get.bytes)(self.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: created in `create`. What it answers helps nobody.
        let _ = unsafe { (self.functions.destroy)(&raw mut self.handle) };
    }
}

impl Functions {
    /// # Safety
    /// The library is NVRTC, which has these functions with these types.
    unsafe fn of(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: as promised.
        unsafe {
            Ok(Self {
                version: *library.get(b"nvrtcVersion\0")?,
                architectures: *library.get(b"nvrtcGetSupportedArchs\0")?,
                architectures_count: *library.get(b"nvrtcGetNumSupportedArchs\0")?,
                create: *library.get(b"nvrtcCreateProgram\0")?,
                compile: *library.get(b"nvrtcCompileProgram\0")?,
                destroy: *library.get(b"nvrtcDestroyProgram\0")?,
                cubin: Get {
                    size: *library.get(b"nvrtcGetCUBINSize\0")?,
                    bytes: *library.get(b"nvrtcGetCUBIN\0")?,
                },
                ptx: Get {
                    size: *library.get(b"nvrtcGetPTXSize\0")?,
                    bytes: *library.get(b"nvrtcGetPTX\0")?,
                },
                log: Get {
                    size: *library.get(b"nvrtcGetProgramLogSize\0")?,
                    bytes: *library.get(b"nvrtcGetProgramLog\0")?,
                },
                error: *library.get(b"nvrtcGetErrorString\0")?,
            })
        }
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: gives a text that is never freed, for any code.
        let text = unsafe { (self.error)(code) };
        if text.is_null() {
            return Err(format!("error {code}"));
        }
        // SAFETY: a text, ended by a zero.
        Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }
}

/// A text of ours, which holds no zero.
fn text(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).expect("sources and options hold no zero byte")
}

impl fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(f, "NVRTC {major}.{minor} ({})", self.path.display())
    }
}
