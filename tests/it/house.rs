//! The house keeps its own rules: who imports whom, and that nothing named is forgotten.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use enrollpay::metrics::{ALL, FROM_ZERO, Kind};

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
    ("qr", &[]),
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
    (
        "cluster",
        &[
            "order", "clock", "random", "sealing", "store", "locks", "actors", "faults",
        ],
    ),
    (
        "retention",
        &[
            "order", "clock", "random", "sealing", "store", "locks", "faults",
        ],
    ),
    ("view", &["order", "sealing", "store", "actors"]),
    (
        "http",
        &[
            "order", "clock", "random", "metrics", "sealing", "store", "provider", "actors",
            "view", "faults", "qr",
        ],
    ),
    (
        "reconcile",
        &[
            "order", "clock", "random", "store", "locks", "provider", "actors", "faults",
        ],
    ),
    // Operators' commands on an order go through its actor, as everybody's do, and write times as the
    // API does.
    (
        "operations",
        &[
            "order",
            "clock",
            "random",
            "sealing",
            "store",
            "actors",
            "view",
            "reconcile",
            "retention",
        ],
    ),
    // Another face of `operations`, with the words of `view` and what `http` knows of addresses, bodies
    // and limits.
    ("console", &["order", "store", "view", "operations", "http"]),
    ("simulator", &["clock", "random", "order"]),
    ("demo", &["clock", "random", "order", "qr"]),
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

/// F18: whoever reads from another server than the one that takes writes decides on what is old. One
/// file connects, and looks at what it is connected to.
#[test]
fn one_file_connects_to_postgres_and_to_no_standby() {
    let mut connect = BTreeSet::new();
    for (path, text) in files("src", &[".rs"]) {
        let path = path.to_string_lossy().into_owned();
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            assert!(
                !line.contains("TargetSessionAttrs::") || line.contains("::ReadWrite"),
                "{path}: {line}: a session that may not write"
            );
            let is_in_store = path.starts_with("src/store/postgres/");
            if line.contains("tokio_postgres::connect")
                || is_in_store && line.contains(".connect(") && !line.contains("//")
            {
                connect.insert(path.clone());
            }
        }
    }
    let only = "src/store/postgres/connecting.rs".to_owned();
    assert_eq!(connect, BTreeSet::from([only]));
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

/// One call of a macro that counts: its kind, the metric's name, the labels.
type Emission = (Kind, String, BTreeSet<String>);

/// Every call of `counter!`, `gauge!` and `histogram!` in a text. Names are texts, or constants among
/// `named`.
fn emissions(path: &Path, text: &str, named: &BTreeMap<String, String>) -> Vec<Emission> {
    let mut found = Vec::new();
    for (kind, call) in [
        (Kind::Counter, "counter!("),
        (Kind::Gauge, "gauge!("),
        (Kind::Histogram, "histogram!("),
    ] {
        for (at, _) in text.match_indices(call) {
            let inside = &text[at + call.len()..];
            let mut depth = 1_usize;
            let end = inside
                .char_indices()
                .find(|(_, letter)| {
                    match letter {
                        '(' => depth += 1,
                        ')' => depth -= 1,
                        _ => {}
                    }
                    depth == 0
                })
                .map(|(end, _)| end)
                .unwrap();
            let arguments = &inside[..end];
            let first = arguments.split(',').next().unwrap().trim();
            let name = if let Some(literal) = first.strip_prefix('"') {
                literal.trim_end_matches('"').to_owned()
            } else {
                let constant = first.rsplit("::").next().unwrap();
                named
                    .get(constant)
                    .cloned()
                    .unwrap_or_else(|| panic!("{}: {first} names no metric", path.display()))
            };
            // What stands before each arrow; what stands behind the last is a value.
            let arrows: Vec<_> = arguments.split("=>").collect();
            let labels = arrows[..arrows.len() - 1]
                .iter()
                .filter_map(|part| part.trim_end().strip_suffix('"')?.rsplit_once('"'))
                .map(|(_, label)| label.to_owned())
                .collect();
            found.push((kind, name, labels));
        }
    }
    found
}

