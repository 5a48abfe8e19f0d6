//! A run that is stopped goes on, once and with the same numbers; what is not whole is no result.

use super::measured;
use crate::{
    arm::{Arm, Joined, Way},
    backend::{Answer, Backend, Call, Card},
    item::Item,
    journal::{self, Journal},
    measure::{ALTERNATIVES, Measure},
    prompt::Texts,
    provenance::Provenance,
    record::{FORMAT, Identity, ItemNumbers, Record},
    tasks::Task,
};
use anyhow::ensure;
use engine::{JoinPolicy, TokenLogprob};
use std::{fs, io::Write as _, path::Path};

/// Answers from what it is asked alone, and breaks after so many calls.
struct Fake {
    card: Card,
    calls_left: usize,
    calls: usize,
}

impl Backend for Fake {
    fn card(&self) -> &Card {
        &self.card
    }

    fn encode(&mut self, _: &str, _: &Joined) -> anyhow::Result<()> {
        Ok(())
    }

    fn generate(&mut self, call: &Call<'_>) -> anyhow::Result<Answer> {
        ensure!(self.calls < self.calls_left, "broken");
        self.calls += 1;
        let lean = if call.joined.policy == JoinPolicy::Recompute { 0.5 } else { 0.25 };
        let score = |&token: &u32| TokenLogprob {
            token,
            logprob: f32::ln(lean),
            top: vec![(token, f32::ln(lean)), (token + 1, f32::ln(lean / 2.0))],
        };
        Ok(Answer {
            tokens: call.tail[..2].to_vec(),
            scores: call.forced.iter().map(score).collect(),
            exact: call.joined.policy == JoinPolicy::Recompute,
            recomputed_share: if lean > 0.3 { 1.0 } else { 0.0 },
            first_token_ms: 10.0,
            ..Answer::default()
        })
    }

    fn has_tenants(&self) -> bool {
        true
    }
}

/// Runs until it breaks or ends.
fn run(path: &Path, seed: u64, calls_left: usize) -> (anyhow::Result<Record>, usize) {
    let texts = Texts::open("smollm2-135m").unwrap();
    let items = Task::named("needle").unwrap().items(seed, 5, Some(3), None).unwrap();
    let arms = Arm::paired(&[Arm::of(Way::Policy(JoinPolicy::Reuse))]);
    let card = card(8192);
    let mut fake = Fake { card: card.clone(), calls_left, calls: 0 };
    let measure =
        Measure { backend: &mut fake, texts: &texts, arms: &arms, run: "test".to_owned() };
    let record = measured(measure, identity(card, seed, &items), &items, path);
    (record, fake.calls)
}

fn card(context_max: usize) -> Card {
    Card {
        name: "fake".into(),
        fingerprint: "00".repeat(32),
        context_max,
        through: "engine".into(),
        isa: None,
        threads: None,
    }
}

fn identity(model: Card, seed: u64, items: &[Item]) -> Identity {
    Identity {
        format: FORMAT,
        task: "needle".into(),
        model,
        seed,
        n: items.len(),
        items: items.len(),
        fragments: Some(3),
        arms: vec!["recompute".into(), "reuse".into()],
        alternatives: ALTERNATIVES,
        provenance: Provenance { commit: "c".into(), cpu: "p".into() },
    }
}

/// Two arms of two calls each.
const CALLS: usize = 4;

#[test]
fn a_stopped_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = (folder.path().join("whole.json"), folder.path().join("stopped.json"));
    let (expected, calls) = run(&whole, 1, usize::MAX);
    let expected = expected.unwrap();
    assert_eq!((calls, journal::path(&whole).exists()), (5 * CALLS, false));

    // Two items are done, and the third is under way.
    let (error, _) = run(&stopped, 1, 2 * CALLS + 1);
    assert!(format!("{:#}", error.unwrap_err()).contains("broken"));
    assert!(!stopped.exists(), "what is not whole has another name");
    let journal = journal::path(&stopped);
    assert_eq!(fs::read_to_string(&journal).unwrap().lines().count(), 3);

    // The machine died while a line was being written.
    let mut file = fs::File::options().append(true).open(&journal).unwrap();
    file.write_all(b"{\"id\":\"2\",\"question\":2,\"gro").unwrap();
    drop(file);
    let (record, calls) = run(&stopped, 1, usize::MAX);
    assert_eq!(calls, 3 * CALLS, "the two that were done are not done again");
    assert_eq!(record.unwrap(), expected);
    assert_eq!(fs::read(&stopped).unwrap(), fs::read(&whole).unwrap());
    assert!(!journal.exists());

    let (record, calls) = run(&stopped, 1, 0);
    assert_eq!((record.unwrap(), calls), (expected, 0), "a whole run is not run again");
}

