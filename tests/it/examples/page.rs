//! docs/integrate.md shows code that runs, and nothing else.

use enrollpay::http::problem::CATALOGUE;
use enrollpay::simulator::Rule;
use serde_json::json;

use super::school::examples;

const PAGE: &str = include_str!("../../../docs/integrate.md");

/// A block of code on the page: the comment before it, its language, its lines.
struct Block<'a> {
    source: Option<&'a str>,
    language: &'a str,
    text: String,
}

fn blocks() -> Vec<Block<'static>> {
    let mut blocks = Vec::new();
    let mut lines = PAGE.lines();
    let mut source = None;
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let text = inside.flat_map(|line| [line, "\n"]).collect();
            blocks.push(Block {
                source,
                language,
                text,
            });
        }
        source = line
            .strip_prefix("<!-- ")
            .and_then(|line| line.strip_suffix(" -->"));
    }
    blocks
}

/// A part of an example: between `region name` and `endregion`, moved to the left margin.
pub fn part(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(examples().join(file)).unwrap();
    let start = format!("region {name}");
    let inside: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.ends_with(&start))
        .skip(1)
        .take_while(|line| !line.ends_with("endregion"))
        .collect();
    assert!(!inside.is_empty(), "{file} has no region {name}");
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let full = inside.iter().filter(|line| !line.is_empty());
    let margin = full.map(indent).min().unwrap();
    inside
        .iter()
        .flat_map(|line| [line.get(margin..).unwrap_or_default(), "\n"])
        .collect()
}

#[test]
fn every_block_of_code_is_a_part_of_what_is_tested() {
    let blocks = blocks();
    let shown = blocks.iter().filter(|block| block.language != "text");
    for block in shown {
        let source = block.source.unwrap_or_else(|| {
            panic!("comes from nowhere:\n{}", block.text);
        });
        let expected = match source.split_once('#') {
            Some((file, name)) => part(file, name),
            None => std::fs::read_to_string(examples().join(source)).unwrap(),
        };
        assert_eq!(block.text, expected, "{source} was changed: copy it again");
    }
    for language in ["python", "java", "php", "sh"] {
        assert!(blocks.iter().any(|block| block.language == language));
    }
}

/// The way through the page is walked in `walkthrough`: it has to be the whole way.
#[test]
fn every_step_of_the_walkthrough_is_on_the_page() {
    let steps = std::fs::read_to_string(examples().join("walkthrough.sh")).unwrap();
    for name in steps
        .lines()
        .filter_map(|line| line.strip_prefix("# region "))
    {
        let source = format!("walkthrough.sh#{name}");
        let there = blocks().iter().any(|block| block.source == Some(&*source));
        assert!(there, "{source}");
    }
}

#[test]
fn every_address_inside_the_repository_exists() {
    let root = examples().join("..");
    let mut links = 0;
    for target in PAGE.split("](").skip(1) {
        let target = target.split(')').next().unwrap();
        if let Some(id) = target.strip_prefix('#') {
            assert!(PAGE.contains(&format!("<a id=\"{id}\"></a>")), "{target}");
        } else {
            assert!(root.join(target).exists(), "{target}");
        }
        links += 1;
    }
    assert!(links > 6);
}

/// Codes in the page's table are those of the catalogue, with their statuses.
#[test]
fn every_code_on_the_page_is_one_of_ours() {
    let rows = PAGE.lines().filter_map(|line| {
        let (code, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let status: u16 = rest.split(' ').next()?.parse().ok()?;
        Some((code, status))
    });
    let mut codes = 0;
    for (code, status) in rows {
        let entry = CATALOGUE.iter().find(|entry| entry.name == code);
        let entry = entry.unwrap_or_else(|| panic!("no code {code}"));
        assert_eq!(entry.status, status, "{code}");
        codes += 1;
    }
    assert!(codes > 10);
}

#[test]
fn every_state_is_on_the_page() {
    let words = [
        "unpaid paying paid closed cancelled deadline",
        "shown scanned closing succeeded expired cancelled superseded released failed",
        "pending abnormal succeeded failed",
        "none partial full",
    ];
    let (_, lifecycle) = PAGE.split_once("## 8.").unwrap();
    let (lifecycle, _) = lifecycle.split_once("## 9.").unwrap();
    for word in words.iter().flat_map(|words| words.split(' ')) {
        assert!(lifecycle.contains(word), "{word}");
    }
}

/// `operation`, `operation`: `fault`, `fault`; a row without operations means those of the row above.
#[test]
fn every_fault_on_the_page_can_be_made() {
    let (_, faults) = PAGE.split_once("## 11.").unwrap();
    let (faults, _) = faults.split_once("## 12.").unwrap();
    let mut operations = Vec::new();
    let mut made = 0;
    for row in faults.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cell = row.split(" | ").nth(1).unwrap_or_default();
        let words = cell.split('`').skip(1).step_by(2);
        let (named, faults): (Vec<_>, Vec<_>) = words.partition(|word| word.contains('.'));
        if !named.is_empty() {
            operations = named;
        }
        for fault in faults {
            for operation in &operations {
                let rule = json!({ "operation": operation, "fault": fault });
                let rule: Rule = serde_json::from_value(rule).unwrap();
                assert_eq!(rule.check(), Ok(()), "{operation} {fault}");
                made += 1;
            }
        }
    }
    assert!(made > 15);
}
