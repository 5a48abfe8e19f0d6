//! The engine in this process and a server over HTTP give the same numbers.

use super::{Backend, Http, Local};
use crate::{arm::Arm, measure::Measure, prompt::Texts, record::ItemNumbers, tasks::Task};
use cento::{ApiKeys, AppState, Limits, ModelInfo, Parts, Profile, Time};
use engine::{Config, Engine};
use models::{LoadOptions, catalogue};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

const MODEL: &str = "smollm2-135m";

/// A server on a loopback socket.
struct Served {
    address: SocketAddr,
    /// Dropped, it tells the server to stop.
    _stop: oneshot::Sender<()>,
    _runtime: Runtime,
}

impl Served {
    fn start(keys: ApiKeys) -> Self {
        let path = catalogue::fetch(MODEL, &mut catalogue::Quiet).unwrap();
        let loaded = models::load(&path, &LoadOptions::default()).unwrap();
        let time = Time::system();
        let tokenizer = loaded.tokenizer;
        let model = Box::new(loaded.decoder);
        let engine = Engine::start(model, Some(tokenizer.clone()), Config::default(), time.clock());
        let state = AppState::new(Parts {
            allowed: cento::sources::Allowed::default(),
            fragment_names: cento::FragmentNames::new(),
            profile: Profile::default(),
            engine,
            turns: Arc::new(loaded.turns),
            tokenizer,
            model: ModelInfo { id: MODEL.into(), arch: loaded.info.arch, created: 1 },
            keys,
            time,
            limits: Limits::DEFAULT,
        });
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        runtime.spawn(cento::serve(listener, state, stopped, Duration::ZERO));
        Self { address, _stop: stop, _runtime: runtime }
    }

    fn base(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Numbers of one message at two positions, without times, which no two runs share.
fn numbers(backend: &mut dyn Backend) -> Vec<ItemNumbers> {
    let texts = Texts::open(MODEL).unwrap();
    let backend_has_tenants = backend.has_tenants();
    let arms = ["recompute", "reuse", "reuse-no-root"].map(|arm| arm.parse::<Arm>().unwrap());
    let items = Task::named("message").unwrap().items(3, 1, Some(5), None).unwrap();
    let mut measure = Measure { backend, texts: &texts, arms: &arms, run: "test".into() };
    let mut numbers: Vec<_> = items[1..3].iter().map(|item| measure.item(item).unwrap()).collect();
    for arm in numbers.iter_mut().flat_map(|item| &mut item.arms) {
        assert!(arm.first_token_ms.is_none_or(|ms| ms > 0.0));
        arm.first_token_ms = None;
    }
    // The server found what the first item left in its cache; the engine was asked by another.
    let shared = std::mem::take(&mut numbers[1].arms[0].share_recomputed);
    assert_eq!(shared, backend_has_tenants.then_some(1.0));
    numbers
}

#[test]
fn a_server_gives_the_engines_numbers() {
    let served = Served::start(ApiKeys::parse("tester:secret").unwrap());
    let mut http = Http::open(&served.base(), Some("secret".into()), MODEL).unwrap();
    let mut local = Local::open(MODEL, 0, &[]).unwrap();
    assert_eq!(http.card().fingerprint, local.card().fingerprint);
    assert_eq!(http.card().context_max, local.card().context_max);
    let (over_http, in_process) = (numbers(&mut http), numbers(&mut local));
    assert_eq!(over_http, in_process);
    for item in &in_process {
        let [recompute, reuse, no_root] = &item.arms[..] else { panic!("{item:?}") };
        assert!(recompute.exact && !reuse.exact && !no_root.exact);
        assert_eq!((recompute.kl, recompute.same_answer, recompute.top1), (0.0, 1.0, 1.0));
        assert!(reuse.kl > 1e-4 && reuse.share_recomputed == Some(0.0), "{reuse:?}");
        assert!(no_root.kl > 1e-4 && no_root.kl != reuse.kl, "{no_root:?}");
    }
}

#[test]
fn a_server_that_is_another_is_refused() {
    let served = Served::start(ApiKeys::parse("tester:secret").unwrap());
    let open = |key: &str, model| Http::open(&served.base(), Some(key.into()), model);
    let error = format!("{:#}", open("secret", "gemma-3-270m").err().unwrap());
    assert!(error.contains(MODEL) && error.contains("gemma-3-270m"), "{error}");
    let error = format!("{:#}", open("wrong", MODEL).err().unwrap());
    assert!(error.contains("401"), "{error}");
    let error = format!("{:#}", Http::open("http://127.0.0.1:1", None, MODEL).err().unwrap());
    assert!(error.contains("127.0.0.1:1"), "{error}");
}
