//! Any bytes as a safetensors file: an error or tensors whose every range can be read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(tensors) = models::safetensors::parse(bytes) {
        for entry in tensors.values() {
            std::hint::black_box(&bytes[entry.range.clone()]);
        }
    }
});
