//! The load test itself works: a little load against a gateway of its own, without one failure.

use std::process::Command;

use serde_json::Value;

fn run(kind: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args([
            kind,
            "--rate",
            "2",
            "--seconds",
            "2",
            "--format",
            "json",
            "--folder",
        ])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["runs"][0]["figures"].clone()
}

fn figure(figures: &Value, name: &str) -> f64 {
    figures[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name}: {figures:#}"))
}

#[test]
fn whole_lifecycles() {
    let figures = run("lifecycles");
    assert!(figure(&figures, "lifecycles: failed") < 0.5);
    assert!(figure(&figures, "lifecycles: done/s") > 1.0);
    // Create, code, claim, trade and payment are on disk one after the other.
    assert!(figure(&figures, "lifecycles: flushes each") > 3.0);
    assert!(figure(&figures, "lifecycles: rate / bound (T13, goal 0.6)") > 0.0);
}

#[test]
fn one_notice_again_and_again() {
    let figures = run("callbacks");
    assert!(figure(&figures, "callbacks: failed") < 0.5);
    // Repeats write nothing.
    let flushes = figures["callbacks: flushes each"].as_f64();
    assert!(flushes.is_none_or(|flushes| flushes < 1.0), "{flushes:?}");
}
