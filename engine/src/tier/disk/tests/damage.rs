//! Files that are cut, changed, foreign or hostile: refused with a reason, and set aside.

use super::{Folder, Still, entry, faulty::Faulty, file_of, id, record};
use crate::tier::{
    disk::{DiskConfig, store::Store},
    worker::Records as _,
};
use std::{fs, sync::Arc};

/// A store opened over a folder that holds `bytes` as the file of record `n` refuses it.
fn check_refused(folder: &Folder, n: u8, bytes: &[u8], case: &str) {
    let path = folder.path_of(n, false);
    let bad = path.with_extension("safetensors.bad");
    fs::create_dir_all(folder.path()).unwrap();
    fs::write(&path, bytes).unwrap();
    let mut store = folder.store_over(4, Faulty::never()).unwrap();
    let told = store.entries();
    assert!(told.iter().all(|entry| *entry == record(n, false).0), "{case}: {told:?}");
    assert_eq!(store.fetch(&entry(n)), None, "{case}");
    assert!(store.entries().is_empty(), "{case}: still known");
    assert_eq!(store.figures().set_aside, 1, "{case}: {:?}", store.figures());
    assert_eq!(fs::read(&bad).unwrap(), bytes, "{case}: kept as it was");
    assert!(!path.exists(), "{case}: would be read again");
    fs::remove_file(bad).unwrap();
}

#[test]
fn every_bit_counts() {
    let folder = Folder::new();
    for n in [1, b'S'] {
        let sound = file_of(&record(n, false));
        for at in 0..sound.len() {
            // All eight are refused; two are tried, in turn, to be quick.
            for bit in [at % 8, (at + 3) % 8] {
                let mut bytes = sound.clone();
                bytes[at] ^= 1 << bit;
                check_refused(&folder, n, &bytes, &format!("bit {bit} of byte {at} of {n}"));
            }
        }
    }
}

#[test]
fn every_byte_must_be_there_and_no_more() {
    let folder = Folder::new();
    for n in [1, b'S'] {
        let sound = file_of(&record(n, false));
        for length in 0..sound.len() {
            check_refused(&folder, n, &sound[..length], &format!("{n} cut at {length}"));
        }
        check_refused(&folder, n, &[&sound[..], b"."].concat(), "one byte more");
    }
}

/// What is said of the one file in a folder, which is set aside when that is opened.
fn reason(config: DiskConfig) -> String {
    let store = Store::open(config, Arc::new(Still), Box::new(Faulty::never())).unwrap();
    let figures = store.figures();
    assert_eq!((figures.records, figures.set_aside), (0, 1), "{figures:?}");
    store.trouble().unwrap().to_owned()
}

#[test]
fn foreign_records_are_named() {
    let check = |change: &dyn Fn(&mut DiskConfig), expected: &str| {
        let folder = Folder::with(&[1]);
        let mut config = folder.config(1);
        change(&mut config);
        let reason = reason(config);
        let name = &format!("{}.safetensors", id(1));
        assert!(reason.contains(expected) && reason.contains(name), "{reason}: {expected}");
    };
    check(
        &|config| config.origin.model = "other".into(),
        "its model is \"tiny\"; it must be \"other\"",
    );
    check(&|config| config.origin.fingerprint[31] ^= 1, "its fingerprint is \"07070707");
    check(
        &|config| config.origin.kv_dtype = "int8".into(),
        "its kv_dtype is \"f16\"; it must be \"int8\"",
    );
    check(
        &|config| config.origin.layout_version = 10,
        "its layout_version is \"3\"; it must be \"10\"",
    );
    check(&|config| config.origin.kv_bytes_per_token = 17, "its length of KV is 48; it must be 51");
}

#[test]
fn renamed_records_are_named() {
    let id = |n| id(n).to_string();
    let check = |name: &str, expected: &str| {
        let folder = Folder::with(&[1]);
        fs::rename(folder.path_of(1, false), folder.path().join(name)).unwrap();
        let reason = reason(folder.config(1));
        assert!(reason.contains(expected) && reason.contains(name), "{reason}: {expected}");
        assert_eq!(folder.names(), [format!("{name}.bad")]);
    };
    check(
        &format!("{}.safetensors", id(2)),
        &format!("its id is {:?}; it must be {:?}", id(1), id(2)),
    );
    check("kv.safetensors", "its name is not that of a record");
    check(&format!("{}.safetensors", id(1).to_uppercase()), "its name is not");
    check(&format!("{}.safetensors", id(1).replace("01", "+1")), "its name is not");
    check(&format!("{}.pinned.pinned.safetensors", id(1)), "its name is not");
}

