//! What a device's memory, graphs and products do, on a device if there is one.

use super::*;
use crate::case::{Rng, gpu};
use half::bf16;

#[test]
fn numbers_go_to_the_device_and_back() {
    let gpu = gpu();
    let numbers: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let mut buffer = Buffer::of(&gpu, &numbers).expect("a small array");
    let mut pinned = Pinned::zeroed(&gpu, 1200).expect("a small array");
    pinned.numbers().expect("no copy yet")[..100].fill(-1.0);
    pinned.upload(0..100, &mut buffer.part(900..1000)).expect("a copy");
    pinned.download(&buffer, 150).expect("a copy");
    buffer.clear().expect("a fill");
    let got = pinned.numbers().expect("copies are done")[150..1150].to_vec();
    if !gpu.is_imagined() {
        assert_eq!(got[..900], numbers[..900]);
        assert!(got[900..].iter().all(|&x| x == -1.0));
        assert!(buffer.to_vec().expect("a copy").iter().all(|&x| x == 0.0));
    }
}

#[test]
fn recorded_work_is_done_as_often_as_it_is_issued() {
    let gpu = gpu();
    let mut x = Buffer::of(&gpu, &[1.0_f32; 40]).expect("a small array");
    let y = Buffer::of(&gpu, &[2.0_f32; 40]).expect("a small array");
    // What is recorded was done once before.
    add(&gpu, &mut x, &y, 40).expect("a launch");
    x.write(&[1.0; 40]).expect("a copy");
    let graph = gpu.record(|| {
        let y = y.part(0..40);
        add(&gpu, &mut x, &y, 40)?;
        add(&gpu, &mut x, &y, 30)
    });
    let graph = graph.expect("a graph");
    // The memory is the graph's now as well.
    drop(y);
    (0..3).for_each(|_| graph.launch().expect("a launch"));
    let got = x.to_vec().expect("a copy");
    if !gpu.is_imagined() {
        assert_eq!((got[0], got[35]), (13.0, 7.0));
    }
}

#[test]
fn a_failure_while_recording_leaves_the_device_usable() {
    let gpu = gpu();
    let failed = gpu.record(|| Err(GpuError::NoDevice { asked: 1, found: 1 }));
    assert_eq!(failed.err(), Some(GpuError::NoDevice { asked: 1, found: 1 }));
    assert!(Buffer::of(&gpu, &[1_u8]).is_ok());
}

#[test]
fn products_are_those_of_plain_loops() {
    let gpu = gpu();
    let mut rng = Rng::new(5);
    for (rows, inputs, outputs) in [(1, 64, 48), (7, 256, 1000), (300, 576, 192), (3, 17, 5)] {
        let mut numbers = |count: usize| -> Vec<bf16> {
            (0..count).map(|_| bf16::from_f32(rng.signed())).collect()
        };
        let (x, w) = (numbers(rows * inputs), numbers(outputs * inputs));
        let on_gpu = [&x, &w].map(|numbers| Buffer::of(&gpu, numbers).expect("a small array"));
        let mut out = Buffer::of(&gpu, &vec![1.0_f32; rows * outputs]).expect("a small array");
        for adds in [false, true] {
            let shape = Gemm { rows, inputs, outputs, adds };
            gemm(&gpu, shape, &on_gpu[0], &on_gpu[1], &mut out).expect("a product");
        }
        let got = out.to_vec().expect("a copy");
        if gpu.is_imagined() {
            continue;
        }
        for (i, &got) in got.iter().enumerate() {
            let (x, w) = (&x[i / outputs * inputs..], &w[i % outputs * inputs..]);
            let products = x.iter().zip(w).take(inputs).map(|(x, w)| x.to_f64() * w.to_f64());
            let expected = 2.0 * products.sum::<f64>();
            // Products of two bf16 are exact in f32; each of the sums is off by half an ulp.
            let allowed = f64::from(f32::EPSILON) * inputs as f64;
            assert!((f64::from(got) - expected).abs() <= allowed, "{rows}x{inputs}x{outputs}, {i}");
        }
    }
}

#[test]
fn a_machine_without_a_device_says_so() {
    // The highest number that a program can ask for is nowhere.
    let error = Gpu::open(1 << 20, None).expect_err("no such device");
    let text = error.to_string();
    assert!(text.contains("no CUDA driver") || text.contains("no device cuda:1048576"), "{text}");
}
