//! Quantized weights, repacked in panels for products with int8 activations.
//!
//! A panel is 16 rows. Its codes stand in lines of 64 bytes, 4 consecutive columns of 16 rows: what
//! `vpdpbusd` multiplies with 4 activations in one instruction. Codes of fewer than 8 bits share
//! lines: nibbles two quads each, quad `j` of a group low and quad `j + 4` high; the bits above them
//! 8 quads (fifth bits, quad `j` at bit `j`) or 4 (two bits each, quad `j` at bit `2 (j mod 4)`).
//! No format takes more memory than in the file.
//!
//! ```text
//! line:   row 0: c c+1 c+2 c+3 | row 1: c c+1 c+2 c+3 | … | row 15: …
//! group of 32 columns:   4 bits   nibbles × 4
//!                        5 bits   nibbles × 4 | fifth bits × 1
//!                        6 bits   nibbles × 4 | upper pairs × 2
//!                        8 bits   whole × 8
//! ```

use super::input::GROUP;
use super::scales::{GroupScales, Scales};
use crate::blocks::{CODES_MAX, codes};
use crate::cpu::Disjoint;
use crate::memory::{Arena, Array, Plain};
use crate::simd::lanes::prefetch;
use crate::simd::{LANES, Scalar};
use crate::{BlockFormat, Cpu};

/// 64 bytes of codes: 4 columns of 16 rows, or parts of more.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 4 * LANES]);

impl Line {
    pub(super) const ZERO: Self = Self([0; 4 * LANES]);
}

// SAFETY: bytes take any bits, and there are 64 of them, as many as the alignment.
unsafe impl Plain for Line {}

/// Bits of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Four,
    Five,
    Six,
    Eight,
}

impl Width {
    /// Of a quantized format.
    const fn of(format: BlockFormat) -> Self {
        match format {
            BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q4K => Self::Four,
            BlockFormat::Q5_0 | BlockFormat::Q5_1 | BlockFormat::Q5K => Self::Five,
            BlockFormat::Q6K => Self::Six,
            _ => Self::Eight,
        }
    }

    /// Lines of a group.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Five => 5,
            Self::Six => 6,
            Self::Eight => 8,
        }
    }

    /// Where the codes of column quad `quad` of a group stand: in which line, shifted by how many
    /// bits, and the same for the bits above the nibble.
    const fn place(self, quad: usize) -> (Place, Option<Place>) {
        let nibbles = Place { line: quad % 4, shift: quad / 4 * 4 };
        match self {
            Self::Four => (nibbles, None),
            Self::Five => (nibbles, Some(Place { line: 4, shift: quad })),
            Self::Six => (nibbles, Some(Place { line: 4 + quad / 4, shift: quad % 4 * 2 })),
            Self::Eight => (Place { line: quad, shift: 0 }, None),
        }
    }

    /// What a place of the bits below, and one of those above them, hold of a byte.
    const fn masks(self) -> (u8, u8) {
        match self {
            Self::Four => (15, 0),
            Self::Five => (15, 1),
            Self::Six => (15, 3),
            Self::Eight => (255, 0),
        }
    }
}

/// A line of a group, and by how many bits codes are shifted in its bytes.
#[derive(Clone, Copy)]
struct Place {
    line: usize,
    shift: usize,
}

/// How blocks of the file become lines and records.
struct Packing {
    format: BlockFormat,
    scales: Scales,
    width: Width,
}

impl Packing {
    /// Copies rows of the file to the lanes of a panel.
    fn pack_panel(&self, rows: &[u8], row_bytes: usize, lines: &mut [Line], records: &mut [u8]) {
        // Blocks are read across rows, which the machine does not see coming.
        prefetch(rows);
        match self.width {
            Width::Four => self.pack_blocks::<4>(rows, row_bytes, lines, records),
            Width::Five => self.pack_blocks::<5>(rows, row_bytes, lines, records),
            Width::Six => self.pack_blocks::<6>(rows, row_bytes, lines, records),
            Width::Eight => self.pack_blocks::<8>(rows, row_bytes, lines, records),
        }
    }

    /// The same for codes of `BITS` bits, whose groups have as many lines: block by block, so that
    /// what is written of one block of all rows stays in L1.
    fn pack_blocks<const BITS: usize>(
        &self,
        rows: &[u8],
        row_bytes: usize,
        lines: &mut [Line],
        records: &mut [u8],
    ) {
        let (block_len, block_bytes) = (self.format.block_len(), self.format.block_bytes());
        let groups = lines.as_chunks_mut::<BITS>().0;
        let blocks = groups.chunks_exact_mut(block_len / GROUP);
        let blocks = blocks.zip(records.chunks_exact_mut(self.scales.record_bytes()));
        let mut unpacked = [0; CODES_MAX];
        for (at, (groups, record)) in blocks.enumerate() {
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                let block = &row[at * block_bytes..][..block_bytes];
                self.scales.pack(block, lane, record);
                codes(self.format, block, &mut unpacked[..block_len]);
                for (lines, codes) in groups.iter_mut().zip(unpacked.as_chunks().0) {
                    pack_group(codes, lane, lines);
                }
            }
        }
    }
}

