//! What `cento serve` refuses when it is started, it refuses before the wait for the weights.

use cento::{Args, Time, commands};
use clap::Parser as _;
use engine::{Disk, DiskConfig, Origin};
use models::{DeviceChoice, LoadOptions, Opened, catalogue};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

/// A tensor that a model misses first when it is loaded.
const TENSOR: &str = "blk.3.ffn_down.weight";

/// A model that can be opened and not loaded: its file calls a tensor by another name.
fn unloadable(folder: &Path) -> PathBuf {
    let whole = catalogue::fetch("smollm2-135m", &mut catalogue::Quiet).unwrap();
    let mut bytes = fs::read(whole).unwrap();
    let found = bytes.windows(TENSOR.len()).position(|bytes| bytes == TENSOR.as_bytes());
    bytes[found.expect("the tensor's name")] = b'B';
    let path = folder.join("model.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

/// Why a server of this model with these settings ends.
fn refusal(model: &Path, settings: &str) -> String {
    let line = format!("cento serve --device cpu --model {} {settings}", model.display());
    let ended = commands::run(Args::parse_from(line.split_whitespace()).command);
    format!("{:#}", ended.expect_err("nothing to serve"))
}

#[test]
fn what_is_refused_is_refused_before_weights_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let model = unloadable(folder.path());
    let (dir, file) = (folder.path().join("cache"), model.display());
    let free = format!("--port 0 --cache-bytes 64MiB --cache-dir {}", dir.display());
    let error = refusal(&model, &free);
    assert!(error.contains(TENSOR), "only this is found out by loading: {error}");

    let options = LoadOptions { device: DeviceChoice::Cpu, ..LoadOptions::default() };
    let origin = Origin {
        fingerprint: *Opened::new(&model, &options).unwrap().fingerprint(),
        kv_bytes_per_token: 2,
        model: "the same".into(),
        kv_dtype: "f16".into(),
        layout_version: 1,
    };
    let config = DiskConfig { dir: dir.join("kv"), bytes_max: 1 << 20, origin };
    let its_folder = config.folder();
    let other = Disk::open(config, Time::system().clock()).unwrap();
    let in_use = format!("--cache-dir: the folder {} is in use by", its_folder.display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (settings, expected) in [
        (free.clone(), &*in_use),
        (format!("{free} --context 1000000"), "a context of 1000000 positions"),
        (format!("{free} --kv-memory 1MiB --kv-dtype f32"), "hold no page of"),
        (format!("--port {port}"), "cannot listen on"),
        (
            format!("--port 0 --cache-bytes 64MiB --cache-dir {file}"),
            "--cache-dir: cannot make the folder",
        ),
        (format!("{free} --cache-url file://{file}/store"), "--cache-url: cannot make the folder"),
    ] {
        let error = refusal(&model, &settings);
        assert!(error.contains(expected), "{settings}: {error}");
    }
    drop(other);
    let error = refusal(&model, &free);
    assert!(error.contains(TENSOR), "the folder is free again: {error}");
}
