//! The intrinsics of [`super`] in plain Rust, for machines that have none: lane by lane what Arm's
//! reference says. Tests on such machines run NEON's kernels with them.
//!
//! As in `std::arch::aarch64`, all are unsafe to call: those of memory because they need a pointer
//! to as many elements as a register has, the others because they need NEON, which means nothing
//! here.

#![expect(non_camel_case_types, reason = "Arm's names")]

use half::f16;
use std::array::from_fn;

/// A register. Its users cannot look into it, as they cannot into a true one.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Register<T, const N: usize>([T; N]);

pub(crate) type float16x4_t = Register<f16, 4>;
pub(crate) type float32x4_t = Register<f32, 4>;
pub(crate) type int8x8_t = Register<i8, 8>;
pub(crate) type int8x16_t = Register<i8, 16>;
pub(crate) type int16x4_t = Register<i16, 4>;
pub(crate) type int16x8_t = Register<i16, 8>;
pub(crate) type int32x4_t = Register<i32, 4>;
pub(crate) type uint8x8_t = Register<u8, 8>;
pub(crate) type uint8x16_t = Register<u8, 16>;
pub(crate) type uint16x4_t = Register<u16, 4>;
pub(crate) type uint16x8_t = Register<u16, 8>;
pub(crate) type uint32x4_t = Register<u32, 4>;

fn each<T, const N: usize>(lane: impl FnMut(usize) -> T) -> Register<T, N> {
    Register(from_fn(lane))
}

/// Defines functions that load a register.
macro_rules! loads {
    ($(fn $name:ident($of:ty) -> $to:ty;)+) => {$(
        pub(crate) unsafe fn $name(from: *const $of) -> $to {
            // SAFETY: the caller's pointer is to as many elements as the register is made of.
            unsafe { from.cast::<$to>().read_unaligned() }
        }
    )+};
}

loads! {
    fn vld1_u16(u16) -> uint16x4_t;
    fn vld1q_f32(f32) -> float32x4_t;
    fn vld1q_s8(i8) -> int8x16_t;
    fn vld1q_u8(u8) -> uint8x16_t;
    fn vld1q_u32(u32) -> uint32x4_t;
}

/// Defines functions that store a register.
macro_rules! stores {
    ($(fn $name:ident($of:ty, $from:ty);)+) => {$(
        pub(crate) unsafe fn $name(to: *mut $of, a: $from) {
            // SAFETY: the caller's pointer is to as many elements as the register is made of.
            unsafe { to.cast::<$from>().write_unaligned(a) }
        }
    )+};
}

stores! {
    fn vst1q_f32(f32, float32x4_t);
    fn vst1q_u8(u8, uint8x16_t);
}

/// Defines functions of values: arguments, result, and what the result is. They are not inlined:
/// kernels made of calls are slow, but compile fast.
macro_rules! values {
    ($(fn $name:ident$(<const $n:ident>)?($($a:ident: $of:ty),+) -> $to:ty = $result:expr;)+) => {
        $(#[inline(never)]
        pub(crate) unsafe fn $name$(<const $n: i32>)?($($a: $of),+) -> $to { $result })+
    };
}

// From general registers, and between parts and views of vector registers.
values! {
    fn vdupq_n_f32(a: f32) -> float32x4_t = Register([a; 4]);
    fn vdupq_n_s8(a: i8) -> int8x16_t = Register([a; 16]);
    fn vdupq_n_s16(a: i16) -> int16x8_t = Register([a; 8]);
    fn vdupq_n_s32(a: i32) -> int32x4_t = Register([a; 4]);
    fn vdupq_n_u8(a: u8) -> uint8x16_t = Register([a; 16]);
    fn vdupq_n_u32(a: u32) -> uint32x4_t = Register([a; 4]);
    fn vcreate_s8(a: u64) -> int8x8_t = Register(a.to_le_bytes().map(u8::cast_signed));
    fn vcreate_u8(a: u64) -> uint8x8_t = Register(a.to_le_bytes());
    fn vget_low_s8(a: int8x16_t) -> int8x8_t = each(|i| a.0[i]);
    fn vget_high_s8(a: int8x16_t) -> int8x8_t = each(|i| a.0[8 + i]);
    fn vget_low_s16(a: int16x8_t) -> int16x4_t = each(|i| a.0[i]);
    fn vget_high_s16(a: int16x8_t) -> int16x4_t = each(|i| a.0[4 + i]);
    fn vget_low_u16(a: uint16x8_t) -> uint16x4_t = each(|i| a.0[i]);
    fn vreinterpret_f16_u16(a: uint16x4_t) -> float16x4_t = each(|i| f16::from_bits(a.0[i]));
    fn vreinterpretq_f32_u32(a: uint32x4_t) -> float32x4_t = each(|i| f32::from_bits(a.0[i]));
    fn vreinterpretq_f32_s32(a: int32x4_t) -> float32x4_t =
        each(|i| f32::from_bits(a.0[i].cast_unsigned()));
    fn vreinterpretq_s8_u8(a: uint8x16_t) -> int8x16_t = each(|i| a.0[i].cast_signed());
    fn vreinterpretq_s8_s32(a: int32x4_t) -> int8x16_t =
        each(|i| a.0[i / 4].to_le_bytes()[i % 4].cast_signed());
}

