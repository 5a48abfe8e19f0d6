//! The same again, different for another purpose, even.

use super::Chance;

#[test]
fn a_seed_and_a_purpose_give_the_same_again() {
    let draw = |seed, purpose| {
        let mut chance = Chance::new(seed, purpose);
        (0..8).map(|_| chance.below(1000)).collect::<Vec<_>>()
    };
    assert_eq!(draw(1, "a"), draw(1, "a"));
    assert_ne!(draw(1, "a"), draw(2, "a"));
    assert_ne!(draw(1, "a"), draw(1, "b"));
}

#[test]
fn numbers_are_even() {
    let mut chance = Chance::new(3, "even");
    let mut seen = [0; 10];
    for _ in 0..10_000 {
        seen[chance.below(10)] += 1;
    }
    // Five standard deviations of a binomial count around 1,000.
    assert!(seen.iter().all(|&count: &i32| (count - 1000).abs() < 150), "{seen:?}");
}

#[test]
fn a_sample_takes_no_place_twice() {
    let mut chance = Chance::new(5, "sample");
    let mut sample = chance.sample(&(0..20).collect::<Vec<_>>(), 20);
    assert_ne!(sample, (0..20).collect::<Vec<_>>(), "shuffled");
    sample.sort_unstable();
    assert_eq!(sample, (0..20).collect::<Vec<_>>());
    assert_eq!(chance.hex(12).len(), 12);
}
