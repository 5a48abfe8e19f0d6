//! Every task: the same items again from the same seed, and items that hold what they ask for.
//! Files are made up here, good and broken.

use super::{TASKS, Task};
use crate::item::Item;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write as _, fs};

fn made(name: &str, seed: u64, n: usize) -> Vec<Item> {
    Task::named(name).unwrap().items(seed, n, None, None).unwrap()
}

/// The task over files written to a folder of their own.
fn over(name: &str, n: usize, files: &[(&str, String)]) -> anyhow::Result<Vec<Item>> {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in files {
        fs::write(folder.path().join(file), text).unwrap();
    }
    Task::named(name)?.items(1, n, None, Some(folder.path().to_path_buf()))
}

#[track_caller]
fn says(result: anyhow::Result<Vec<Item>>, words: &[&str]) {
    let error = format!("{:#}", result.unwrap_err());
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| value.to_string() + "\n").collect()
}

#[track_caller]
fn check(items: &[Item]) {
    let ids: BTreeSet<_> = items.iter().map(|item| &item.id).collect();
    assert_eq!(ids.len(), items.len(), "ids are different");
    for item in items {
        assert!(!item.answers.is_empty() && !item.tail.user.is_empty() && item.max_tokens > 0);
        assert!(item.fragments.iter().all(|fragment| !fragment.text.trim().is_empty()));
    }
}

#[test]
fn tasks_from_a_seed_are_the_same_again() {
    for task in TASKS.iter().filter(|task| task.files.is_empty()) {
        let (once, again, other) =
            (made(task.name, 7, 6), made(task.name, 7, 6), made(task.name, 8, 6));
        assert_eq!(once, again, "{}", task.name);
        assert_ne!(once, other, "{}", task.name);
        check(&once);
        let fewer = made(task.name, 7, 3);
        assert_eq!(
            fewer,
            once[..fewer.len()],
            "{}: more questions leave the first as they are",
            task.name
        );
    }
}

#[test]
fn a_needle_is_told_by_one_fragment() {
    for item in made("needle", 1, 20) {
        assert_eq!(item.fragments.len(), 8);
        let tells = |text: &str| text.contains(&item.answers[0]);
        assert_eq!(item.fragments.iter().filter(|f| tells(&f.text)).count(), 1, "{item:?}");
        assert!(!tells(&item.tail.user));
    }
    for item in made("multi-needle", 1, 10) {
        let numbers: Vec<_> = item.answers[0].split(", ").collect();
        assert_eq!(numbers.len(), 3);
        for number in numbers {
            assert_eq!(item.fragments.iter().filter(|f| f.text.contains(number)).count(), 1);
        }
    }
}

/// Following the links from the box asked about, over one fragment each, ends at the answer.
#[test]
fn a_tracked_value_needs_every_link() {
    for (index, item) in made("tracking", 3, 12).iter().enumerate() {
        let asked = item.tail.user.rsplit_once("does box ").unwrap().1;
        let mut name = asked.split(' ').next().unwrap().to_owned();
        let mut links = 0;
        let number = loop {
            let told = |verb: &str| {
                let begin = format!("Box {name} holds the {verb}");
                item.fragments
                    .iter()
                    .find_map(|f| f.text.split_once(&begin).map(|s| s.1.to_owned()))
            };
            if let Some(rest) = told("number ") {
                break rest.trim().trim_end_matches('.').to_owned();
            }
            let rest = told("same number as box ").unwrap();
            name = rest.trim().trim_end_matches('.').to_owned();
            links += 1;
        };
        assert_eq!((links, &number), (1 + index % 4, &item.answers[0]));
    }
}

#[test]
fn only_the_order_tells_who_came_next() {
    for item in made("order", 2, 10) {
        let came = |f: &crate::item::Fragment| {
            f.text.strip_prefix("Then ").unwrap().split(' ').next().unwrap().to_owned()
        };
        let people: Vec<_> = item.fragments.iter().map(came).collect();
        let asked =
            people.iter().position(|person| item.tail.user.contains(&format!("after {person}?")));
        assert_eq!(people[asked.unwrap() + 1], item.answers[0]);
    }
}

