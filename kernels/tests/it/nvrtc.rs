//! Every embedded CUDA source compiles, to the kernels and parameters that its table entry says.
//!
//! `CENTO_NVRTC` names a libnvrtc (the wheel `nvidia-cuda-nvrtc-cu12` has one); no GPU is needed.
//! Without it nothing is compiled, which `REQUIRE_NVRTC=1` makes a failure.

use kernels::cuda::{GpuError, Nvrtc, SOURCES, Signature, Source, Target};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ampere, Ada and Hopper.
const ARCHITECTURES: [u32; 3] = [80, 89, 90];

#[test]
fn every_source_compiles_to_the_kernels_of_its_table() {
    let Some(nvrtc) = nvrtc() else { return };
    let next = AtomicUsize::new(0);
    // On the threads there are: compiling is most of what this test does.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= SOURCES.len() {
                        break;
                    }
                    check(&nvrtc, index);
                }
            });
        }
    });
}

#[test]
fn a_source_that_does_not_compile_says_where() {
    let Some(nvrtc) = nvrtc() else { return };
    let broken = Source {
        name: "broken.cu",
        text: "extern \"C\" __global__ void broken(float* x) {\n    *x = y;\n}\n",
        options: &[],
        kernels: &[],
    };
    let refused = nvrtc.compile(&broken, Target::Cubin(80));
    let Err(GpuError::Compile { source, log }) = refused else { panic!("{refused:?}") };
    assert_eq!(source, "broken.cu");
    assert!(log.contains("broken.cu(2)") && log.contains('y'), "{log}");
}

#[expect(clippy::print_stdout, reason = "a run without the compiler says that it compiled nothing")]
fn nvrtc() -> Option<Nvrtc> {
    let Some(path) = std::env::var_os("CENTO_NVRTC") else {
        let required = std::env::var_os("REQUIRE_NVRTC").is_some_and(|value| value == "1");
        assert!(!required, "CENTO_NVRTC names no libnvrtc");
        println!("no CUDA source was compiled: CENTO_NVRTC names no libnvrtc");
        return None;
    };
    Some(Nvrtc::open(&PathBuf::from(path)).expect("CENTO_NVRTC is a libnvrtc"))
}

/// Machine code says that registers and shared memory suffice, text what parameters there are. Of
/// sources with the same text (for other lengths of heads) the first is compiled for every
/// architecture, and each other one for one of them: tiles take a quarter of a minute.
fn check(nvrtc: &Nvrtc, index: usize) {
    let source = &SOURCES[index];
    let is_first = SOURCES[..index].iter().all(|before| before.text != source.text);
    let of_one = index % ARCHITECTURES.len();
    let chosen = if is_first { &ARCHITECTURES[..] } else { &ARCHITECTURES[of_one..=of_one] };
    let mut text = Vec::new();
    for &architecture in chosen {
        let compiled = nvrtc.compile_with_text(source, architecture);
        let [image, of_image] =
            compiled.unwrap_or_else(|error| panic!("sm_{architecture}: {error}"));
        assert!(image.starts_with(b"\x7fELF"), "{} for sm_{architecture}", source.name);
        text = of_image;
    }
    let mut found = entries(&String::from_utf8_lossy(&text));
    let mut listed: Vec<_> = source
        .kernels
        .iter()
        .map(|&Signature(name, kinds)| (name.into(), kinds.to_lowercase()))
        .collect();
    found.sort();
    listed.sort();
    assert_eq!(found, listed, "kernels of {}, compiled and listed", source.name);
}

/// Names and parameters of the kernels in a text of PTX, as the table writes them.
fn entries(text: &str) -> Vec<(String, String)> {
    let entry = |part: &str| {
        let (name, rest) = part.split_once('(').expect("a kernel has parameters");
        let (parameters, _) = rest.split_once(')').expect("parameters end");
        let kinds = parameters.split(".param").skip(1).map(|parameter| {
            match parameter.split_whitespace().next() {
                Some(".u64" | ".b64") => 'p',
                Some(".u32" | ".s32" | ".b32") => 'i',
                Some(".f32") => 'f',
                _ => '?',
            }
        });
        (name.trim().to_owned(), kinds.collect())
    };
    text.split(".entry").skip(1).map(entry).collect()
}

#[test]
fn entries_are_read_from_ptx() {
    let text = ".visible .entry one(\n\t.param .u64 .ptr .align 1 one_param_0,\n\t.param .u32 \
                one_param_1,\n\t.param .f32 one_param_2\n)\n.maxntid 32\n{\n}\n.entry two()\n{ }";
    let expected = [("one", "pif"), ("two", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(entries(text), expected);
}
