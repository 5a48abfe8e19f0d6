//! A step of decoding allocates nothing: counted, over a real decoder with two threads.

use engine::{
    Clock, Composition, Config, Core, Engine, FragmentSpec, JoinPolicy, Priority, Request, Sampling,
};
use models::{Decoder, KvDtype, LoadOptions, TokenId};
use std::{path::Path, sync::Arc, time::Duration};

struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

const ROOT: [TokenId; 3] = [1, 17, 40];

fn stepwise(arch: &str) -> (Engine, Core) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/data/tiny").join(arch);
    let options = LoadOptions {
        threads: 2,
        kv_dtype: KvDtype::F16,
        kv_bytes: 16 << 20,
        page_rows: 16,
        ..LoadOptions::default()
    };
    let decoder = Decoder::load(&folder, &options, &[0; 32]).expect("a tiny model loads").0;
    Engine::stepwise(Box::new(decoder), None, Config::default(), Arc::new(Still), None)
}

fn request(policy: JoinPolicy, sampling: Sampling, max_tokens: usize) -> Request {
    let placements =
        [[5, 6, 7].as_slice(), &[90, 91]].map(|tokens| Arc::<[u32]>::from(tokens).into());
    let placements = placements.to_vec();
    Request {
        tenant: "test".into(),
        composition: Composition { root: ROOT.into(), placements, tail: vec![77, 78, 79] },
        policy,
        selected: None,
        sampling,
        stop_tokens: Vec::new(),
        stop_strings: Vec::new(),
        max_tokens,
        logprobs: None,
        echo: false,
        priority: Priority::Normal,
        seal: None,
    }
}

/// Steps until every row of the prompts is computed, and until both sequences took a new page.
fn warm(core: &mut Core) {
    for _ in 0..60 {
        assert!(core.step(), "long answers go on");
    }
}

#[test]
fn decoding_allocates_nothing() {
    let chance = Sampling {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        presence_penalty: 0.5,
        seed: 7,
        ..Sampling::greedy()
    };
    for arch in ["llama", "qwen2", "gemma3"] {
        let (engine, mut core) = stepwise(arch);
        for (policy, sampling) in
            [(JoinPolicy::Reuse, Sampling::greedy()), (JoinPolicy::Recompute, chance.clone())]
        {
            engine.submit(request(policy, sampling, 180), Box::new(|_| true)).unwrap();
        }
        warm(&mut core);
        let before = core.stats().tokens_generated;
        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                assert!(core.step(), "long answers go on");
            }
        });
        let generated = core.stats().tokens_generated - before;
        assert_eq!(generated, 200, "two sequences, a token each in every step");
        assert_eq!(counted.count_total, 0, "{arch}: allocations of 100 steps of decoding");
    }
}

/// Prefill may make its arrays larger once, not again for the next chunk of the same size.
#[test]
fn prefill_of_known_size_allocates_for_the_job_alone() {
    let (engine, mut core) = stepwise("llama");
    let mut put_and_encode = |first: TokenId| {
        let tokens = (first..first + 60).collect::<Vec<_>>().into();
        let spec = FragmentSpec {
            tenant: "test".into(),
            root: ROOT.into(),
            tokens,
            pin: false,
            priority: Priority::Normal,
        };
        let reply = engine.begin_put(spec).unwrap();
        let counted = allocation_counter::measure(|| while core.step() {});
        assert!(reply.try_recv().unwrap().is_ok());
        counted.count_total
    };
    put_and_encode(10);
    let counted = put_and_encode(100);
    assert!(counted < 40, "{counted} allocations to admit, encode and answer one put");
}
