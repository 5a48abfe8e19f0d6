//! Swaps in a real engine: they take place where they are due, and what is the same changes nothing.

use super::{
    arms::{Arm, Asked, Place, Way},
    clock,
    drive::{Run, Stepped},
    measure::Measure,
    measured, message,
    record::{FORMAT, Identity},
    story::{Said, Story},
    told::Told,
};
use crate::{journal, measure::ALTERNATIVES, prompt::Texts, provenance::Provenance};
use engine::JoinPolicy;
use std::fs;

const MODEL: &str = "smollm2-135m";
const SWAP: Way = Way::Swap(JoinPolicy::Reuse);

fn told(story: &Story) -> (Texts, Told) {
    let texts = Texts::open(MODEL).unwrap();
    let told = Told::of(story, &texts).unwrap();
    (texts, told)
}

/// Short, so that it is quick.
fn brief(mut story: Story) -> Story {
    story.fillers.truncate(1);
    story
}

#[test]
fn an_answer_so_far_is_right_lines() {
    let story = &clock::stories(1, 1, 2)[0];
    let (texts, told) = told(story);
    let text = |tokens: &[u32]| texts.tokenizer.decode(tokens, false);
    let [leads, values] = [&story.leads, &story.values];
    for (rings, bell) in [(false, ""), (true, story.doorbell)] {
        let so_far = told.so_far(2, rings);
        let lines = [0, 1].map(|at| format!("{} {}\n{bell}", leads[at], values[at]));
        assert_eq!(text(&so_far.tokens), format!("{}{}", lines.concat(), leads[2]));
        let before = lines[0].len() - bell.len();
        assert_eq!(text(&so_far.tokens[..so_far.changes[0]]), lines[0][..before]);
        assert_eq!(text(&so_far.alone().tokens), leads[2]);
    }
    assert_eq!(text(told.value(2)), format!(" {}", values[2]));
}

#[test]
fn a_change_costs_what_is_new() {
    let (_, told) = told(&message::stories(1, 1, 2)[0]);
    let tokens = |way, place, rings| Arm { way, place, rings }.tokens_of_change(&told, 2);
    let new = told.versions[2].last().unwrap().len();
    for place in [Place::Last, Place::First] {
        assert_eq!(tokens(SWAP, place, false), new, "the pieces before are there already");
        assert_eq!(tokens(SWAP, place, true), new + told.doorbell.len());
        assert_eq!(tokens(Way::Stale(JoinPolicy::Reuse), place, false), 0);
    }
    let again = new + told.tail.len() + told.so_far(2, false).changes[1];
    assert_eq!(tokens(Way::Again(JoinPolicy::Reuse), Place::First, false), again);
    assert_eq!(tokens(Way::Recompute, Place::Last, false), again);
    let fillers: usize = told.fillers.iter().map(|filler| filler.len()).sum();
    assert_eq!(tokens(Way::Recompute, Place::First, false), again + fillers);
}

#[test]
fn swaps_take_place_behind_the_lines_that_they_are_due_behind() {
    let stories = [clock::stories(1, 1, 2), message::stories(1, 1, 2)].concat();
    let mut stepped = Stepped::open(MODEL, 0).unwrap();
    for story in stories.into_iter().map(brief) {
        let (_, told) = told(&story);
        stepped.encode("t", &told.root, told.fragments()).unwrap();
        for (place, rings) in [(Place::Last, false), (Place::First, true)] {
            let arm = Arm { way: SWAP, place, rings };
            let run = arm.run(&told, 2, Asked::Score);
            let so_far = told.so_far(2, rings);
            let ran = stepped.run("t", std::slice::from_ref(&run)).unwrap().remove(0);
            assert_eq!(ran.swapped, so_far.changes);
            assert_eq!(ran.tokens, run.forced, "{} is what was forced", story.id());
            assert_eq!(arm.forced(&told, 2), so_far.tokens.len());
        }
    }
}

