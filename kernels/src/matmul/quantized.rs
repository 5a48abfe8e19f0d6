//! Quantized weights, repacked in panels for products with int8 activations.
//!
//! A panel is 16 rows. Its codes stand in lines of 64 bytes, 4 consecutive columns of 16 rows: what
//! `vpdpbusd` multiplies with 4 activations in one instruction. Lines of 4-bit codes hold two such
//! quads, quad `j` of a group in the low nibbles and quad `j + 4` in the high ones.
//!
//! ```text
//! line:   row 0: c c+1 c+2 c+3 | row 1: c c+1 c+2 c+3 | … | row 15: …
//! group of 32 columns: 4-bit codes 4 lines, 8-bit codes 8 lines
//! ```

use super::input::GROUP;
use super::scales::{GroupScales, Scales};
use crate::blocks::{CODES_MAX, codes};
use crate::cpu::Disjoint;
use crate::simd::{LANES, Scalar};
use crate::{BlockFormat, Cpu};

/// 4 columns of 16 rows, or 8 with 4 bits.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 4 * LANES]);

/// Repacked weights.
#[derive(Clone)]
pub(super) struct Quantized {
    format: BlockFormat,
    pub(super) scales: Scales,
    /// Whether codes have 4 bits.
    pub(super) four_bits: bool,
    /// Groups of [`GROUP`] columns.
    pub(super) groups: usize,
    /// `[panels, groups, 4 or 8]`.
    lines: Vec<Line>,
    /// `[panels, records of a row]`, see [`Scales`].
    records: Vec<u8>,
}

impl Quantized {
    /// Repacks `bytes`, rows of `cols` numbers of `format`, which has `scales`. The caller has
    /// checked the shape.
    pub(super) fn pack(
        cpu: &Cpu,
        format: BlockFormat,
        scales: Scales,
        cols: usize,
        bytes: &[u8],
    ) -> Self {
        let row_bytes = cols / format.block_len() * format.block_bytes();
        let panels = (bytes.len() / row_bytes).div_ceil(LANES);
        let packed = Self {
            format,
            scales,
            four_bits: matches!(format, BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q4K),
            groups: cols / GROUP,
            lines: Vec::new(),
            records: Vec::new(),
        };
        let mut lines = vec![Line([0; 4 * LANES]); panels * packed.panel_lines()];
        let mut records = vec![0; panels * packed.panel_records()];
        let (to_lines, to_records) = (Disjoint::new(&mut lines), Disjoint::new(&mut records));
        cpu.for_each(panels, |panel| {
            let (of_lines, of_records) = (packed.panel_lines(), packed.panel_records());
            // SAFETY: every panel has its own lines.
            let lines = unsafe { to_lines.range(panel * of_lines..(panel + 1) * of_lines) };
            // SAFETY: every panel has its own records.
            let records = unsafe { to_records.range(panel * of_records..(panel + 1) * of_records) };
            let rows = bytes.chunks_exact(row_bytes).skip(panel * LANES).take(LANES);
            for (lane, row) in rows.enumerate() {
                packed.pack_row(row, lane, lines, records);
            }
        });
        Self { lines, records, ..packed }
    }

    /// Copies a row of the file to lane `lane` of a panel.
    fn pack_row(&self, row: &[u8], lane: usize, lines: &mut [Line], records: &mut [u8]) {
        let block_len = self.format.block_len();
        let blocks = row
            .chunks_exact(self.format.block_bytes())
            .zip(lines.chunks_exact_mut(block_len / GROUP * self.group_lines()))
            .zip(records.chunks_exact_mut(self.scales.record_bytes()));
        let mut unpacked = [0; CODES_MAX];
        for ((block, lines), record) in blocks {
            self.scales.pack(block, lane, record);
            codes(self.format, block, &mut unpacked[..block_len]);
            for (quad, codes) in unpacked[..block_len].chunks_exact(4).enumerate() {
                let (line, shift) = self.place(quad);
                let to = &mut lines[line].0[4 * lane..][..4];
                to.iter_mut().zip(codes).for_each(|(to, code)| *to |= code << shift);
            }
        }
    }

    /// The line that holds a column quad, counted from the start of a panel or a block, and by how
    /// many bits its codes are shifted there.
    fn place(&self, quad: usize) -> (usize, u32) {
        let (group, quad) = (quad / 8, quad % 8);
        if self.four_bits {
            (group * 4 + quad % 4, quad as u32 / 4 * 4)
        } else {
            (group * 8 + quad, 0)
        }
    }

    /// Lines of a group.
    pub(super) fn group_lines(&self) -> usize {
        if self.four_bits { 4 } else { 8 }
    }

    /// Lines of a panel.
    fn panel_lines(&self) -> usize {
        self.groups * self.group_lines()
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
                let (line, shift) = self.place(r * span / 4 + q);
                let codes = &lines[line].0[4 * lane..][..4];
                for (out, code) in out.iter_mut().zip(codes) {
                    let code = if self.four_bits { code >> shift & 15 } else { *code };
                    *out = self.scales.value(code, &decoded[4 * q / group], lane);
                }
            }
        }
    }
}
