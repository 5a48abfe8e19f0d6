//! Settings are checked before anything is loaded.

use super::*;
use crate::args::{Args, Command};
use clap::Parser as _;

fn serve(line: &str) -> Result<ServeConfig, ConfigError> {
    let line = format!("cento serve {line}");
    match Args::parse_from(line.split_whitespace()).command {
        Command::Serve(args) => args.try_into(),
        other => panic!("{other:?} is not serve"),
    }
}

#[test]
fn defaults() {
    let config = serve("--threads 3").unwrap();
    assert_eq!(config.address.to_string(), "127.0.0.1:8080");
    assert!(config.api_keys.is_open());
    assert_eq!(config.request_timeout, Duration::from_mins(10));
    assert_eq!(config.engine.model, models::catalogue::DEFAULT);
    assert_eq!(config.engine.threads, 3);
    assert_eq!(config.engine.kv_dtype, KvDtype::F16);
    assert_eq!(config.engine.kv_pages(1 << 20), 2048);
    assert_eq!((config.engine.waiting_max, config.engine.running_max), (64, 8));
}

#[test]
fn a_device_is_taken_by_name() {
    for device in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(1)] {
        assert_eq!(serve(&format!("--device {device}")).unwrap().engine.device, device);
    }
    assert_eq!(serve("").unwrap().engine.device, DeviceChoice::Auto);
}

#[test]
fn an_instruction_set_is_taken_or_refused_by_name() {
    for isa in Isa::ALL {
        let given = serve(&format!("--isa {isa}"));
        if isa.is_available() {
            assert_eq!(given.unwrap().engine.isa, Some(isa));
        } else {
            assert!(given.unwrap_err().to_string().contains(&format!("no {isa}")));
        }
    }
    assert_eq!(serve("").unwrap().engine.isa, None);
}

#[test]
fn kv_is_kept_on_disk_where_it_is_asked_for() {
    assert_eq!(serve("--cache-dir /somewhere").unwrap().cache, None);
    let cache = serve("--cache-dir /somewhere --cache-bytes 3GiB").unwrap().cache;
    let expected = CacheConfig { dir: "/somewhere/kv".into(), bytes: Bytes(3 << 30) };
    assert_eq!(cache, Some(expected));
}

#[test]
fn kv_is_kept_in_memory_as_it_is_asked_for() {
    let given = |line: &str| serve(line).unwrap().host_kv_memory;
    assert_eq!(given(""), None, "by default where the model runs decides");
    assert_eq!(given("--host-kv-memory 0"), Some(Bytes(0)));
    assert_eq!(given("--host-kv-memory 3GiB"), Some(Bytes(3 << 30)));
}

#[test]
fn sources_are_off_until_they_are_allowed() {
    assert_eq!(serve("").unwrap().allowed, Allowed::default());
    let here = env!("CARGO_MANIFEST_DIR");
    let line = format!(
        "--allow-file {here} --allow-file {here}/src --allow-url Feeds.Example --allow-url * \
         --allow-command load=uptime --allow-command date=date"
    );
    let allowed = serve(&line).unwrap().allowed;
    let folders = [here.into(), format!("{here}/src").into()];
    assert_eq!(allowed.folders, Folders::new(folders).unwrap());
    assert_eq!(allowed.hosts, Hosts::new([Host::AnyPublic, Host::Name("feeds.example".into())]));
    assert_eq!(allowed.commands["load"], "uptime".parse().unwrap());
    assert_eq!(allowed.commands.len(), 2);
}

#[test]
fn kv_is_shared_where_it_is_asked_for() {
    assert_eq!(serve("").unwrap().cache_url, None);
    let config = serve("--cache-url s3://kv/cento").unwrap();
    assert_eq!((config.cache, config.cache_url), (None, "s3://kv/cento".parse().ok()));
}

#[test]
fn a_number_format_is_taken_by_name() {
    for dtype in KvDtype::ALL {
        assert_eq!(serve(&format!("--kv-dtype {dtype}")).unwrap().engine.kv_dtype, dtype);
    }
}

#[test]
fn refusals_say_what_would_do() {
    let refuses = |line: &str, part: &str| {
        let error = serve(line).expect_err(line).to_string();
        assert!(error.contains(part), "{line}: {error}");
    };
    refuses("--threads 5000", "at most 1024");
    refuses("--kv-memory 4", "at least 1 MiB");
    refuses("--host-kv-memory 4", "--host-kv-memory 4 B: at least 64 MiB, or 0 for none");
    refuses("--body-limit 3", "at least 1 KiB");
    refuses("--cache-bytes 4", "at least 64 MiB, or 0 for none");
    refuses("--allow-file /nonexistent/folder", "--allow-file: cannot read /nonexistent/folder");
    refuses("--allow-command a=x --allow-command a=y", "--allow-command a: there are two");
    refuses("--host 999.1.1.1", "--host 999.1.1.1");
    refuses("--api-key-file /nonexistent/keys", "/nonexistent/keys");
}
