//! Key files and the tenants they make.

use super::{ApiKeys, Tenant};
use axum::http::{HeaderMap, StatusCode, header};

fn tenant(keys: &ApiKeys, authorization: Option<&str>) -> Result<String, StatusCode> {
    let mut headers = HeaderMap::new();
    if let Some(value) = authorization {
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
    }
    keys.tenant(&headers).map(|Tenant(name)| name.to_string()).map_err(|error| error.status())
}

#[test]
fn keys_open_and_name_their_tenant() {
    let keys = ApiKeys::parse("# ours\n\nalice:s3cret\n  plain-key  \n").unwrap();
    let plain = format!("key_{}", &blake3::hash(b"plain-key").to_hex()[..12]);
    let refused = Err(StatusCode::UNAUTHORIZED);
    let cases = [
        (Some("Bearer s3cret"), Ok("alice".to_owned())),
        (Some("bearer s3cret"), Ok("alice".to_owned())),
        (Some("Bearer plain-key"), Ok(plain)),
        (Some("Bearer alice:s3cret"), refused.clone()),
        (Some("Bearer s3cre"), refused.clone()),
        (Some("Bearer "), refused.clone()),
        (Some("Basic s3cret"), refused.clone()),
        (Some("s3cret"), refused.clone()),
        (None, refused),
    ];
    for (given, expected) in cases {
        assert_eq!(tenant(&keys, given), expected, "{given:?}");
    }
}

#[test]
fn without_keys_everybody_is_local() {
    assert_eq!(tenant(&ApiKeys::default(), None), Ok("local".to_owned()));
}

#[test]
fn a_key_file_that_would_lock_out_or_mislead_is_refused() {
    let cases = [
        ("", "no keys"),
        ("# only a remark\n", "no keys"),
        ("a:1\nb:\n", "line 2"),
        (":1\n", "line 1"),
        ("a:same\nb:same\n", "line 2"),
    ];
    for (text, expected) in cases {
        let error = ApiKeys::parse(text).unwrap_err();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}