#[test]
fn every_metric_is_declared_and_every_declared_metric_is_used() {
    let declared: BTreeSet<String> = ALL.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(declared.len(), ALL.len(), "one line per metric");
    let sources: Vec<_> = files("src", &[".rs"])
        .into_iter()
        .filter(|(path, _)| !path.ends_with("metrics.rs"))
        .collect();
    // const NAME: &str = "enrollpay_…";
    let mut named = BTreeMap::new();
    for line in sources.iter().flat_map(|(_, text)| text.lines()) {
        let constant = line.split_once("const ").and_then(|(_, rest)| {
            let (name, value) = rest.split_once(": &str = \"")?;
            Some((name.to_owned(), value.split('"').next()?.to_owned()))
        });
        if let Some((name, value)) = constant
            && declared.contains(&value)
        {
            let before = named.insert(name.clone(), value.clone());
            assert!(
                before.is_none_or(|before| before == value),
                "{name} names two metrics"
            );
        }
    }
    let mut used = BTreeSet::from(["enrollpay_build_info".to_owned()]);
    for (path, text) in &sources {
        for (kind, name, labels) in emissions(path, text, &named) {
            let metric = ALL.iter().find(|metric| metric.name == name);
            let metric = metric
                .unwrap_or_else(|| panic!("{}: {name} is not in src/metrics.rs", path.display()));
            let expected: BTreeSet<String> = metric
                .labels
                .iter()
                .map(|label| (*label).to_owned())
                .collect();
            assert_eq!(
                (kind, labels),
                (metric.kind, expected),
                "{}: {name} differs from src/metrics.rs",
                path.display()
            );
            used.insert(name);
        }
    }
    let unused: Vec<_> = declared.difference(&used).collect();
    assert!(unused.is_empty(), "declared, never set: {unused:?}");
    for (name, labels) in FROM_ZERO {
        let metric = ALL.iter().find(|metric| metric.name == *name);
        let metric = metric.unwrap_or_else(|| panic!("FROM_ZERO: {name} is not declared"));
        let given: Vec<_> = labels.iter().map(|(label, _)| *label).collect();
        assert_eq!(given, metric.labels, "FROM_ZERO: {name}");
        assert_eq!(metric.kind, Kind::Counter, "FROM_ZERO: {name}");
    }
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
        "simulation",
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

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_invariant_has_its_test_and_its_mutation() {
    let pages = files("docs", &["invariants.md"]);
    let rows: Vec<Vec<&str>> = pages[0]
        .1
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").collect::<Vec<_>>())
        .filter(|cells| cells[0] != "id")
        .collect();
    let numbered = [
        ("M", 9),
        ("B", 1),
        ("A", 5),
        ("Q", 7),
        ("O", 4),
        ("E", 5),
        ("R", 1),
    ];
    let mut expected: Vec<String> = numbered
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}{number}")))
        .collect();
    expected.push("P1".to_owned());
    let ids: Vec<_> = rows.iter().map(|cells| cells[0]).collect();
    assert_eq!(ids, expected);

    let tests = files("tests/it", &[".rs"]);
    let models = [
        files("tests/it", &["/model.rs"]),
        files("simulation/src", &["/mutation.rs"]),
    ]
    .concat();
    let mut patches: BTreeMap<String, String> = files("tests/mutations", &[".patch"])
        .into_iter()
        .map(|(path, text)| (path.file_stem().unwrap().to_string_lossy().into(), text))
        .collect();
    for cells in &rows {
        let [id, holds, held_by, proved_by, broken_by] = cells[..] else {
            panic!("five columns: {cells:?}");
        };
        assert!(holds.len() > 20 && !quoted(held_by).is_empty(), "{id}");
        for path in quoted(held_by).iter().filter(|it| it.starts_with("src/")) {
            let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file();
            assert!(there, "{id}: no {path}");
        }
        let named = quoted(proved_by);
        assert!(!named.is_empty(), "{id} names no test");
        for test in &named {
            let function = format!("fn {}(", test.rsplit("::").next().unwrap());
            let found = tests.iter().any(|(_, text)| text.contains(&function));
            assert!(found, "{id}: no test {test}");
        }
        let (mutations, witnesses): (Vec<_>, Vec<_>) = quoted(broken_by)
            .into_iter()
            .partition(|name| name.contains('-'));
        assert_eq!(
            mutations.len(),
            named.len(),
            "{id}: a mutation for each test"
        );
        for (mutation, test) in mutations.iter().zip(named) {
            let patch = patches
                .remove(*mutation)
                .unwrap_or_else(|| panic!("{id}: no tests/mutations/{mutation}.patch"));
            assert!(mutation.starts_with(&format!("{id}-")), "{id}: {mutation}");
            let header: Vec<_> = patch.lines().take(2).collect();
            assert!(header[0].starts_with("# breaks: "), "{mutation}");
            assert_eq!(header[1], format!("# test: test(={test})"), "{mutation}");
        }
        for witness in witnesses {
            let found = models
                .iter()
                .any(|(_, text)| text.contains(&format!("    {witness},\n")));
            assert!(found, "{id}: no model is broken by {witness}");
        }
    }
    assert!(patches.is_empty(), "in no row: {:?}", patches.keys());
}
