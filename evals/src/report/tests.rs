//! Reports of made-up results.

use super::{Args, Results, run};
use crate::{
    backend::Card,
    metrics::Numbers,
    outcome::save,
    provenance::Provenance,
    record::{FORMAT, Identity, ItemNumbers, Record},
};
use std::{fs, path::Path};

fn record(task: &str, arms: &[&str]) -> Record {
    let identity = Identity {
        format: FORMAT,
        task: task.into(),
        model: Card {
            name: "model/x".into(),
            fingerprint: "ab".repeat(32),
            context_max: 100,
            through: "engine".into(),
            isa: Some("avx2".into()),
            threads: Some(2),
        },
        seed: 3,
        n: 4,
        items: 4,
        fragments: None,
        arms: arms.iter().map(|&arm| arm.to_owned()).collect(),
        alternatives: 200,
        provenance: Provenance { commit: "0123abcd".into(), cpu: "A processor".into() },
    };
    let numbers = |item: usize, arm: usize| Numbers {
        f1: if arm == 0 { 0.75 } else { 0.5 },
        kl_first: arm as f64 * 0.125,
        first_token_ms: Some(100.0 / (arm + 1) as f64),
        share_recomputed: Some(1.0 / (arm + 1) as f64),
        context_tokens: 50 + item,
        ..Numbers::default()
    };
    let item = |item: usize| ItemNumbers {
        id: item.to_string(),
        question: item,
        group: ["kept", "dropped"][item % 2].into(),
        fragments: 3,
        too_long: None,
        arms: (0..arms.len()).map(|arm| numbers(item, arm)).collect(),
    };
    Record::of(identity, (0..4).map(item).collect())
}

fn report(folder: &Path) -> anyhow::Result<String> {
    let out = folder.join("REPORT.md");
    run(&Args { results: folder.join("results"), out: out.clone() })?;
    Ok(fs::read_to_string(out)?)
}

#[test]
fn a_report_holds_every_arm_and_where_numbers_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    fs::create_dir(&results).unwrap();
    let arms = ["recompute", "reuse", "boundary:8", "boundary:16"];
    save(&record("needle", &arms), &results.join("a.json")).unwrap();
    save(&record("order", &arms[..2]), &results.join("b.json")).unwrap();
    fs::write(results.join("c.json.partial.jsonl"), "{}\n").unwrap();
    let page = report(folder.path()).unwrap();
    for text in [
        "## model/x\n",
        "### needle, seed 3",
        "### order, seed 3",
        "`boundary:16`",
        "commit 0123abcd",
        "A processor, avx2, 2 threads",
        "abababababababab",
        "0.750 [0.750, 0.750]",
        "0.500 [0.500, 0.500]",
        "-0.250 [-0.250, -0.250]",
        "F1 by group",
        "| kept ",
        "100 / 100",
        "not finished**: c.json.partial.jsonl",
        "](plots/model-x-needle-3-f1.svg)",
        "](plots/model-x-first-token.svg)",
    ] {
        assert!(page.contains(text), "{text:?} is not in\n{page}");
    }
    let svg = |name: &str| fs::read_to_string(folder.path().join("plots").join(name)).unwrap();
    let quality = svg("model-x-needle-3-kl_first.svg".replace('_', "-").as_str());
    assert_eq!(quality.matches("<polyline").count(), 1, "one line joins the two of a policy");
    assert!(quality.contains(">boundary<") && quality.contains(">16<"));
    assert!(svg("model-x-first-token.svg").contains("tokens before the answer"));
}

#[test]
fn two_results_of_one_run_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arms) in [("a.json", &["recompute"][..]), ("b.json", &["recompute", "reuse"])] {
        save(&record("needle", arms), &folder.path().join(name)).unwrap();
    }
    let said = format!("{:#}", Results::read(folder.path()).err().unwrap());
    for word in ["a.json", "b.json", "model/x", "needle", "seed 3"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn what_is_no_whole_result_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = |text: &str| {
        let path = folder.path().join("x.json");
        fs::write(&path, text).unwrap();
        format!("{:#}", Results::read(folder.path()).err().unwrap())
    };
    assert!(error("{").contains("x.json"));
    let whole = record("needle", &["recompute"]);
    let mut short = whole.clone();
    short.items.pop();
    let said = error(&serde_json::to_string(&short).unwrap());
    assert!(said.contains("x.json is not complete: 3 of 4 items"), "{said}");
    let mut unfinished = whole.clone();
    unfinished.complete = false;
    assert!(error(&serde_json::to_string(&unfinished).unwrap()).contains("not complete"));
    let mut newer = whole.clone();
    newer.identity.format += 1;
    assert!(error(&serde_json::to_string(&newer).unwrap()).contains("format 2"));
    let mut thin = whole;
    thin.items[1].arms.clear();
    assert!(error(&serde_json::to_string(&thin).unwrap()).contains("item \"1\" has 0 arms"));
    fs::remove_file(folder.path().join("x.json")).unwrap();
    fs::write(folder.path().join("y.json.partial.jsonl"), "").unwrap();
    let said = format!("{:#}", Results::read(folder.path()).err().unwrap());
    assert!(said.contains("holds no result"), "{said}");
}