#[test]
fn a_swap_for_the_same_changes_no_bit() {
    let story = brief(clock::stories(3, 1, 1).remove(0));
    let (_, told) = told(&story);
    let mut stepped = Stepped::open(MODEL, 0).unwrap();
    stepped.encode("t", &told.root, told.fragments()).unwrap();
    for place in [Place::Last, Place::First] {
        let swap = Arm { way: SWAP, place, rings: false };
        let mut changed = swap.run(&told, 1, Asked::Say);
        (changed.logprobs, changed.max_tokens) = (Some(5), changed.max_tokens + 4);
        let stays = Run { swaps: Vec::new(), ..changed.clone() };
        let mut same = changed.clone();
        same.swaps[0].with.clone_from(&told.versions[0]);
        let ran = stepped.run("t", &[stays.clone(), same, changed]).unwrap();
        assert_eq!((&ran[0].tokens, &ran[0].scores), (&ran[1].tokens, &ran[1].scores));
        assert_eq!((ran[0].swapped.len(), ran[1].swapped.len()), (0, 1));
        assert_ne!(ran[0].scores, ran[2].scores, "another time is another distribution");
        let alone = stepped.run("t", &[stays]).unwrap().remove(0);
        assert_eq!(alone, ran[0], "what runs beside it does not matter");
    }
}

#[test]
fn a_refused_swap_is_an_error() {
    let (_, told) = told(&brief(clock::stories(4, 1, 1).remove(0)));
    let mut stepped = Stepped::open(MODEL, 0).unwrap();
    let run = Arm { way: SWAP, place: Place::Last, rings: false }.run(&told, 1, Asked::Score);
    let error = format!("{:#}", stepped.run("t", &[run]).unwrap_err());
    assert!(error.contains("not in memory"), "what comes was not encoded: {error}");
}

#[test]
fn a_story_is_measured_under_every_arm_and_a_stopped_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    let arms = Arm::all(&[JoinPolicy::Reuse]);
    let stories: Vec<_> = clock::stories(1, 2, 1).into_iter().map(brief).collect();
    let texts = Texts::open(MODEL).unwrap();
    let mut stepped = Stepped::open(MODEL, 0).unwrap();
    let identity = Identity {
        format: FORMAT,
        tasks: vec![clock::NAME.to_owned()],
        model: stepped.card.clone(),
        seed: 1,
        n: 2,
        swaps: 1,
        arms: arms.iter().map(ToString::to_string).collect(),
        alternatives: ALTERNATIVES,
        provenance: Provenance { commit: "c".into(), cpu: "p".into() },
    };
    let mut run = |stories: &[Story]| {
        let run = "test".to_owned();
        let measure = Measure { stepped: &mut stepped, texts: &texts, arms: &arms, run };
        measured(measure, identity.clone(), stories, &path)
    };
    let record = run(&stories).unwrap();
    assert_eq!(record.stories.len(), 2);
    for (at, arm) in arms.iter().enumerate() {
        let numbers = &record.stories[0].arms[at][0];
        let is_oracle = arm.way == Way::Recompute;
        assert_eq!(numbers.kl == 0.0, is_oracle, "{arm}: {numbers:?}");
        assert_eq!(numbers.swaps, usize::from(matches!(arm.way, Way::Swap(_))), "{arm}");
        assert!(numbers.nll > 0.0 && numbers.nll.is_finite());
    }
    let page = crate::report::terminal_of_swaps(&record);
    for text in ["`reuse swap, last, doorbell`", "clock: new, by change", "commit c; p"] {
        assert!(page.contains(text), "{text:?} is not in\n{page}");
    }

    // As if it had been stopped behind the first story.
    let whole = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let first = serde_json::to_string(&record.stories[0]).unwrap();
    let header = serde_json::to_string(&record.identity).unwrap();
    fs::write(journal::path(&path), format!("{header}\n{first}\n")).unwrap();
    assert_eq!(run(&stories).unwrap(), record);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn what_was_said_is_kept_by_name() {
    let said =
        [Said::New, Said::Old, Said::Other].map(|said| serde_json::to_string(&said).unwrap());
    assert_eq!(said, ["\"new\"", "\"old\"", "\"other\""]);
}
