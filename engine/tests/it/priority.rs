//! Urgent work gets its place and its rows first, and nobody else pays for it.

use crate::world::{CONFIG, World, request, shape, spec};
use engine::{
    Config, Event, FragmentSpec,
    JoinPolicy::{Recompute, Reuse},
    Priority::{self, High, Low, Normal},
    Request,
};
use models::ModelShape;

const ONE_PLACE: Config = Config { running_max: 1, ..CONFIG };

fn answering(tokens: usize, tenant: &str, priority: Priority) -> Request {
    let request = request(Recompute, &[1], &[], &[2]);
    Request { max_tokens: tokens, tenant: tenant.into(), priority, ..request }
}

/// Steps of many rows.
fn wide(pages: usize) -> ModelShape {
    ModelShape { batch_rows_max: 128, ..shape(4, pages) }
}

fn steps(world: &mut World, count: usize) {
    for _ in 0..count {
        world.step();
    }
}

/// The plans of all steps from here to the end.
fn plans(world: &mut World) -> Vec<String> {
    let mut planned = Vec::new();
    while planned.len() < 100 {
        let plan = world.core.plan_text();
        if plan == "nothing" {
            break;
        }
        planned.push(plan);
        world.step();
    }
    planned
}

/// Whom those plans admit, in order.
fn admitted(world: &mut World) -> Vec<String> {
    let plans = plans(world);
    let parts = plans.iter().flat_map(|plan| plan.split(" · "));
    let admissions = parts.filter_map(|part| part.strip_prefix("admit "));
    admissions.map(|rest| rest.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn a_tenants_most_urgent_come_first_and_tenants_take_turns_all_the_same() {
    let mut world = World::new(shape(4, 20), ONE_PLACE);
    for (tenant, priority) in [("a", Low), ("a", High), ("b", Low), ("a", Normal), ("a", High)] {
        world.submit(answering(1, tenant, priority), usize::MAX).unwrap();
    }
    assert_eq!(admitted(&mut world), ["2", "3", "5", "4", "1"]);
}

#[test]
fn an_urgent_call_takes_the_place_of_a_less_urgent_one_which_loses_nothing() {
    let alone = World::new(shape(4, 20), ONE_PLACE).answer(answering(8, "t", Low));
    let mut world = World::new(shape(4, 20), ONE_PLACE);
    let (_, patient) = world.submit(answering(8, "t", Low), usize::MAX).unwrap();
    steps(&mut world, 4);
    let (_, urgent) = world.submit(answering(2, "t", High), usize::MAX).unwrap();
    let plans = plans(&mut world);
    assert!(plans[0].contains("preempt 1"), "{plans:?}");
    assert!(plans[1].starts_with("admit 2 "), "{plans:?}");
    assert_eq!(tokens(&urgent.lock().unwrap()), tokens(&alone)[..2]);
    assert_eq!(tokens(&patient.lock().unwrap()), tokens(&alone));
}

#[test]
fn nobody_gives_way_to_another_tenant_or_to_one_as_urgent() {
    for (tenant, priority) in [("other", High), ("t", Normal), ("t", Low)] {
        let mut world = World::new(shape(4, 20), ONE_PLACE);
        world.submit(answering(6, "t", Normal), usize::MAX).unwrap();
        steps(&mut world, 2);
        world.submit(answering(1, tenant, priority), usize::MAX).unwrap();
        let plans = plans(&mut world);
        assert!(!plans.iter().any(|plan| plan.contains("preempt")), "{plans:?}");
    }
}

#[test]
fn where_memory_is_full_the_least_urgent_goes_first() {
    let mut world = World::new(shape(4, 3), CONFIG);
    world.submit(answering(7, "t", Low), usize::MAX).unwrap();
    world.submit(answering(7, "t", Normal), usize::MAX).unwrap();
    let plans = plans(&mut world);
    let preempted = plans.iter().filter(|plan| plan.contains("preempt")).collect::<Vec<_>>();
    assert!(!preempted.is_empty() && preempted.iter().all(|plan| plan.contains("preempt 1")));
}

#[test]
fn work_that_nobody_waits_for_gets_a_few_rows_beside_others_and_all_of_them_alone() {
    let background = FragmentSpec { priority: Low, ..spec(&[1], &[3; 100]) };
    let mut world = World::new(wide(40), Config { prefill_rows_per_step: 64, ..CONFIG });
    world.submit(answering(3, "t", Normal), usize::MAX).unwrap();
    let put = world.engine.begin_put(background).unwrap();
    let plans = plans(&mut world);
    assert_eq!(
        plans,
        [
            "admit 1 with 1 pages, 0 cached · admit 2 with 26 pages, 0 cached",
            "forward 1 0..2 · encode 0..1",
            "forward 1 2..3 · encode 0..32",
            "forward 1 3..4 · encode 32..64",
            "encode 64..100",
        ]
    );
    put.recv().unwrap().unwrap();
}

#[test]
fn work_that_nobody_waits_for_gets_its_rows_though_others_want_all_there_are() {
    let mut world = World::new(wide(100), Config { prefill_rows_per_step: 64, ..CONFIG });
    let long = world.engine.begin_put(spec(&[1], &[5; 150])).unwrap();
    let few = FragmentSpec { priority: Low, ..spec(&[1], &[3; 20]) };
    let few = world.engine.begin_put(few).unwrap();
    let plans = plans(&mut world);
    assert_eq!(plans[1..3], ["encode 0..1", "encode 0..44 · encode 0..20"], "{plans:?}");
    few.recv().unwrap().unwrap();
    long.recv().unwrap().unwrap();
}

#[test]
fn work_that_nobody_waits_for_gets_a_quarter_of_a_step_that_prefills_anyway_the_shortest_first() {
    let shape = ModelShape { batch_rows_max: 160, ..shape(4, 120) };
    let mut world = World::new(shape, Config { prefill_rows_per_step: 300, ..CONFIG });
    let long = world.engine.begin_put(spec(&[1], &[5; 190])).unwrap();
    let low = |tokens: &[u32]| FragmentSpec { priority: Low, ..spec(&[1], tokens) };
    let low = [low(&[3; 100]), low(&[4; 20])].map(|low| world.engine.begin_put(low).unwrap());
    let plans = plans(&mut world);
    let expected = [
        "encode 0..1",
        "encode 0..120 · encode 0..20 · encode 0..20",
        // What more urgent work leaves is not taken: the step is to be short for those who wait.
        "encode 120..190 · encode 20..60",
        "encode 60..100",
    ];
    assert_eq!(plans[1..5], expected, "{plans:?}");
    for put in low.into_iter().chain([long]) {
        put.recv().unwrap().unwrap();
    }
}

/// What it takes is evictable when it is done, so it holds up nobody.
#[test]
fn a_few_tokens_in_the_background_pass_by_what_waits_for_pages() {
    let mut world = World::new(shape(4, 12), CONFIG);
    // Unused KV to evict, a job that holds most of the pages, and one that finds too few.
    let unused = world.engine.begin_put(spec(&[1], &[9; 4])).unwrap();
    steps(&mut world, 4);
    unused.recv().unwrap().unwrap();
    world.submit(answering(20, "t", Normal), usize::MAX).unwrap();
    steps(&mut world, 3);
    let large = world.engine.begin_put(spec(&[1], &[5; 36])).unwrap();
    steps(&mut world, 2);
    let few = FragmentSpec { priority: Low, ..spec(&[1], &[3; 4]) };
    let few = world.engine.begin_put(few).unwrap();
    steps(&mut world, 4);
    assert!(few.try_recv().unwrap().is_ok(), "it was encoded");
    assert!(large.try_recv().is_err(), "beside one that waits for pages");
    plans(&mut world);
    large.recv().unwrap().unwrap();
}

#[test]
fn fragments_do_not_wait_for_the_places_of_generations() {
    let mut world = World::new(shape(4, 40), ONE_PLACE);
    for _ in 0..3 {
        world.submit(answering(30, "t", Normal), usize::MAX).unwrap();
    }
    world.step();
    let put = world.engine.begin_put(spec(&[1], &[3; 4])).unwrap();
    steps(&mut world, 4);
    assert!(put.try_recv().unwrap().is_ok(), "it was encoded beside the first of the generations");
}

#[test]
fn an_urgent_composition_is_not_held_up_by_what_encodes_its_fragment_at_leisure() {
    let config = Config { prefill_rows_per_step: 28, ..CONFIG };
    let mut world = World::new(shape(4, 60), config);
    let put = world.engine.begin_put(FragmentSpec { priority: Low, ..spec(&[1], &[3; 40]) });
    let request = request(Reuse, &[1], &[&[3; 40]], &[2]);
    world.submit(Request { max_tokens: 1, ..request }, usize::MAX).unwrap();
    let plans = plans(&mut world);
    assert!(plans.iter().any(|plan| plan.contains("encode 0..28")), "{plans:?}");
    put.unwrap().recv().unwrap().unwrap();
}

/// Not even by what it would look at itself.
#[test]
fn what_waits_in_the_background_keeps_nothing_from_who_is_first() {
    let mut world = World::new(shape(4, 12), CONFIG);
    let unused = world.engine.begin_put(spec(&[7], &[9; 4])).unwrap();
    plans(&mut world);
    unused.recv().unwrap().unwrap();
    // All pages there are, and most of them, after a root that has to go for the first.
    let large = world.engine.begin_put(spec(&[1], &[5; 44])).unwrap();
    let low = FragmentSpec { priority: Low, ..spec(&[7], &[3; 40]) };
    let low = world.engine.begin_put(low).unwrap();
    plans(&mut world);
    assert!(large.try_recv().unwrap().is_ok());
    assert!(low.try_recv().unwrap().is_ok());
}

fn tokens(events: &[Event]) -> Vec<u32> {
    let token = |event: &Event| match event {
        Event::Token { token, .. } => Some(*token),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}
