//! Any bytes as a GGUF file: an error or a header whose every range can be read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = models::gguf::Header::parse(bytes) {
        for entry in header.tensors.values() {
            std::hint::black_box(&bytes[entry.range.clone()]);
        }
    }
});