#[test]
fn hostile_headers_are_named() {
    let check = |length: u64, header: &str, expected: &str| {
        let folder = Folder::with(&[]);
        let bytes = [&length.to_le_bytes(), header.as_bytes(), &[0; 16]].concat();
        fs::write(folder.path_of(1, false), bytes).unwrap();
        let reason = reason(folder.config(1));
        assert!(reason.contains(expected), "{reason}: {expected}");
    };
    check(u64::MAX, "{}", "its length of header is 18446744073709551615; the limit is 18");
    check(1 << 20, "{}", "its length of header is 1048576; the limit is 18");
    check(2, "{}", "its length of data is 16; it must be 0");
    check(1, "{", "its header is not JSON of the right form");
    let tensors = |kv: &str| {
        let none = r#"{"dtype":"U32","shape":[0],"data_offsets":[0,0]}"#;
        let one = r#"{"dtype":"U32","shape":[1],"data_offsets":[0,4]}"#;
        let header = format!(r#"{{"root":{none},"tokens":{one},"kv":{{"dtype":{kv}}}}}"#);
        (header.len() as u64, header)
    };
    for (kv, expected) in [
        (r#""U8","shape":[12],"data_offsets":[4,16]"#, "its length of KV is 12; it must be 16"),
        (
            r#""F32","shape":[3],"data_offsets":[4,16]"#,
            "its kv is (F32, [3]); it must be (U8, [3])",
        ),
        (
            r#""U8","shape":[3,4],"data_offsets":[4,16]"#,
            "its kv is (U8, [3, 4]); it must be (U8, [3])",
        ),
        (r#""U8","shape":[28],"data_offsets":[4,32]"#, "its length of data is 16; it must be 32"),
        (r#""U8","shape":[12],"data_offsets":[4,8]"#, "not JSON of the right form"),
        (r#""U8","shape":[12],"data_offsets":[16,4]"#, "not JSON of the right form"),
        (r#""U8","shape":[12],"data_offsets":[0,12]"#, "not JSON of the right form"),
        (r#""U8","shape":[9223372036854775808,4],"data_offsets":[4,16]"#, "verflow"),
        (
            r#""U8","shape":[18446744073709551611],"data_offsets":[4,18446744073709551615]"#,
            "verflow",
        ),
    ] {
        let (length, header) = tensors(kv);
        check(length, &header, expected);
    }
    let none = r#"{"kv":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},
        "tokens":{"dtype":"U32","shape":[4],"data_offsets":[0,16]}}"#;
    check(none.len() as u64, none, "its list of tensors is [\"kv\", \"tokens\"]");
    let empty = none.replace("kv", "root").replace("U8", "U32").replace(
        "}}",
        r#"},
        "kv":{"dtype":"U8","shape":[0],"data_offsets":[16,16]}}"#,
    );
    check(empty.len() as u64, &empty, "its length of KV is 0; it must be 64");
}

/// What is said of a sealed record's file in which some text was replaced by others as long.
fn reason_of_sealed(changes: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    fs::create_dir_all(folder.path()).unwrap();
    let mut bytes = file_of(&record(b'S', false));
    for (from, to) in changes {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|text| text == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("no {from} in the header"));
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    fs::write(folder.path_of(b'S', false), bytes).unwrap();
    reason(folder.config(2))
}

#[test]
fn what_a_sealed_record_saw_is_read_in_one_spelling_and_within_bounds() {
    for (from, to, expected) in [
        (r#""frg_5353"#, r#""frg_535G"#, r#"its saw is "frg_535G"#),
        (",frg_cdcd", ",frg_CDCD", r#"its saw is "frg_CDCD"#),
        (",frg_cdcd", ";frg_cdcd", "it must be ids of fragments"),
        ("parallel:0.3", "parallel:0,3", "it must be a join policy"),
        ("parallel:0.3", "parallel:9.3", "it must be a join policy"),
        ("parallel:0.3", "parallel:0.2", "its entry_checksum is"),
        ("parallel:0.3", "parallel:-.3", "its policy is \"parallel:-.3"),
        ("parallel:0.30", "parallel:00.3", "its policy is \"parallel:00.3"),
        (r#""3,4,70000""#, r#""3,4,7000,""#, "its selected is \"\"; it must be positions"),
        (r#""3,4,70000""#, r#""3,4,+7000""#, "its selected is \"+7000\""),
        (r#""3,4,70000""#, r#""3,4,70001""#, "its entry_checksum is"),
        ("12345678", "01234567", "its start is \"01234567\"; it must be a position"),
        ("12345678", "16777217", "its start is 16777217; the limit is 16777216"),
        ("12345678", "12345679", "its entry_checksum is"),
        (r#""start""#, r#""stark""#, "its start is \"\""),
        (r#""saw""#, r#""sew""#, "its saw is \"\""),
    ] {
        let reason = reason_of_sealed(&[(from, to)]);
        assert!(reason.contains(expected), "{from} as {to}: {reason}");
    }
}

#[test]
fn who_does_not_know_what_is_sealed_takes_no_sealed_record_for_a_clean_one() {
    // Fields by names that are not known are not read: so an older server sees these.
    let unknown =
        [("saw", "sow"), ("policy", "polity"), ("selected", "selektid"), ("start", "stark")];
    let quoted = unknown.map(|(from, to)| (format!("\"{from}\""), format!("\"{to}\"")));
    let changes = quoted.each_ref().map(|(from, to)| (from.as_str(), to.as_str()));
    let reason = reason_of_sealed(&changes);
    assert!(reason.contains("its entry_checksum is"), "{reason}");
}

#[test]
fn few_files_set_aside_are_kept_and_they_go_first() {
    let folder = Folder::with(&(1..=20).collect::<Vec<u8>>());
    for n in 1..=20 {
        let path = folder.path_of(n, false);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[1..]).unwrap();
    }
    let mut store = folder.store_over(17, Faulty::never()).unwrap();
    assert_eq!(store.figures().set_aside, 20);
    assert_eq!(folder.names().len(), 16, "{:?}", folder.names());
    assert_eq!(store.figures().bytes, folder.bytes());
    for n in 21..=37 {
        let (entry, kv) = record(n, false);
        store.keep(entry, &Arc::new(kv));
    }
    assert_eq!(store.entries().len(), 17, "{:?}", store.figures());
    assert_eq!(store.figures().evicted, 0);
}
