//! A row's bits depend on its token, its position and what it sees: not on chunks, threads, the
//! rest of the batch, or what was dropped. Joined runs give what one run gives.

use crate::desk::{Desk, TINY, Written, difference, load, options, same_bits, tokens};
use models::{Decoder, KvDtype, LoadOptions, Model};

const LENGTH: usize = 75;

/// Logits of all rows and the hash of their KV, forwarded in chunks.
fn forwarded(model: Decoder, chunk: usize) -> (Vec<f32>, [u8; 32]) {
    let mut desk = Desk::new(model);
    let (written, logits) = desk.write(&tokens(1, LENGTH, 256), 0, &[], chunk);
    (logits, desk.digest(&written))
}

#[test]
fn chunks_and_threads_change_no_bit() {
    for arch in TINY {
        for page_rows in [1, 2, 3, 4, 32] {
            let options = |threads, kv_dtype| LoadOptions {
                threads,
                kv_dtype,
                page_rows,
                ..crate::desk::options()
            };
            let dtype = if page_rows == 3 { KvDtype::Bf16 } else { KvDtype::F16 };
            let (want, digest) = forwarded(load(arch, &options(1, dtype)), LENGTH);
            assert!(want.iter().all(|x| x.is_finite()), "{arch}: finite logits");
            for (threads, chunk) in [(1, 1), (1, 7), (2, LENGTH), (2, 33), (2, 1)] {
                let (got, other) = forwarded(load(arch, &options(threads, dtype)), chunk);
                let case = format!("{arch}, pages of {page_rows}, {threads} threads, {chunk} rows");
                assert!(same_bits(&want, &got), "logits: {case}");
                assert_eq!(digest, other, "KV: {case}");
            }
        }
    }
}

#[test]
fn page_size_changes_no_more_than_rounding() {
    for arch in TINY {
        let with = |page_rows| LoadOptions { page_rows, ..options() };
        let (want, _) = forwarded(load(arch, &with(32)), LENGTH);
        for page_rows in [1, 2, 3, 4, 64] {
            let (got, _) = forwarded(load(arch, &with(page_rows)), LENGTH);
            let error = difference(&want, &got, 256);
            assert!(error < 1e-4, "{arch}, pages of {page_rows}: {error}");
        }
    }
}

#[test]
fn a_row_of_a_batch_is_the_row_alone() {
    for arch in TINY {
        for threads in [1, 2] {
            let options = LoadOptions { threads, page_rows: 4, ..options() };
            let mut desk = Desk::new(load(arch, &options));
            let (root, _) = desk.write(&tokens(2, 5, 256), 0, &[], usize::MAX);
            let texts = [tokens(3, 9, 256), tokens(4, 1, 256), tokens(5, 34, 256)];
            let alone: Vec<_> =
                texts.iter().map(|text| desk.write(text, root.end(), &[&root], 64)).collect();
            let (together, logits) = desk.write_together(&texts, &root, |_| true);
            let want: Vec<f32> = alone.iter().flat_map(|(_, logits)| logits.clone()).collect();
            assert!(same_bits(&want, &logits), "{arch}: logits with {threads} threads");
            for ((alone, _), together) in alone.iter().zip(&together) {
                assert_eq!(desk.digest(alone), desk.digest(together), "{arch}: KV");
            }
        }
    }
}

/// Rows that nothing is asked of are left out of the last layer.
#[test]
fn logits_of_few_rows_are_those_of_all() {
    for arch in TINY {
        let mut desk = Desk::new(load(arch, &LoadOptions { page_rows: 4, ..options() }));
        let (root, _) = desk.write(&tokens(2, 5, 256), 0, &[], usize::MAX);
        // None of the second.
        let texts = [tokens(3, 9, 256), tokens(4, 2, 256), tokens(5, 34, 256)];
        let few = [2, 8, 11, 30, 44];
        let (all_runs, all) = desk.write_together(&texts, &root, |_| true);
        let (runs, logits) = desk.write_together(&texts, &root, |row| few.contains(&row));
        let want: Vec<f32> =
            few.iter().flat_map(|row| all[row * 256..(row + 1) * 256].to_vec()).collect();
        assert!(same_bits(&want, &logits), "{arch}: logits");
        for (a, b) in all_runs.iter().zip(&runs) {
            assert_eq!(desk.digest(a), desk.digest(b), "{arch}: KV");
        }
    }
}

#[test]
fn encoding_without_logits_writes_the_same_rows() {
    for arch in TINY {
        let mut desk = Desk::new(load(arch, &options()));
        let text = tokens(6, 40, 256);
        let (with, _) = desk.write(&text, 0, &[], usize::MAX);
        let without = desk.encode(&text, 0, &[]);
        assert_eq!(desk.digest(&with), desk.digest(&without), "{arch}");
    }
}

