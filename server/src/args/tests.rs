//! The command line reads as documented.

use super::*;
use clap::CommandFactory as _;

#[test]
fn definitions_are_consistent() {
    Args::command().debug_assert();
}

/// Every flag that takes a value of the server's own has a variable of the same name.
#[test]
fn variables_are_named_after_flags() {
    let serve = Args::command();
    let serve = serve.find_subcommand("serve").expect("serve is a subcommand");
    for arg in serve.get_arguments() {
        let Some(env) = arg.get_env() else { continue };
        let flag = arg.get_long().expect("every setting has a long flag");
        let expected = format!("CENTO_{}", flag.replace('-', "_").to_uppercase());
        assert_eq!(env.to_str(), Some(expected.as_str()));
    }
}

#[test]
fn bad_values_are_refused() {
    let refuses = |line: &str| {
        let error = Args::try_parse_from(line.split(' ')).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    };
    refuses("cento serve --threads 0");
    refuses("cento serve --isa sse9");
    refuses("cento serve --device gpu");
    refuses("cento serve --device cuda:");
    refuses("cento serve --kv-memory lots");
    refuses("cento serve --host-kv-memory lots");
    refuses("cento serve --kv-dtype f8");
    refuses("cento serve --request-timeout 0");
    refuses("cento serve --request-timeout NaN");
    refuses("cento serve --port 65536");
    refuses("cento serve --context 0");
    refuses("cento serve --log engine=loud");
    refuses("cento serve --cache-bytes many");
    refuses("cento serve --allow-url http://example.org");
    refuses("cento serve --allow-url example.org:80");
    refuses("cento serve --allow-command uptime");
    refuses("cento serve --allow-command a/b=uptime");
    refuses("cento serve --allow-command load=");
    refuses("cento serve --allow-command load='up");
    refuses("cento serve --cache-url gs://kv");
    refuses("cento serve --cache-url /mnt/kv");
    refuses("cento pull --verify --source hub");
    refuses("cento generate");
}
