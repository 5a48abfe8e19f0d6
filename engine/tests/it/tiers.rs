//! The tiers under the engine, over real decoders: what was encoded once comes back after eviction,
//! after a restart, and in another server, to the bit, and nobody gets what is another's.

use crate::real_models::{ROOT, Still, score, tiny_with};
use engine::{
    Composition, Config, Disk, DiskConfig, Engine, Event, FragmentId, FragmentInfo, FragmentSpec,
    Host, JoinPolicy, Layered, Origin, Placement, Priority, Request, RequestError, Sampling, Seal,
    Shared, SharedConfig, Stats, StoreUrl, Summary, Tier, TokenLogprob,
};
use kernels::KvDtype;
use models::{Model as _, TokenId};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

const ARCH: &str = "qwen2";
/// Memory for few fragments.
const SMALL: usize = 256 << 10;
const PARTS: [&[TokenId]; 2] = [&[5, 42, 79, 116, 153, 190, 227], &[71, 108, 145, 182, 219]];

/// An engine over what the folder keeps; each has a process's life.
fn engine(dir: &Path) -> Engine {
    start(|origin| disk(dir, origin))
}

fn disk(dir: &Path, origin: Origin) -> Box<dyn Tier> {
    let config = DiskConfig { dir: dir.to_owned(), bytes_max: 1 << 20, origin };
    Box::new(Disk::open(config, Arc::new(Still)).unwrap())
}

/// What several engines keep in a folder.
fn shared(dir: &Path, origin: Origin) -> Box<dyn Tier> {
    let config = SharedConfig { url: StoreUrl::Folder(dir.to_owned()), origin, rows_min: 1 };
    Box::new(Shared::open(config, Arc::new(Still)).unwrap())
}

fn start(tier: impl FnOnce(Origin) -> Box<dyn Tier>) -> Engine {
    start_with(16 << 20, tier)
}

/// The same with so much memory for KV.
fn start_with(kv_bytes: usize, tier: impl FnOnce(Origin) -> Box<dyn Tier>) -> Engine {
    let decoder = tiny_with(ARCH, 4, kv_bytes);
    let tier = tier(Origin::new(decoder.shape(), ARCH, KvDtype::F32));
    let config = Config::default();
    Engine::start_over(Box::new(decoder), None, config, Arc::new(Still), Some(tier))
}

/// The numbers after the step that gave the last answer: they are told behind it.
fn stats(engine: &Engine) -> Stats {
    assert!(engine.is_alive(Duration::from_mins(1)));
    engine.stats()
}

fn put(engine: &Engine, tenant: &str, tokens: &[TokenId], pin: bool) -> FragmentInfo {
    let (root, tokens) = (ROOT.into(), tokens.into());
    let (tenant, priority) = (tenant.into(), Priority::Normal);
    engine.put_fragment(FragmentSpec { tenant, root, tokens, pin, priority }).unwrap()
}

fn digest(engine: &Engine, id: FragmentId) -> Option<[u8; 32]> {
    engine.fragment("test", id, true).unwrap().digest
}

/// Ends the process as it should end: what is whole is kept.
fn stop(engine: &Engine) {
    engine.shutdown(Duration::from_secs(10));
}

#[test]
fn fragments_are_back_by_id_after_a_restart_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let first = engine(dir.path());
    let put = PARTS.map(|part| put(&first, "test", part, part == PARTS[0]));
    let before = score(&first, &ROOT, &PARTS, JoinPolicy::Reuse);
    let digests = put.each_ref().map(|info| digest(&first, info.id));
    stop(&first);

    let second = engine(dir.path());
    for (info, part) in put.iter().zip(PARTS) {
        let known = second.fragment("test", info.id, true).unwrap();
        assert_eq!((&*known.root, &*known.tokens), (&ROOT[..], part));
        assert_eq!((known.cached, known.stored, known.digest), (false, true, None));
        assert_eq!(known.pinned, part == PARTS[0]);
    }
    assert_eq!(score(&second, &ROOT, &PARTS, JoinPolicy::Reuse), before);
    assert_eq!(put.each_ref().map(|info| digest(&second, info.id)), digests);
    let stats = stats(&second);
    assert_eq!((stats.tokens_encoded, stats.fragments_stored), (0, 3), "{stats:?}");
    assert_eq!(stats.tokens_loaded as usize, ROOT.len() + PARTS[0].len() + PARTS[1].len());
    stop(&second);
}

