//! How near an answer's text is to the right ones: SQuAD's normalisation, F1, EM, sub-span EM, and
//! Rouge-L; and whether it says that the documents do not tell.

use std::collections::HashMap;

/// What a model is told to say where the documents do not tell.
pub(crate) const NOT_FOUND: &str = "not in the documents";

/// How near `answer` is to the nearest of `golds`, by each measure on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Nearness {
    pub(crate) f1: f64,
    pub(crate) em: f64,
    pub(crate) sub_em: f64,
    pub(crate) rouge_l: f64,
}

impl Nearness {
    pub(crate) fn of(answer: &str, golds: &[String]) -> Self {
        let answer = normalised(answer);
        golds.iter().map(|gold| normalised(gold)).fold(Self::default(), |best, gold| Self {
            f1: best.f1.max(f1(&answer, &gold)),
            em: best.em.max(share(answer == gold)),
            sub_em: best.sub_em.max(share(answer.contains(&gold))),
            rouge_l: best.rouge_l.max(rouge_l(&answer, &gold)),
        })
    }
}

/// The answer says that the documents do not tell.
pub(crate) fn is_refusal(answer: &str) -> bool {
    normalised(answer).contains(&normalised(NOT_FOUND))
}

/// 1 for yes.
pub(crate) fn share(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// As SQuAD's own scoring does (Rajpurkar et al., 2016): lower case, no ASCII punctuation, no
/// articles, single spaces.
pub(crate) fn normalised(text: &str) -> String {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.collect::<Vec<_>>().join(" ")
}

/// Harmonic mean of precision and recall over words, each as often as it stands. Two empty texts
/// are equal.
fn f1(answer: &str, gold: &str) -> f64 {
    let words = |text: &'_ str| text.split(' ').filter(|w| !w.is_empty()).count();
    let mut left = HashMap::<&str, usize>::new();
    for word in gold.split_whitespace() {
        *left.entry(word).or_default() += 1;
    }
    let shared = answer
        .split_whitespace()
        .filter(|word| match left.get_mut(word) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        })
        .count();
    harmonic(shared, words(answer), words(gold))
}

/// F-measure of the longest common subsequence of words (Lin, 2004), precision and recall alike.
fn rouge_l(answer: &str, gold: &str) -> f64 {
    let answer: Vec<_> = answer.split_whitespace().collect();
    let gold: Vec<_> = gold.split_whitespace().collect();
    let mut above = vec![0; gold.len() + 1];
    for word in &answer {
        let mut row = vec![0; gold.len() + 1];
        for (at, other) in gold.iter().enumerate() {
            row[at + 1] = if word == other { above[at] + 1 } else { row[at].max(above[at + 1]) };
        }
        above = row;
    }
    harmonic(above[gold.len()], answer.len(), gold.len())
}

fn harmonic(shared: usize, answer: usize, gold: usize) -> f64 {
    if answer + gold == 0 { 1.0 } else { 2.0 * shared as f64 / (answer + gold) as f64 }
}

#[cfg(test)]
mod tests {
    use super::{Nearness, is_refusal, normalised};

    fn near(answer: &str, golds: &[&str]) -> Nearness {
        Nearness::of(answer, &golds.iter().map(|&gold| gold.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn normalisation_is_squads() {
        assert_eq!(
            normalised("The  Lord's-Prayer, an\tEpic!"),
            "lords-prayer epic".replace('-', "")
        );
        assert_eq!(normalised("A.B.C."), "abc");
        assert_eq!(normalised("ÉCOLE – the"), "école –", "only ASCII punctuation goes");
    }

    #[test]
    fn by_hand() {
        // Two of three words shared with a gold of four: precision 2/3, recall 1/2.
        let n = near("red big house", &["the big red old barn"]);
        assert!((n.f1 - 2.0 * 2.0 / (3.0 + 4.0)).abs() < 1e-12, "{n:?}");
        assert_eq!((n.em, n.sub_em), (0.0, 0.0));
        // "red" or "big" in order: one word of the subsequence.
        assert!((n.rouge_l - 2.0 / 7.0).abs() < 1e-12, "{n:?}");
        // A word counts as often as it stands in both.
        assert!((near("yes yes yes", &["yes no"]).f1 - 2.0 / 5.0).abs() < 1e-12);
        let n = near("It was in the year 1901.", &["1901", "MCMI"]);
        assert_eq!((n.em, n.sub_em), (0.0, 1.0));
        assert!((n.f1 - 2.0 / 6.0).abs() < 1e-12, "it was in year 1901 against 1901");
        assert_eq!(
            near("the Beatles", &["Stones", "Beatles"]),
            Nearness { f1: 1.0, em: 1.0, sub_em: 1.0, rouge_l: 1.0 }
        );
        assert_eq!(near("", &["x"]), Nearness::default());
        assert!((near("a b c d", &["b x d"]).rouge_l - 2.0 * 2.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn refusals_are_heard() {
        assert!(is_refusal("Not in the documents."));
        assert!(is_refusal("That is NOT in documents"));
        assert!(!is_refusal("in the documents"));
    }
}