#[test]
fn superseded_facts_are_kept_or_dropped() {
    let items = made("superseded", 5, 4);
    assert_eq!(items.len(), 4 * 3 * 2);
    for pair in items.chunks(2) {
        let (kept, dropped) = (&pair[0], &pair[1]);
        assert_eq!(
            (kept.question, &kept.answers, &kept.tail),
            (dropped.question, &dropped.answers, &dropped.tail)
        );
        assert!(kept.group.ends_with("kept") && dropped.group.ends_with("dropped"));
        let moves: usize = kept.group.split(' ').next().unwrap().parse().unwrap();
        assert_eq!((kept.fragments.len(), dropped.fragments.len()), (4 * (moves + 1), 4));
        let tells = |item: &Item| {
            let room = format!("room {}.", item.answers[0]);
            item.fragments.iter().filter(|f| f.text.contains(&room)).count()
        };
        assert_eq!((tells(kept), tells(dropped)), (1, 1));
        assert!(dropped.fragments.iter().all(|f| kept.fragments.contains(f)), "a subset, in order");
    }
}

#[test]
fn shots_show_every_label_and_not_the_message() {
    for item in made("shots", 4, 10) {
        assert_eq!((item.fragments.len(), item.tail.begin.as_str()), (30, "Label:"));
        let label = format!("Label: {}\n", item.answers[0]);
        assert!(item.fragments.iter().any(|f| f.text.contains(&label)));
    }
}

#[test]
fn a_message_stands_at_every_position() {
    let items = made("message", 6, 2);
    assert_eq!(items.len(), 10);
    let places: Vec<_> = items[..5]
        .iter()
        .map(|item| item.fragments.iter().position(|f| f.role == Some("user")).unwrap())
        .collect();
    assert_eq!(places, [0, 1, 3, 5, 7]);
    assert!(items[..5].iter().all(|item| item.answers == items[0].answers));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let needle = Task::named("needle").unwrap();
    says(needle.items(1, 0, None, None), &["--n is 0"]);
    says(needle.items(1, 1, Some(27), None), &["27", "1 to 26"]);
    says(Task::named("superseded").unwrap().items(1, 1, Some(3), None), &["--fragments is 3"]);
    says(Task::named("hotpotqa").unwrap().items(1, 1, None, None), &["--data"]);
    let error = Task::named("hotpot").err().unwrap().to_string();
    assert!(error.contains("hotpotqa") && error.contains("needle"), "{error}");
}

fn hotpot(id: &str) -> Value {
    json!({
        "id": id, "question": "Who?", "answer": "Ann", "type": "bridge", "level": "hard",
        "supporting_facts": {"title": [], "sent_id": []},
        "context": {"title": ["A", "B"], "sentences": [["One.", " Two."], ["Three."]]},
    })
}

#[test]
fn hotpotqa() {
    let file = "hotpotqa_distractor.dev.json";
    let good = json!([hotpot("x"), hotpot("y")]).to_string();
    let items = over("hotpotqa", 2, &[(file, good.clone())]).unwrap();
    check(&items);
    assert_eq!(items[0].fragments[0].text, "A: One. Two.\n\n");
    assert_eq!((items[0].group.as_str(), items[0].answers[0].as_str()), ("bridge", "Ann"));
    says(over("hotpotqa", 3, &[(file, good)]), &["--n is 3", "2 questions"]);
    let mut short = hotpot("bad1");
    short["context"]["title"] = json!(["A"]);
    let text = format!("[\n{},\n{short}]", hotpot("x"));
    says(
        over("hotpotqa", 1, &[(file, text)]),
        &[file, "line 3", "bad1", "1 titles", "2 paragraphs"],
    );
    says(over("hotpotqa", 1, &[]), &[file, ".gz"]);
}

#[test]
fn musique() {
    let file = "musique_s.dev.json";
    let good =
        json!({"question": "Who?", "answers": ["Ann"], "ctxs": [{"title": "", "text": "t"}]});
    let items = over("musique", 1, &[(file, json!([good]).to_string())]).unwrap();
    assert_eq!(items[0].fragments[0].text, "t\n\n");
    let bad =
        json!([good, {"question": "Who?", "answers": [], "ctxs": [{"title": "", "text": "t"}]}]);
    says(over("musique", 1, &[(file, bad.to_string())]), &[file, "line 1", "without answers"]);
}

fn nq(question: &str, answer: &str, text: &str) -> Value {
    json!({
        "question": question, "answers": [answer],
        "ctxs": [{"title": "T", "text": text, "hasanswer": true, "isgold": true}],
    })
}