#[test]
fn joined_runs_give_what_one_run_gives() {
    let parts = [tokens(7, 3, 256), tokens(8, 21, 256), tokens(9, 1, 256), tokens(10, 45, 256)];
    for arch in TINY {
        for page_rows in [1, 4, 32] {
            let mut desk = Desk::new(load(arch, &LoadOptions { page_rows, ..options() }));
            let (_, plain) = desk.write(&parts.concat(), 0, &[], usize::MAX);
            let (mut before, mut joined) = (Vec::<Written>::new(), Vec::new());
            for part in &parts {
                let start = before.last().map_or(0, Written::end);
                let seen: Vec<_> = before.iter().collect();
                let (written, logits) = desk.write(part, start, &seen, usize::MAX);
                before.push(written);
                joined.extend(logits);
            }
            let error = difference(&plain, &joined, 256);
            assert!(error < 1e-4, "{arch}, pages of {page_rows}: {error}");
        }
    }
}

/// Scores depend on distances: what stands further on, with all that looks at it, is the same.
#[test]
fn a_moved_fragment_is_the_fragment_encoded_there() {
    let (text, tail) = (tokens(11, 38, 256), tokens(12, 9, 256));
    for arch in TINY {
        let mut desk = Desk::new(load(arch, &options()));
        let here = desk.encode(&text, 0, &[]);
        let (_, want) = desk.write(&tail, here.end(), &[&here], usize::MAX);
        for offset in [1, 31, 700] {
            let moved = here.placed(offset);
            let (_, got) = desk.write(&tail, moved.end(), &[&moved], usize::MAX);
            let error = difference(&want, &got, 256);
            assert!(error < 1e-4, "{arch}, moved by {offset}: {error}");
            let there = desk.encode(&text, offset, &[]);
            let (_, got) = desk.write(&tail, there.end(), &[&there], usize::MAX);
            let error = difference(&want, &got, 256);
            assert!(error < 1e-4, "{arch}, encoded at {offset}: {error}");
        }
    }
}

#[test]
fn a_dropped_fragment_leaves_no_trace() {
    let [root, a, b, c] = [13, 14, 15, 16].map(|seed| tokens(seed, 10 + seed as usize, 256));
    let tail = tokens(17, 6, 256);
    for arch in TINY {
        let options = LoadOptions { page_rows: 4, kv_dtype: KvDtype::F16, ..options() };
        let answer = |desk: &mut Desk, root: &Written, fragments: &[&Written]| {
            let mut runs = vec![root.clone()];
            for fragment in fragments {
                runs.push(fragment.placed(runs.last().map_or(0, Written::end)));
            }
            let seen: Vec<_> = runs.iter().collect();
            desk.write(&tail, runs.last().map_or(0, Written::end), &seen, usize::MAX).1
        };
        let mut desk = Desk::new(load(arch, &options));
        let first = desk.encode(&root, 0, &[]);
        let [first_a, first_b, first_c] =
            [&a, &b, &c].map(|text| desk.encode(text, first.end(), &[&first]));
        let with_all = answer(&mut desk, &first, &[&first_a, &first_b, &first_c]);
        let dropped = answer(&mut desk, &first, &[&first_a, &first_c]);

        let mut fresh = Desk::new(load(arch, &options));
        fresh.skip_pages(3);
        let other = fresh.encode(&root, 0, &[]);
        let [other_c, other_a] = [&c, &a].map(|text| fresh.encode(text, other.end(), &[&other]));
        let never = answer(&mut fresh, &other, &[&other_a, &other_c]);

        assert!(same_bits(&dropped, &never), "{arch}: logits");
        assert!(!same_bits(&dropped, &with_all), "{arch}: the fragment was seen while it stood");
        for (mine, theirs) in [(&first_a, &other_a), (&first_c, &other_c)] {
            assert_eq!(desk.digest(mine), fresh.digest(theirs), "{arch}: KV");
        }
    }
}

#[test]
fn fingerprints_tell_models_apart() {
    let print = |arch, options: &LoadOptions| load(arch, options).shape().fingerprint;
    let base = print("llama", &options());
    assert_eq!(base, print("llama", &LoadOptions { threads: 2, ..options() }), "not by threads");
    let others = [
        print("mistral", &options()),
        print("llama", &LoadOptions { kv_dtype: KvDtype::F16, ..options() }),
        print("llama", &LoadOptions { page_rows: 64, ..options() }),
        Decoder::load(&crate::desk::tiny("llama"), &options(), &[1; 32])
            .unwrap()
            .0
            .shape()
            .fingerprint,
    ];
    assert!(others.iter().all(|other| *other != base), "weights, dtype, pages, tokenizer");
}
