//! Shapes that only joins have: rows that are hidden, rows at positions of their own, runs that are
//! weighed apart.

use super::{Case, PLAIN};
use crate::{KvDtype, Tempered};

/// Rows hidden and rows at positions of their own: an overlay over fragments.
pub(super) fn repaired() -> Vec<Case> {
    let runs: &[(u32, u32, i32)] = &[(5, 0, 0), (61, 5, 4), (33, 66, -7), (20, 99, 0), (24, 6, 0)];
    let mut all = Vec::new();
    for (i, hide_every) in [1, 2, 3, 40].into_iter().enumerate() {
        let stride = [1, 2, 5, 4][i];
        let case = Case { runs, positions: 86..119, hide_every, stride, ..PLAIN };
        for (j, page_rows) in [3, 16, 32, 48].into_iter().enumerate() {
            let dtype = KvDtype::ALL[(i + j) % 4];
            all.push(Case { page_rows, dtype, ..case.clone() });
            all.push(Case { page_rows, dtype, positions: 60..61, ..case.clone() });
            all.push(Case { page_rows, dtype, window: Some(30), ..case.clone() });
        }
    }
    let long: &[(u32, u32, i32)] = &[(1030, 0, 0), (600, 1030, 515), (530, 3, 0)];
    for positions in [1632..1633, 1600..1633] {
        let case = Case { runs: long, positions, hide_every: 3, stride: 3, ..PLAIN };
        all.push(Case { dtype: KvDtype::F16, ..case });
    }
    all
}

/// Runs weighed with a temperature and a scale.
pub(super) fn tempered() -> Vec<Case> {
    let runs: &[(u32, u32, i32)] = &[(30, 4, 0), (70, 4, 9), (4, 0, 0), (20, 74, 0)];
    let mut all = Vec::new();
    for (i, (temperature, scale)) in
        [(1.0, 1.0), (0.9, 0.9), (0.5, 1.0), (2.0, 0.7)].into_iter().enumerate()
    {
        let tempered = Some(Tempered { runs: 2, temperature, scale });
        let case = Case { runs, positions: 74..94, tempered, dtype: KvDtype::ALL[i], ..PLAIN };
        all.push(Case { window: Some(40), ..case.clone() });
        all.push(Case { softcap: Some(5.0), ..case.clone() });
        all.push(Case { positions: 93..94, page_rows: 3, ..case.clone() });
        // Queries before every tempered row, and behind them.
        all.push(Case { positions: 0..40, ..case.clone() });
        all.push(case);
    }
    let long: &[(u32, u32, i32)] = &[(1030, 9, 0), (600, 9, 515), (9, 0, 0), (20, 1039, 0)];
    for positions in [1058..1059, 1039..1059] {
        let tempered = Some(Tempered { runs: 2, temperature: 0.8, scale: 0.9 });
        all.push(Case { runs: long, positions, tempered, dtype: KvDtype::F16, ..PLAIN });
    }
    all
}
