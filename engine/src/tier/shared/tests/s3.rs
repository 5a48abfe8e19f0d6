//! The shared tier over a server that speaks the protocol of S3, when there is one: `CENTO_TEST_S3` is
//! where it listens, and the environment has the settings that a user would give for it.

use super::{heard, id, origin, record};
use crate::tier::{
    Kv, Notice, Tier,
    shared::{Shared, SharedConfig, StoreUrl},
};
use std::{
    env,
    io::{Read as _, Write as _},
    net::TcpStream,
    process,
    sync::Arc,
};

const BUCKET: &str = "cento-test";

/// Makes the bucket. Servers for tests ask for no signature.
fn make_bucket(endpoint: &str) {
    let host = endpoint.strip_prefix("http://").expect("CENTO_TEST_S3 is http://HOST:PORT");
    let host = host.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("the server listens");
    let request = format!(
        "PUT /{BUCKET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn open(url: &str) -> Shared {
    let config = SharedConfig { url: url.parse().unwrap(), origin: origin(), rows_min: 2 };
    Shared::open(config, Arc::new(super::Hand::default())).unwrap()
}

#[test]
fn servers_share_records_through_s3() {
    let Ok(endpoint) = env::var("CENTO_TEST_S3") else {
        println!("left out: CENTO_TEST_S3 does not say where an S3 server is");
        return;
    };
    let setting = env::var("AWS_ENDPOINT_URL");
    assert_eq!(setting.as_ref(), Ok(&endpoint), "AWS_ENDPOINT_URL is what a user would set");
    make_bucket(&endpoint);
    let url = format!("s3://{BUCKET}/run-{}", process::id());
    assert!(matches!(url.parse(), Ok(StoreUrl::S3 { .. })));
    let (mut one, mut other) = (open(&url), open(&url));
    let large: Kv = Arc::new((0..6_400_000).map(|i| (i % 251) as u8).collect());
    let (mut entry, _) = record(2);
    entry.tokens = (0..400_000).collect();
    let (small, kv) = record(1);
    for (entry, kv) in [(small, kv), (entry, large)] {
        assert!(one.keep(entry.clone(), kv.clone()));
        assert_eq!(heard(&mut one), Notice::Kept(entry.id), "{:?}", one.figures());
        other.fetch(entry.clone());
        match heard(&mut other) {
            Notice::Arrived { id, kv: fetched, .. } => assert!(id == entry.id && fetched == kv),
            notice => panic!("{notice:?}: {:?}", other.figures()),
        }
    }
    other.remove(id(1), 3);
    other.close();
    for (n, what) in [(1, "it was deleted"), (3, "it never was there")] {
        one.fetch(record(n).0);
        assert_eq!(heard(&mut one), Notice::Lost(id(n)), "{what}");
    }
    assert_eq!((one.figures().read_errors, one.figures().write_errors), (0, 0));
    let mut nowhere = open("s3://cento-no-such-bucket/run");
    let (entry, kv) = record(1);
    assert!(nowhere.keep(entry, kv));
    assert_eq!(heard(&mut nowhere), Notice::Gone(id(1)));
    assert_eq!(nowhere.figures().write_errors, 1);
}