#[test]
fn nq_open() {
    let file = "nq-open-oracle.dev.jsonl";
    let mut records: Vec<_> = (0..14)
        .map(|i| nq(&format!("q{i}"), &format!("word{i}x"), &format!("text {i} word{i}x")))
        .collect();
    // These hold the first answer, or are the same passage again: never distractors of the first.
    records.push(nq("q14", "other", "The Word0x, too"));
    records.push(nq("q15", "third", "text 0 word0x"));
    let items = over("nq-open", 16, &[(file, lines(&records))]).unwrap();
    check(&items);
    let first: Vec<_> = items.iter().filter(|item| item.id.starts_with("0/")).collect();
    let at = |item: &Item| {
        let tells: Vec<_> =
            (0..10).filter(|&i| item.fragments[i].text.to_lowercase().contains("word0x")).collect();
        assert_eq!(tells.len(), 1, "{item:?}");
        tells[0]
    };
    assert_eq!(first.iter().map(|item| at(item)).collect::<Vec<_>>(), [0, 5, 9]);
    says(over("nq-open", 1, &[(file, lines(&records[..5]))]), &["only 4 passages"]);
    records[2]["ctxs"][0]["isgold"] = json!(false);
    says(over("nq-open", 1, &[(file, lines(&records))]), &[file, "line 3", "gold"]);
}

#[test]
fn key_values() {
    let file = "kv-retrieval-75_keys.dev.jsonl";
    let pairs: Vec<_> = (0..12).map(|i| json!([format!("k{i}"), format!("v{i}")])).collect();
    let good = json!({"ordered_kv_records": pairs, "key": "k7", "value": "v7"});
    let items = over("kv-75", 1, &[(file, lines(std::slice::from_ref(&good)))]).unwrap();
    assert_eq!(items[0].fragments.len(), 3, "five, five and two");
    assert!(items[0].fragments[1].text.contains("\"k7\": \"v7\"\n"));
    assert_eq!((items[0].answers[0].as_str(), items[0].group.as_str()), ("v7", "2nd third"));
    let mut bad = good.clone();
    bad["key"] = json!("k99");
    says(over("kv-75", 1, &[(file, lines(&[good.clone(), bad]))]), &[file, "line 2", "k99"]);
    let mut bad = good;
    bad["value"] = json!("v8");
    says(over("kv-75", 1, &[(file, lines(&[bad]))]), &["line 1", "another value"]);
    says(over("kv-140", 1, &[]), &["kv-retrieval-140_keys"]);
    let made = made("key-value", 1, 2);
    check(&made);
    assert_eq!(made[0].fragments.len(), 8);
}

#[test]
fn ruler() {
    let file = "niah_multikey_3.dev.jsonl";
    let needles =
        (0..7).map(|i| format!("The code of k{i} is: v{i}.\n")).collect::<Vec<_>>().concat();
    let input = format!("Remember the codes.\n{needles}What is the code of k6? The code of k6 is");
    let good = json!({"index": 5, "input": input, "outputs": ["v6"], "length": 9});
    let items = over("ruler-multikey", 1, &[(file, lines(std::slice::from_ref(&good)))]).unwrap();
    let item = &items[0];
    assert_eq!(
        (item.id.as_str(), item.fragments.len(), item.group.as_str()),
        ("5", 2, "3rd third")
    );
    assert!(item.fragments[0].text.starts_with("Remember the codes.\nThe code of k0"));
    assert_eq!(item.tail.user, "What is the code of k6?");
    assert_eq!(item.tail.begin, "The code of k6 is");
    for (field, value, word) in [
        ("input", json!("a\nb\nno question"), "asks nothing"),
        ("input", json!("What?"), "no lines"),
        ("outputs", json!(["v9"]), "no line holds"),
        ("outputs", json!([]), "without answers"),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        says(
            over("ruler-multikey", 1, &[(file, lines(&[good.clone(), bad]))]),
            &["line 2", "item 5", word],
        );
    }
}

#[test]
fn xquad() {
    let file = "xquad.en.dev.json";
    let paragraph = |i: usize| {
        json!({
            "context": format!("Text {i} tells word{i}x."),
            "qas": [{"id": format!("id{i}"), "question": "What?",
                     "answers": [{"text": format!("word{i}x"), "answer_start": 0}]}],
        })
    };
    let articles: Vec<_> = (0..12)
        .map(|i| json!({"title": format!("An_{i}"), "paragraphs": [paragraph(i)]}))
        .collect();
    let good = json!({"version": "1.1", "data": articles});
    let items = over("xquad-en", 12, &[(file, good.to_string())]).unwrap();
    check(&items);
    for item in &items {
        assert_eq!(item.fragments.len(), 10);
        let tells = |f: &&crate::item::Fragment| f.text.contains(&item.answers[0]);
        assert_eq!(item.fragments.iter().filter(tells).count(), 1);
        assert!(item.fragments[0].text.starts_with("An "), "underscores are spaces");
    }
    let mut few = good.clone();
    few["data"].as_array_mut().unwrap().truncate(4);
    says(over("xquad-en", 1, &[(file, few.to_string())]), &["only 3 paragraphs"]);
    let mut bad = good;
    bad["data"][0]["paragraphs"][0]["qas"][0]["answers"] = json!([]);
    says(
        over("xquad-en", 1, &[(file, bad.to_string())]),
        &[file, "line 1", "id0", "without answers"],
    );
}

