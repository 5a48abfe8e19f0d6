//! Given this work, these plans, one for each step.

use crate::world::{CONFIG, World, request, shape};
use engine::{
    Config,
    JoinPolicy::{Recompute, Reuse},
    Request,
};

/// Submits all requests at once; then each step must plan the next line.
fn check(pages: usize, config: Config, requests: &[Request], expected: &[&str]) {
    let mut world = World::new(shape(4, pages), config);
    for request in requests {
        world.submit(request.clone(), usize::MAX).unwrap();
    }
    let mut planned = Vec::new();
    while planned.len() < 100 {
        planned.push(world.core.plan_text());
        if planned.last().is_some_and(|plan| plan == "nothing") {
            break;
        }
        world.step();
    }
    assert_eq!(planned, expected, "\n{}", planned.join("\n"));
}

fn answering(tokens: usize, request: Request) -> Request {
    Request { max_tokens: tokens, ..request }
}

#[test]
fn a_composition_is_encoded_then_its_tail_is_forwarded() {
    let request = request(Reuse, &[1; 5], &[&[2; 6], &[3; 18], &[2; 6]], &[4; 3]);
    check(
        20,
        CONFIG,
        &[answering(2, request)],
        &[
            "admit 1 with 10 pages, 0 cached",
            "encode 0..5",
            "encode 0..6 · encode 0..10",
            "encode 10..18",
            "forward 1 0..3",
            "forward 1 3..4",
            "nothing",
        ],
    );
}

#[test]
fn recompute_takes_whole_cached_pages_and_leaves_the_last_token() {
    let first = request(Recompute, &[1; 5], &[&[2; 13]], &[4; 2]);
    let config = Config { running_max: 1, ..CONFIG };
    check(
        20,
        config,
        &[answering(1, first.clone()), answering(1, first)],
        &[
            "admit 1 with 5 pages, 0 cached",
            "forward 1 0..16",
            "forward 1 16..20",
            "admit 2 with 1 pages, 4 cached",
            "forward 2 16..20",
            "nothing",
        ],
    );
}

#[test]
fn tenants_take_turns() {
    let of = |tenant: &str| Request {
        tenant: tenant.into(),
        ..answering(1, request(Recompute, &[1], &[], &[2]))
    };
    let config = Config { running_max: 1, ..CONFIG };
    check(
        20,
        config,
        &[of("a"), of("a"), of("b"), of("a")],
        &[
            "admit 1 with 1 pages, 0 cached",
            "forward 1 0..2",
            "admit 3 with 1 pages, 0 cached",
            "forward 3 0..2",
            "admit 2 with 1 pages, 0 cached",
            "forward 2 0..2",
            "admit 4 with 1 pages, 0 cached",
            "forward 4 0..2",
            "nothing",
        ],
    );
}

#[test]
fn decodes_come_before_a_long_prefill() {
    let short = answering(4, request(Recompute, &[1], &[], &[2]));
    let long = answering(1, request(Recompute, &[1; 30], &[], &[2]));
    check(
        30,
        CONFIG,
        &[short, long],
        &[
            "admit 1 with 1 pages, 0 cached · admit 2 with 8 pages, 0 cached",
            "forward 1 0..2 · forward 2 0..14",
            "forward 1 2..3 · forward 2 14..30",
            "forward 1 3..4 · forward 2 30..31",
            "forward 1 4..5 +page",
            "nothing",
        ],
    );
}

#[test]
fn the_youngest_is_preempted_and_comes_back() {
    let one = answering(6, request(Recompute, &[1], &[], &[2, 3]));
    let other = answering(6, request(Recompute, &[5], &[], &[6, 7]));
    check(
        3,
        CONFIG,
        &[one, other],
        &[
            "admit 1 with 1 pages, 0 cached · admit 2 with 1 pages, 0 cached",
            "forward 1 0..3 · forward 2 0..3",
            "forward 1 3..4 · forward 2 3..4",
            "forward 1 4..5 +page · preempt 2",
            "forward 1 5..6",
            "forward 1 6..7",
            "forward 1 7..8",
            // The first one's page was published when it ended, and is spare.
            "evict prefix",
            "admit 2 with 1 pages, 1 cached",
            "forward 2 4..5 · evict prefix",
            "forward 2 5..6",
            "forward 2 6..7",
            "forward 2 7..8",
            "nothing",
        ],
    );
}
