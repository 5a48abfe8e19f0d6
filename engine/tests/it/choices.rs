//! A model that keeps its logits and says what choices are made of has the same answers as one that
//! hands out rows, and hands them out only where a choice is not enough.

use crate::{
    hash_model::mix,
    oracle::Answer,
    world::{CONFIG, GREEDY, Heard, World, request, shape},
};
use engine::{JoinPolicy, Request, Sampling};

/// A world whose model offers choices of so many tokens.
fn offering(count: usize) -> World {
    World::over(shape(4, 60), CONFIG, None, Some(count))
}

/// A request that asks for a token at a time in one of many ways; `with_scores` may ask for more.
fn any(seed: u64, with_scores: bool) -> Request {
    let mut drawn = mix(seed);
    let mut below = |n: usize| {
        drawn = mix(drawn);
        (drawn % n as u64) as usize
    };
    let mut pick = |of: &[f32]| of[below(of.len())];
    let mut sampling = Sampling {
        temperature: pick(&[0.0, 0.5, 1.0, 2.0]),
        top_k: pick(&[0.0, 0.0, 3.0, 7.0, 12.0, 300.0]) as usize,
        top_p: pick(&[0.3, 0.6, 0.9, 1.0, 1.0]),
        min_p: pick(&[0.0, 0.0, 0.1, 0.4]),
        presence_penalty: pick(&[0.0, 0.0, 0.0, 0.5]),
        seed,
        ..GREEDY
    };
    if below(4) == 0 {
        sampling.forced = (0..=below(3)).map(|_| below(40) as u32).collect();
    }
    let policy = [JoinPolicy::Recompute, JoinPolicy::Reuse][below(2)];
    let logprobs = (with_scores && below(3) == 0).then(|| below(3));
    let echo = logprobs.is_some() && below(2) == 0;
    let tail = [below(40) as u32, 5, 6];
    let request = request(policy, &[1, 2], &[&[10, 11, 12], &[20, 21]], &tail);
    Request { sampling, logprobs, echo, max_tokens: 12, ..request }
}

/// What all of them hear, when they run together.
fn answers(world: &mut World, requests: &[Request]) -> Vec<Answer> {
    let submit = |request: &Request| world.submit(request.clone(), usize::MAX).unwrap().1;
    let heard: Vec<Heard> = requests.iter().map(submit).collect();
    world.finish();
    heard.iter().map(|heard| Answer::heard(&heard.lock().unwrap()).unwrap()).collect()
}

#[test]
fn choices_answer_like_rows() {
    let mut total = [0, 0];
    for seed in 0..400 {
        let requests: Vec<_> = (0..4).map(|i| any(seed * 4 + i, seed % 2 == 0)).collect();
        let mut world = offering((seed % 11) as usize);
        let mut plain = World::new(shape(4, 60), CONFIG);
        assert_eq!(answers(&mut world, &requests), answers(&mut plain, &requests), "{seed}");
        assert_eq!(plain.given.counts()[1], 0, "nobody asked for choices");
        total.iter_mut().zip(world.given.counts()).for_each(|(to, count)| *to += count);
    }
    let [rows, choices] = total;
    assert!(rows > 2_000 && choices > 5_000, "{rows} rows and {choices} choices");
}

/// Of what is greedy, forced, or certain to be among the likeliest, no row is ever copied.
#[test]
fn tokens_take_no_rows() {
    let mut world = offering(8);
    let sampled = Sampling { temperature: 1.0, seed: 3, ..GREEDY };
    let forced = Sampling { forced: vec![9, 8, 7], ..GREEDY };
    let few = Sampling { top_k: 8, ..sampled.clone() };
    let likely = Sampling { min_p: 0.9, ..sampled };
    let of = |sampling: &Sampling| Request { sampling: sampling.clone(), ..any(1, false) };
    let requests = [&GREEDY, &forced, &few, &likely].map(of);
    answers(&mut world, &requests);
    assert_eq!(world.given.counts(), [0, 4 * 12]);
}

/// Where rows are wanted anyway, nothing else is asked for.
#[test]
fn what_takes_rows_takes_no_choices() {
    let mut world = offering(8);
    let all = Sampling { temperature: 1.0, ..GREEDY };
    let penalized = Sampling { frequency_penalty: 0.3, ..GREEDY };
    let many = Sampling { top_k: 1000, ..all.clone() };
    let of = |sampling: &Sampling| Request { sampling: sampling.clone(), ..any(1, false) };
    let scored = Request { logprobs: Some(0), ..of(&GREEDY) };
    let requests = [of(&all), of(&penalized), of(&many), scored];
    answers(&mut world, &requests);
    assert_eq!(world.given.counts(), [4 * 12, 0]);
}
