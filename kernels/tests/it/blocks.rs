//! Block decoding against candle's.

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use kernels::case::Rng;
use kernels::{BlockFormat, dequantize};
use std::borrow::Cow;

#[test]
fn values_are_those_of_candle() {
    let mut rng = Rng::new(3);
    for format in BlockFormat::ALL {
        let bytes = format.random(8 * 256, &mut rng);
        let mut ours = vec![0.0; 8 * 256];
        dequantize(format, &bytes, &mut ours);
        assert_eq!(ours, candle(format, &bytes, ours.len()), "{format:?}");
    }
}

fn candle(format: BlockFormat, bytes: &[u8], count: usize) -> Vec<f32> {
    let dtype = match format {
        BlockFormat::F32 => GgmlDType::F32,
        BlockFormat::F16 => GgmlDType::F16,
        BlockFormat::Bf16 => GgmlDType::BF16,
        BlockFormat::Q8_0 => GgmlDType::Q8_0,
        BlockFormat::Q4_0 => GgmlDType::Q4_0,
        BlockFormat::Q4_1 => GgmlDType::Q4_1,
        BlockFormat::Q5_0 => GgmlDType::Q5_0,
        BlockFormat::Q5_1 => GgmlDType::Q5_1,
        BlockFormat::Q4K => GgmlDType::Q4K,
        BlockFormat::Q5K => GgmlDType::Q5K,
        BlockFormat::Q6K => GgmlDType::Q6K,
    };
    let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, dtype);
    let tensor = QTensor::new(storage.expect("whole blocks"), count).expect("their count");
    let values = tensor.dequantize(&Device::Cpu).expect("candle knows the format");
    values.to_vec1().expect("one dimension of f32")
}