/// Copies the codes of a group to lane `lane` of its lines: four codes, a quad, at a time, whose bits
/// stay in their bytes.
#[inline(always)]
fn pack_group<const BITS: usize>(codes: &[u8; GROUP], lane: usize, lines: &mut [Line; BITS]) {
    let mut quads = [0; GROUP / 4];
    for (quad, codes) in quads.iter_mut().zip(codes.as_chunks().0) {
        *quad = u32::from_le_bytes(*codes);
    }
    let mut put = |line: usize, bytes: u32| {
        lines[line].0.as_chunks_mut().0[lane % LANES] = bytes.to_le_bytes();
    };
    if BITS == 8 {
        return (0..8).for_each(|quad| put(quad, quads[quad]));
    }
    let nibble = |quad: usize| quads[quad] & (EACH_BYTE * 15);
    for line in 0..4 {
        put(line, nibble(line) | nibble(line + 4) << 4);
    }
    let above = |quad: usize, mask: u32| (quads[quad] >> 4) & (EACH_BYTE * mask);
    if BITS == 5 {
        put(4, (0..8).fold(0, |bits, quad| bits | above(quad, 1) << quad));
    } else if BITS == 6 {
        for half in 0..2 {
            let pairs = (0..4).map(|j| above(4 * half + j, 3) << (2 * j));
            put(4 + half, pairs.fold(0, |bits, pair| bits | pair));
        }
    }
}

/// Times a byte: that byte four times.
const EACH_BYTE: u32 = 0x0101_0101;

/// Repacked weights.
#[derive(Clone)]
pub(super) struct Quantized {
    pub(super) scales: Scales,
    pub(super) width: Width,
    /// Groups of [`GROUP`] columns.
    pub(super) groups: usize,
    /// `[panels, groups, lines of a group]`.
    lines: Array<Line>,
    /// `[panels, records of a row]`, see [`Scales`].
    records: Array<u8>,
}

impl Quantized {
    /// Repacks `bytes`, rows of `cols` numbers of `format`, which has `scales`. The caller has
    /// checked the shape.
    pub(super) fn pack(
        (cpu, arena): (&Cpu, &mut Arena),
        format: BlockFormat,
        scales: Scales,
        cols: usize,
        bytes: &[u8],
    ) -> Self {
        let row_bytes = cols / format.block_len() * format.block_bytes();
        let panels = (bytes.len() / row_bytes).div_ceil(LANES);
        let (width, groups) = (Width::of(format), cols / GROUP);
        let mut lines = arena.zeroed(panels * groups * width.lines());
        let mut records = arena.zeroed(panels * (cols / scales.span()) * scales.record_bytes());
        let packing = Packing { format, scales, width };
        let (to_lines, to_records) = (Disjoint::new(&mut lines), Disjoint::new(&mut records));
        cpu.for_each(panels, |panel| {
            let (of_lines, of_records) = (to_lines.len() / panels, to_records.len() / panels);
            // SAFETY: every panel has its own lines.
            let lines = unsafe { to_lines.range(panel * of_lines..(panel + 1) * of_lines) };
            // SAFETY: every panel has its own records.
            let records = unsafe { to_records.range(panel * of_records..(panel + 1) * of_records) };
            let rows =
                panel * LANES * row_bytes..((panel + 1) * LANES * row_bytes).min(bytes.len());
            packing.pack_panel(&bytes[rows], row_bytes, lines, records);
        });
        Self { scales, width, groups, lines: lines.finish(), records: records.finish() }
    }

    /// Lines of a panel.
    fn panel_lines(&self) -> usize {
        self.groups * self.width.lines()
    }

    /// Bytes of the records of a panel.
    fn panel_records(&self) -> usize {
        self.groups * GROUP / self.scales.span() * self.scales.record_bytes()
    }

    /// The codes of a panel.
    #[inline(always)]
    pub(super) fn lines(&self, panel: usize) -> &[Line] {
        &self.lines[panel * self.panel_lines()..][..self.panel_lines()]
    }

    /// The scales of a panel.
    #[inline(always)]
    pub(super) fn records(&self, panel: usize) -> &[u8] {
        &self.records[panel * self.panel_records()..][..self.panel_records()]
    }

    /// The codes of a column quad, counted from the start of a panel, in one lane.
    fn quad(&self, lines: &[Line], quad: usize, lane: usize) -> [u8; 4] {
        let lines = &lines[quad / 8 * self.width.lines()..];
        let (low, high) = self.width.place(quad % 8);
        let (low_mask, high_mask) = self.width.masks();
        std::array::from_fn(|i| {
            let part = |place: Place| lines[place.line].0[4 * lane + i] >> place.shift;
            let above = high.map_or(0, |high| (part(high) & high_mask) << 4);
            (part(low) & low_mask) | above
        })
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>() + self.records.len()
    }

    /// Writes row `row` dequantized, to the bit as [`crate::dequantize`] does.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        let (panel, lane) = (row / LANES, row % LANES);
        let (span, group, lines) = (self.scales.span(), self.scales.group(), self.lines(panel));
        let records = self.records(panel).chunks_exact(self.scales.record_bytes());
        let mut decoded = [GroupScales::ZERO; CODES_MAX / 16];
        for (r, (record, out)) in records.zip(out.chunks_exact_mut(span)).enumerate() {
            let decoded = &mut decoded[..span / group];
            self.scales.decode(Scalar, record, decoded);
            for (q, out) in out.chunks_exact_mut(4).enumerate() {
                let codes = self.quad(lines, r * span / 4 + q, lane);
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = self.scales.value(code, &decoded[4 * q / group], lane);
                }
            }
        }
    }
}