/// Alone, before a disk, and before a disk that stands before a shared store.
#[test]
fn what_is_evicted_comes_back_from_memory_to_the_bit() {
    let [own, common] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let far = |layers: usize, origin: Origin| -> Option<Box<dyn Tier>> {
        match layers {
            1 => None,
            2 => Some(disk(&own.path().join("alone"), origin)),
            _ => {
                let near = disk(&own.path().join("before"), origin.clone());
                Some(Box::new(Layered::new(near, shared(common.path(), origin))))
            }
        }
    };
    for layers in 1..=3 {
        let engine = start_with(SMALL, |origin| {
            let memory = Box::new(Host::open(1 << 20, Arc::new(Still)).unwrap());
            match far(layers, origin) {
                Some(far) => Box::new(Layered::of_memory(memory, far)),
                None => memory,
            }
        });
        // More than fit, so that each puts out those before.
        let texts: Vec<Vec<TokenId>> = (0..8).map(|n| (n..n + 40).collect()).collect();
        let digests = || -> Vec<_> {
            let put = texts.iter().map(|text| put(&engine, "test", text, false).id);
            put.map(|id| digest(&engine, id)).collect()
        };
        let before = digests();
        let encoded = stats(&engine);
        assert!(encoded.evictions > 0 && encoded.tokens_loaded == 0, "{encoded:?}");
        assert_eq!(digests(), before);
        let loaded = stats(&engine);
        assert_eq!(loaded.tokens_encoded, encoded.tokens_encoded, "{loaded:?}");
        assert!(loaded.tokens_loaded >= 40 && loaded.tier_host.records > 0, "{loaded:?}");
        stop(&engine);
    }
}

/// A greedy answer over what is placed, which is sealed where that is asked for.
fn answer(
    engine: &Engine,
    placements: Vec<Placement>,
    seal: Option<Seal>,
) -> Result<(Vec<TokenLogprob>, Summary), RequestError> {
    let (sender, events) = mpsc::channel();
    let request = Request {
        tenant: "test".into(),
        composition: Composition { root: ROOT.into(), placements, tail: vec![90, 3, 77, 201] },
        policy: JoinPolicy::Boundary { tokens: 2 },
        selected: None,
        sampling: Sampling::greedy(),
        stop_tokens: Vec::new(),
        stop_strings: Vec::new(),
        max_tokens: 6,
        logprobs: Some(3),
        echo: false,
        priority: Priority::Normal,
        seal,
    };
    engine.submit(request, Box::new(move |event| sender.send(event).is_ok())).unwrap();
    let mut tokens = Vec::new();
    loop {
        match events.recv_timeout(Duration::from_mins(1)).unwrap() {
            Event::Token { logprob, .. } => tokens.extend(logprob),
            Event::Finished { summary, .. } => return Ok((tokens, summary)),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
}

/// The one file of a record in a folder of records.
fn file_of(dir: &Path, id: FragmentId) -> PathBuf {
    let folder = fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    folder.join(format!("{id}.safetensors"))
}

#[test]
fn a_sealed_turn_is_back_by_id_after_a_restart_to_the_bit_and_lost_when_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let first = engine(dir.path());
    let placed = || PARTS.map(|part| Placement::from(Arc::<[TokenId]>::from(part))).to_vec();
    let sealed = answer(&first, placed(), Some(Seal { closing: vec![9] })).unwrap().1.sealed;
    let id = sealed.expect("a sealed turn");
    let info = first.fragment("test", id, true).unwrap();
    let over = || {
        let turn = Placement { tokens: info.tokens.clone(), sealed: info.sealed.clone() };
        vec![turn, Arc::<[TokenId]>::from(PARTS[1]).into()]
    };
    let before = answer(&first, over(), None).unwrap().0;
    let seen = info.sealed.clone().expect("it is contextual").saw.to_vec();
    for id in &seen {
        first.drop_fragment("test", *id).unwrap();
    }
    stop(&first);

    let second = engine(dir.path());
    let known = second.fragment("test", id, true).unwrap();
    assert_eq!((known.cached, known.stored, known.digest), (false, true, None));
    assert_eq!((&known.root, &known.tokens), (&info.root, &info.tokens));
    assert_eq!(known.sealed, info.sealed, "all that it saw");
    assert!(second.fragment("other", id, false).is_err(), "another tenant's");
    assert!(seen.iter().all(|&id| second.fragment("test", id, false).is_err()), "they are gone");
    assert_eq!(answer(&second, over(), None).unwrap().0, before);
    assert_eq!(digest(&second, id), info.digest);
    assert_eq!(stats(&second).tokens_loaded as usize, ROOT.len() + info.tokens.len());
    // The same turn is the same fragment, there already.
    let again = answer(&second, placed(), Some(Seal { closing: vec![9] })).unwrap().1.sealed;
    assert_eq!(again, sealed);
    stop(&second);

    let file = file_of(dir.path(), id);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let third = engine(dir.path());
    assert!(third.fragment("test", id, false).unwrap().stored, "its head is sound");
    let refused = answer(&third, over(), None).unwrap_err();
    assert_eq!(refused, RequestError::UnknownFragment(id));
    assert!(third.fragment("test", id, false).is_err(), "it is forgotten");
    assert_eq!(answer(&third, over(), None).unwrap_err(), refused);
    // Made once more, it is the same as ever.
    answer(&third, placed(), Some(Seal { closing: vec![9] })).unwrap();
    assert_eq!(digest(&third, id), info.digest);
    assert_eq!(answer(&third, over(), None).unwrap().0, before);
    stop(&third);
    assert!(engine(dir.path()).fragment("test", id, false).unwrap().stored, "kept once more");
}

#[test]
fn tenants_share_nothing_through_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let first = engine(dir.path());
    put(&first, "test", PARTS[0], false);
    stop(&first);
    let second = engine(dir.path());
    let theirs = put(&second, "other", PARTS[0], false);
    assert!(!theirs.cached && second.fragment("test", theirs.id, false).is_err());
    let stats = stats(&second);
    assert_eq!(stats.tokens_encoded as usize, PARTS[0].len(), "encoded, as if nothing were there");
    assert_eq!(stats.tokens_loaded, 0);
    assert_eq!(second.fragments("test").unwrap().len(), 1);
    stop(&second);
}