#[test]
fn another_runs_files_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    drop(run(&path, 1, CALLS));
    let before = fs::read(journal::path(&path)).unwrap();
    let error = format!("{:#}", run(&path, 2, usize::MAX).0.unwrap_err());
    assert!(error.contains("seed is 1 there and 2 here"), "{error}");
    assert_eq!(fs::read(journal::path(&path)).unwrap(), before);
    run(&path, 1, usize::MAX).0.unwrap();
    let error = format!("{:#}", run(&path, 2, usize::MAX).0.unwrap_err());
    assert!(error.contains("seed is 1 there and 2 here"), "{error}");
}

#[test]
fn a_run_that_measured_nothing_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    drop(run(&path, 1, 0));
    assert_eq!(fs::read_to_string(journal::path(&path)).unwrap().lines().count(), 1);
    let (record, calls) = run(&path, 2, usize::MAX);
    assert_eq!((record.unwrap().identity.seed, calls), (2, 5 * CALLS));
}

#[test]
fn two_runs_do_not_write_one_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    let identity = identity(card(100), 1, &[]);
    let _open = Journal::<ItemNumbers>::open(&path, &identity).unwrap();
    let error = format!("{:#}", Journal::<ItemNumbers>::open(&path, &identity).unwrap_err());
    assert!(error.contains("another run"), "{error}");
}

#[test]
fn a_broken_journal_is_refused_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    drop(run(&path, 1, CALLS));
    let journal = journal::path(&path);
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, format!("{text}{{}}\n")).unwrap();
    let error = format!("{:#}", run(&path, 1, usize::MAX).0.unwrap_err());
    assert!(error.contains("line 3 is no item"), "{error}");
    fs::write(&journal, "{}\n").unwrap();
    let error = format!("{:#}", run(&path, 1, usize::MAX).0.unwrap_err());
    assert!(error.contains("line 1 is no run's header"), "{error}");
}

#[test]
fn numbers_are_those_of_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let record = run(&folder.path().join("x.json"), 1, usize::MAX).0.unwrap();
    let [recompute, reuse] = &record.summary.all[..] else { panic!("two arms") };
    let mean = |arm: &crate::summary::ArmSummary, name: &str| arm.metrics[name].value.mean;
    assert!((mean(recompute, "nll") - 2f64.ln()).abs() < 1e-6);
    assert!((mean(reuse, "nll") - 4f64.ln()).abs() < 1e-6);
    // Both know two tokens and the rest: 1/2, 1/4, 1/4 against 1/4, 1/8, 5/8.
    let kl = 0.75 * 2f64.ln() + 0.25 * (0.25f64 / 0.625).ln();
    assert!((mean(reuse, "kl") - kl).abs() < 1e-5);
    let difference = reuse.metrics["nll"].difference.unwrap();
    assert!((difference.low - 2f64.ln()).abs() < 1e-6, "the same on every item");
    assert!(recompute.metrics["nll"].difference.is_none());
    assert_eq!((mean(recompute, "share_recomputed"), mean(reuse, "share_recomputed")), (1.0, 0.0));
    assert_eq!(reuse.first_token_ms.unwrap().p95, 10.0);
    assert_eq!(record.summary.groups.iter().map(|group| group.items).sum::<usize>(), 5);
}

#[test]
fn what_does_not_fit_is_counted_and_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let texts = Texts::open("smollm2-135m").unwrap();
    let items = Task::named("needle").unwrap().items(1, 2, Some(3), None).unwrap();
    let arms = [Arm::RECOMPUTE];
    let longest = items
        .iter()
        .map(|item| {
            let prompt = texts.prompt(item).unwrap();
            prompt.len() + item.max_tokens.max(prompt.gold.len())
        })
        .max()
        .unwrap();
    for (limit, fits) in [(longest, true), (20, false)] {
        let mut fake = Fake { card: card(limit), calls_left: usize::MAX, calls: 0 };
        let mut identity = identity(card(limit), 1, &items);
        identity.arms.truncate(1);
        let measure =
            Measure { backend: &mut fake, texts: &texts, arms: &arms, run: "test".to_owned() };
        let path = folder.path().join(format!("{limit}.json"));
        let record = measured(measure, identity, &items, &path);
        match record {
            Ok(record) => assert!(fits && record.summary.too_long == 0),
            Err(error) => assert!(!fits && error.to_string().contains("20 positions"), "{error}"),
        }
    }
}