#[test]
fn banking77() {
    let (train, test) = ("banking77_train.dev.csv", "banking77_test.dev.csv");
    let mut rows = "text,category\r\n".to_owned();
    for intent in 0..12 {
        for text in 0..4 {
            write!(rows, "\"message {text}, please\",intent_{intent}\r\n").unwrap();
        }
    }
    let asked = "text,category\nhelp me,intent_3\nand me,intent_4\n".to_owned();
    let items = over("banking77", 2, &[(train, rows.clone()), (test, asked.clone())]).unwrap();
    check(&items);
    for item in &items {
        assert_eq!(item.fragments.len(), 30);
        let label = format!("\nLabel: {}\n", item.answers[0]);
        assert_eq!(item.fragments.iter().filter(|f| f.text.contains(&label)).count(), 3);
    }
    let none = "text,category\nhelp,intent_99\n".to_owned();
    says(
        over("banking77", 1, &[(train, rows.clone()), (test, none)]),
        &["intent_99", "fewer than 3"],
    );
    says(
        over("banking77", 1, &[(train, rows + "alone\n"), (test, asked.clone())]),
        &[train, "line 50", "1 fields"],
    );
    let few = "text,category\na,one\n".to_owned();
    says(over("banking77", 1, &[(train, few), (test, asked)]), &["0 intents", "10 are needed"]);
}

#[test]
fn gsm8k() {
    let file = "gsm8k_test.dev.jsonl";
    let record = |i: usize| json!({"question": format!("Sum {i}?"), "answer": format!("It is <<1+{i}={i}>>{i}.\n#### 1,00{i}")});
    let records: Vec<_> = (0..8).map(record).collect();
    let items = over("gsm8k", 3, &[(file, lines(&records))]).unwrap();
    check(&items);
    for item in &items {
        assert_eq!(item.fragments.len(), 5);
        assert!(item.answers[0].starts_with("It is ") && !item.answers[0].contains("<<"));
        assert_eq!(item.answers[1], format!("100{}", item.id));
        let shown = |other: &Item| {
            item.fragments.iter().any(|f| f.text.contains(&format!("Sum {}?", other.id)))
        };
        assert!(!items.iter().any(shown), "shots are no questions");
    }
    says(over("gsm8k", 4, &[(file, lines(&records))]), &["9 problems", "the file has 8"]);
    let mut bad = records;
    bad[6]["answer"] = json!("It is six.");
    says(over("gsm8k", 1, &[(file, lines(&bad))]), &[file, "line 7", "####"]);
}

#[test]
fn updates() {
    let file = "pi_llm_updates.dev.json";
    let values = |count: usize| (0..count).map(|i| format!("value {i}")).collect::<Vec<_>>();
    let good = json!({"a": values(24), "b": values(30), "c": values(24), "d": values(24), "e": values(24)});
    let items = over("updates", 2, &[(file, good.to_string())]).unwrap();
    check(&items);
    assert_eq!(items.len(), 2 * 3 * 3);
    for three in items.chunks(3) {
        let [kept, told, dropped] = three else { unreachable!() };
        let per_key: usize = kept.group.split(' ').next().unwrap().parse().unwrap();
        let counts = [kept, told, dropped].map(|item| item.fragments.len());
        assert_eq!(counts, [4 * per_key, 4 * per_key + 1, 4]);
        let key = kept.tail.user.split('"').nth(1).unwrap();
        let last =
            kept.fragments.iter().rfind(|f| f.text.starts_with(&format!("{key}: "))).unwrap();
        assert_eq!(last.text, format!("{key}: {}\n", kept.answers[0]));
        assert_eq!(kept.answers, dropped.answers);
        let advice = told.fragments.iter().position(|f| f.text.starts_with("Forget")).unwrap();
        assert_eq!(told.fragments[advice + 1], *last);
    }
    let bad = json!({"a": values(24), "b": values(23)});
    says(over("updates", 1, &[(file, bad.to_string())]), &[file, "line 1", "23 values", "24"]);
}