#[test]
fn what_is_damaged_is_encoded_again_and_what_is_dropped_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = engine(dir.path());
    let put = PARTS.map(|part| put(&first, "test", part, false));
    let before = score(&first, &ROOT, &PARTS, JoinPolicy::Reuse);
    stop(&first);
    for file in
        fs::read_dir(fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path()).unwrap()
    {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "safetensors") {
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let second = engine(dir.path());
    assert_eq!(score(&second, &ROOT, &PARTS, JoinPolicy::Reuse), before);
    let stats = stats(&second);
    assert_eq!((stats.tokens_loaded, stats.tier.set_aside), (0, 3), "{stats:?}");
    assert_eq!(stats.tokens_encoded as usize, PARTS[0].len() + PARTS[1].len());
    second.drop_fragment("test", put[0].id).unwrap();
    stop(&second);
    let third = engine(dir.path());
    assert!(third.fragment("test", put[0].id, false).is_err());
    assert!(third.fragment("test", put[1].id, false).unwrap().stored, "kept once more");
    stop(&third);
}

#[test]
fn servers_share_what_either_has_encoded() {
    let [common, own] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [first, second] = [(); 2].map(|()| start(|origin| shared(common.path(), origin)));
    let both = || {
        start(|origin| {
            let near = disk(own.path(), origin.clone());
            Box::new(Layered::new(near, shared(common.path(), origin)))
        })
    };
    let third = both();
    let before = score(&first, &ROOT, &PARTS, JoinPolicy::Reuse);
    let digests = PARTS.map(|part| digest(&first, put(&first, "test", part, false).id));
    // Uploads are done in the background, and at the latest by then.
    stop(&first);
    let tokens = ROOT.len() + PARTS[0].len() + PARTS[1].len();
    for other in [&second, &third] {
        assert_eq!(score(other, &ROOT, &PARTS, JoinPolicy::Reuse), before);
        assert_eq!(PARTS.map(|part| digest(other, put(other, "test", part, false).id)), digests);
        let stats = stats(other);
        assert_eq!((stats.tokens_encoded, stats.fragments_stored), (0, 3), "{stats:?}");
        assert_eq!(stats.tokens_loaded as usize, tokens);
    }
    stop(&third);
    let id = put(&second, "test", PARTS[0], false).id;
    second.drop_fragment("test", id).unwrap();
    stop(&second);
    let objects = fs::read_dir(common.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(objects).unwrap().count(), 2, "it was deleted for all");
    let again = both();
    assert!(again.fragment("test", id, false).unwrap().stored, "what came from afar is near");
    assert_eq!(score(&again, &ROOT, &PARTS, JoinPolicy::Reuse), before);
    assert_eq!(stats(&again).tokens_encoded, 0);
    put(&again, "test", &[9, 8, 7], false);
    assert_eq!(stats(&again).tokens_encoded, 3, "what nobody has is encoded");
    stop(&again);
}
