//! The house keeps its own rules: who imports whom, and that nothing named is forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use enrollpay::metrics::ALL;

/// Every file below a folder with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, endings: &[&str], found: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<_> = std::fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                if !path.ends_with("node_modules") && !path.ends_with("target") {
                    walk(&path, endings, found);
                }
            } else if endings
                .iter()
                .any(|ending| path.to_string_lossy().ends_with(ending))
            {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), endings, &mut found);
    found
        .into_iter()
        .map(|(path, text)| (path.strip_prefix(root).unwrap().to_path_buf(), text))
        .collect()
}

/// Which rooms each room may import; `app` and `cli` may import everything and are imported by nobody
/// but each other and `main`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("order", &[]),
    ("clock", &["order"]),
    ("random", &["order"]),
    ("metrics", &[]),
    ("telemetry", &[]),
    ("faults", &[]),
    ("sealing", &["order", "random"]),
    ("config", &[]),
    ("store", &["order", "clock", "sealing", "metrics", "faults"]),
    ("locks", &["order", "clock", "random", "metrics"]),
    ("provider", &["order", "clock", "random", "metrics"]),
    (
        "webhook",
        &[
            "order", "clock", "random", "metrics", "sealing", "store", "faults",
        ],
    ),
    (
        "actors",
        &[
            "order", "clock", "random", "metrics", "sealing", "store", "locks", "provider",
            "faults",
        ],
    ),
    ("view", &["order", "sealing", "store", "actors"]),
    (
        "http",
        &[
            "order", "clock", "random", "metrics", "sealing", "store", "provider", "actors",
            "view", "faults",
        ],
    ),
    (
        "operations",
        &["order", "clock", "random", "sealing", "store"],
    ),
    ("simulator", &["clock", "random", "order"]),
    ("demo", &["clock", "random", "order"]),
];

#[test]
fn every_room_imports_only_what_it_may() {
    let mut broken = Vec::new();
    for (path, text) in files("src", &[".rs"]) {
        let room = path
            .iter()
            .nth(1)
            .unwrap()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned();
        if matches!(room.as_str(), "app" | "cli" | "main" | "lib") {
            continue;
        }
        let (_, may) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("src/{room} has no line in MAY_IMPORT"));
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for imported in line.split("crate::").skip(1) {
                let imported: String = imported
                    .chars()
                    .take_while(|character| character.is_alphanumeric() || *character == '_')
                    .collect();
                if !imported.is_empty() && imported != room && !may.contains(&imported.as_str()) {
                    broken.push(format!(
                        "{}:{}: {room} imports {imported}",
                        path.display(),
                        index + 1
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_other_side_of_the_wire_shares_no_words_with_the_orders() {
    for room in ["src/simulator", "src/demo"] {
        for (path, text) in files(room, &[".rs"]) {
            for line in text.lines().filter(|line| line.contains("crate::order")) {
                assert!(
                    line.contains("crate::order::Timestamp"),
                    "{}: {line}: only the clock's Timestamp is shared",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_heart_does_no_io_and_knows_no_clock() {
    for (path, text) in files("src/order", &[".rs"]) {
        for forbidden in [
            "tokio",
            "actix",
            "tracing",
            "metrics::",
            "std::time",
            "rand::",
            "std::fs",
            "async fn",
        ] {
            assert!(
                !text
                    .lines()
                    .any(|line| !line.trim_start().starts_with("//") && line.contains(forbidden)),
                "{}: {forbidden}",
                path.display()
            );
        }
    }
}

/// Every `enrollpay_…` in a text.
fn metric_names(text: &str) -> BTreeSet<String> {
    text.split("enrollpay_")
        .skip(1)
        .map(|rest| {
            let name: String = rest
                .chars()
                .take_while(|character| character.is_ascii_lowercase() || *character == '_')
                .collect();
            format!("enrollpay_{name}")
        })
        .collect()
}

#[test]
fn every_metric_is_declared_and_every_declared_metric_is_used() {
    let declared: BTreeSet<String> = ALL.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(declared.len(), ALL.len(), "one line per metric");
    let mut used = BTreeSet::new();
    for (path, text) in files("src", &[".rs"]) {
        if path.ends_with("metrics.rs") {
            continue;
        }
        for line in text.lines() {
            // The macros of the metrics crate take the name as their first text.
            let quoted = line
                .split('"')
                .filter(|part| part.starts_with("enrollpay_"));
            for name in quoted.flat_map(metric_names) {
                assert!(
                    declared.contains(&name),
                    "{}: {name} is not in src/metrics.rs",
                    path.display()
                );
                used.insert(name);
            }
        }
    }
    used.insert("enrollpay_build_info".to_owned());
    let unused: Vec<_> = declared.difference(&used).collect();
    assert!(unused.is_empty(), "declared, never set: {unused:?}");
    for (path, text) in files("dashboards", &[".json", ".yml"]) {
        for name in metric_names(&text) {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(&name);
            assert!(
                declared.contains(base) || declared.contains(&name) || name == "enrollpay_",
                "{}: {name} is not in src/metrics.rs",
                path.display()
            );
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let unfinished = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("FIX", "ME"),
    ];
    for folder in [
        "src",
        "tests",
        "loadtest",
        "templates",
        "static",
        "config",
        "dashboards",
        "docs",
    ] {
        for (path, text) in files(
            folder,
            &[
                ".rs", ".html", ".js", ".mjs", ".css", ".toml", ".md", ".yml", ".json",
            ],
        ) {
            for word in unfinished {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}