// Other widths and kinds of numbers.
values! {
    fn vmovl_s8(a: int8x8_t) -> int16x8_t = each(|i| a.0[i].into());
    fn vmovl_s16(a: int16x4_t) -> int32x4_t = each(|i| a.0[i].into());
    fn vmovl_u8(a: uint8x8_t) -> uint16x8_t = each(|i| a.0[i].into());
    fn vmovl_u16(a: uint16x4_t) -> uint32x4_t = each(|i| a.0[i].into());
    fn vcvt_f32_f16(a: float16x4_t) -> float32x4_t = each(|i| a.0[i].to_f32_const());
    fn vcvtq_f32_s32(a: int32x4_t) -> float32x4_t = each(|i| a.0[i] as f32);
    fn vcvtq_f32_u32(a: uint32x4_t) -> float32x4_t = each(|i| a.0[i] as f32);
    // Towards zero, saturating, NaN to 0.
    fn vcvtq_s32_f32(a: float32x4_t) -> int32x4_t = each(|i| a.0[i] as i32);
}

// Floats.
values! {
    fn vaddq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = each(|i| a.0[i] + b.0[i]);
    fn vsubq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = each(|i| a.0[i] - b.0[i]);
    fn vmulq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = each(|i| a.0[i] * b.0[i]);
    fn vdivq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = each(|i| a.0[i] / b.0[i]);
    // The sum comes first.
    fn vfmaq_f32(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = fused(a, b, c);
    fn vrndnq_f32(a: float32x4_t) -> float32x4_t = each(|i| a.0[i].round_ties_even());
    // The number where one is NaN.
    fn vmaxnmq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = each(|i| a.0[i].max(b.0[i]));
    fn vmaxnmvq_f32(a: float32x4_t) -> f32 = a.0.into_iter().fold(f32::NAN, f32::max);
    fn vcltq_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t = each(|i| mask(a.0[i] < b.0[i]));
    // Bits of `b` where those of `a` are set, of `c` elsewhere.
    fn vbslq_f32(a: uint32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t =
        each(|i| f32::from_bits(a.0[i] & b.0[i].to_bits() | !a.0[i] & c.0[i].to_bits()));
}

/// What comparisons give.
fn mask(holds: bool) -> u32 {
    if holds { u32::MAX } else { 0 }
}

// Integers, which wrap.
values! {
    fn vaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t = each(|i| a.0[i].wrapping_add(b.0[i]));
    fn vandq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t = each(|i| a.0[i] & b.0[i]);
    fn vorrq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t = each(|i| a.0[i] | b.0[i]);
    fn vtstq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = each(|i| mask(a.0[i] & b.0[i] != 0));
    fn vshlq_n_s32<const N>(a: int32x4_t) -> int32x4_t = {
        const { assert!(0 <= N && N <= 31) };
        each(|i| a.0[i] << N)
    };
    fn vshlq_n_u32<const N>(a: uint32x4_t) -> uint32x4_t = {
        const { assert!(0 <= N && N <= 31) };
        each(|i| a.0[i] << N)
    };
    fn vshrq_n_u8<const N>(a: uint8x16_t) -> uint8x16_t = {
        const { assert!(1 <= N && N <= 8) };
        each(|i| (u32::from(a.0[i]) >> N) as u8)
    };
    // To the right where negative.
    fn vshlq_u8(a: uint8x16_t, by: int8x16_t) -> uint8x16_t = each(|i| match by.0[i] {
        left @ 0..8 => a.0[i] << left,
        left @ -7..0 => a.0[i] >> -left,
        _ => 0,
    });
    // Products of bytes, which fit.
    fn vmlal_s8(a: int16x8_t, b: int8x8_t, c: int8x8_t) -> int16x8_t =
        each(|i| a.0[i].wrapping_add(i16::from(b.0[i]) * i16::from(c.0[i])));
    fn vmlal_high_s8(a: int16x8_t, b: int8x16_t, c: int8x16_t) -> int16x8_t =
        each(|i| a.0[i].wrapping_add(i16::from(b.0[8 + i]) * i16::from(c.0[8 + i])));
    // Sums of neighbours.
    fn vpaddlq_s16(a: int16x8_t) -> int32x4_t =
        each(|i| i32::from(a.0[2 * i]) + i32::from(a.0[2 * i + 1]));
    fn vpaddq_s32(a: int32x4_t, b: int32x4_t) -> int32x4_t = each(|i| {
        let (from, first) = if i < 2 { (a, 2 * i) } else { (b, 2 * i - 4) };
        from.0[first].wrapping_add(from.0[first + 1])
    });
}

/// `a + b c`, rounded once. Half of the time that emulated kernels take: a machine that does it is asked
/// to, for a library would be called for each lane.
fn fused(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        // SAFETY: the machine has it.
        return unsafe { fused_here(a, b, c) };
    }
    each(|i| b.0[i].mul_add(c.0[i], a.0[i]))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn fused_here(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    each(|i| b.0[i].mul_add(c.0[i], a.0[i]))
}
