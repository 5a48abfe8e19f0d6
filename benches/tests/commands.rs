//! The benches run as their help says.

use std::process::Command;

fn lines(args: &[&str]) -> Vec<String> {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_benches"));
    let output = bench.args(args).output().expect("the bench starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn help_names_every_bench() {
    let help = lines(&["--help"]).join("\n");
    let benches =
        ["attention", "batch", "cpu", "instructions", "join", "kernels", "peer", "restart", "soak"];
    for bench in benches {
        assert!(help.contains(bench), "{help}");
    }
}

#[test]
fn kernels_prints_limits_and_a_line_for_each_case() {
    let lines =
        lines(&["kernels", "--json", "--millis", "1", "--filter", "rms_norm", "--threads", "1"]);
    assert!(lines.len() > 2, "{lines:?}");
    assert!(lines[0].contains("int8_gops"), "{lines:?}");
    assert!(lines[1..].iter().all(|line| line.contains("share_of_reads")), "{lines:?}");
}

#[test]
fn attention_measures_both_ways_of_a_model() {
    let few = ["--sequences", "3", "--fragments", "2", "--fragment-tokens", "40", "--runs", "1"];
    let lines =
        lines(&[&["attention", "--json", "--filter", "Smol", "--threads", "1"], &few[..]].concat());
    let [report] = &lines[..] else { panic!("one line: {lines:?}") };
    for field in ["f32_gflops", "SmolLM2-135M", "shared_gflops", "each_gflops", "ratio"] {
        assert!(report.contains(field), "{field}: {report}");
    }
}

#[test]
fn soak_refuses_other_machines() {
    for url in ["http://example.com", "http://10.0.0.1:8080", "https://127.0.0.1", "here"] {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_benches"));
        let output = bench.args(["soak", "--url", url]).output().expect("the bench starts");
        assert!(!output.status.success(), "{url}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(url), "{output:?}");
    }
}
