//! The dashboards and alerts, judged by Prometheus' own tool: every query parses, every alert fires
//! when it should and only then, and leads to a paragraph that says what to do.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn boards() -> Vec<(String, Value)> {
    let mut boards: Vec<(String, Value)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| {
            let board = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            (path.file_name().unwrap().to_string_lossy().into(), board)
        })
        .collect();
    boards.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(!boards.is_empty());
    boards
}

fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    let panels = board["panels"].as_array().unwrap();
    panels.iter().filter(|panel| panel["type"] != "row")
}

fn promtool(arguments: &[&str], folder: &Path) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("promtool is installed (Debian package prometheus)");
    assert!(
        output.status.success(),
        "promtool {arguments:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_query_of_the_boards_parses() {
    let mut rules = "groups:\n- name: boards\n  rules:\n".to_owned();
    for (file, board) in boards() {
        for panel in panels(&board) {
            let targets = panel["targets"].as_array();
            for target in targets.into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                let query = query
                    .replace("$__rate_interval", "5m")
                    .replace("$__range", "6h")
                    .replace("$instance", ".*")
                    .replace("$provider", ".*");
                assert!(
                    !query.contains('$'),
                    "{file}: an unknown variable in {query}"
                );
                // A rule's name must be its own.
                let line = rules.lines().count();
                let query = Value::String(query);
                writeln!(rules, "  - record: board:query:n{line}\n    expr: {query}").unwrap();
            }
        }
    }
    assert!(rules.lines().count() > 20);
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("rules.yml"), rules).unwrap();
    promtool(&["check", "rules", "rules.yml"], scratch.path());
}

#[test]
fn every_panel_says_what_it_means_in_two_languages_and_has_its_place() {
    for (file, board) in boards() {
        assert_eq!(board["schemaVersion"], 39, "{file}");
        assert_eq!(board["timezone"], "Asia/Shanghai", "{file}");
        assert!(
            board["uid"].as_str().unwrap().starts_with("enrollpay-"),
            "{file}"
        );
        assert!(
            panels(&board).count() <= 20,
            "{file}: too many panels to read"
        );
        let mut taken = std::collections::HashSet::new();
        for panel in panels(&board) {
            let title = panel["title"].as_str().unwrap();
            let chinese = title
                .chars()
                .any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter));
            let english = title.chars().any(|letter| letter.is_ascii_alphabetic());
            assert!(chinese && english, "{file}: {title}");
            assert!(
                panel["description"].as_str().unwrap().len() > 60,
                "{file}: {title}"
            );
            if panel["type"] != "alertlist" {
                assert_eq!(
                    panel["datasource"]["uid"], "${datasource}",
                    "{file}: {title}"
                );
                assert!(
                    panel["fieldConfig"]["defaults"]["unit"].is_string(),
                    "{file}: {title}"
                );
                assert!(
                    !panel["targets"].as_array().unwrap().is_empty(),
                    "{file}: {title}"
                );
            }
            let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(side("x") + side("w") <= 24, "{file}: {title}");
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    assert!(
                        taken.insert((x, y)),
                        "{file}: {title} overlaps another panel"
                    );
                }
            }
        }
    }
}

#[test]
fn every_alert_fires_and_stays_quiet_as_its_tests_say() {
    promtool(&["check", "rules", "alerts.yml"], &folder());
    let tests = ["alerts_test.yml", "alerts_week_test.yml"];
    promtool(&[&["test", "rules"][..], &tests].concat(), &folder());
}

#[test]
fn every_alert_has_its_tests_and_its_runbook() {
    let root = folder();
    let rules = std::fs::read_to_string(root.join("alerts.yml")).unwrap();
    let tests = ["alerts_test.yml", "alerts_week_test.yml"]
        .map(|file| std::fs::read_to_string(root.join(file)).unwrap())
        .concat();
    let runbooks = std::fs::read_to_string(root.join("../docs/runbooks.md")).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(!alerts.is_empty());
    for alert in &alerts {
        for case in ["fires", "stays quiet"] {
            assert!(
                tests.contains(&format!("- name: {alert} {case}\n")),
                "{alert} {case}"
            );
        }
        assert!(
            runbooks.contains(&format!("\n## {alert}\n")),
            "{alert}: no runbook"
        );
        let anchor = format!("runbook: docs/runbooks.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{alert}: no anchor");
    }
    let paragraphs = runbooks
        .lines()
        .filter(|line| line.starts_with("## "))
        .count();
    assert_eq!(
        paragraphs,
        alerts.len(),
        "a runbook for an alert that does not exist"
    );
}
