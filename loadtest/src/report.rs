//! What is printed: each figure of each run, and its minimum, median and maximum.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// The figures of one run, in the order in which they are printed.
#[derive(Debug, Default)]
pub struct Figures {
    values: Vec<(String, f64)>,
    errors: BTreeMap<String, u64>,
}

impl Figures {
    /// The unit is part of the name.
    pub fn put(&mut self, name: impl Into<String>, value: f64) {
        self.values.push((name.into(), value));
    }

    pub fn fail(&mut self, error: &str, times: u64) {
        *self.errors.entry(error.to_owned()).or_default() += times;
    }
}

/// All runs.
#[derive(Debug, Default)]
pub struct Report {
    runs: Vec<Figures>,
}

impl Report {
    pub fn add(&mut self, figures: Figures) {
        self.runs.push(figures);
    }

    /// Arrivals that ended badly at the rates that are reported.
    pub fn failed(&self) -> u64 {
        self.runs.iter().flat_map(|run| run.errors.values()).sum()
    }

    /// Names in their order, each with its minimum, median and maximum.
    fn summary(&self) -> Vec<(&str, [f64; 3])> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.runs.iter().flat_map(|run| &run.values) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let of = |name: &str| {
            let mut values: Vec<f64> = self
                .runs
                .iter()
                .flat_map(|run| &run.values)
                .filter(|(named, _)| named == name)
                .map(|(_, value)| *value)
                .collect();
            values.sort_by(f64::total_cmp);
            [
                values[0],
                values[values.len() / 2],
                values[values.len() - 1],
            ]
        };
        names.into_iter().map(|name| (name, of(name))).collect()
    }

    pub fn table(&self) -> String {
        let summary = self.summary();
        let width = summary
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or_default();
        let mut text = format!(
            "{:width$}  {:>11}  {:>11}  {:>11}   of {} run(s)\n",
            "",
            "min",
            "median",
            "max",
            self.runs.len()
        );
        for (name, values) in &summary {
            let [least, median, most] = values.map(number);
            let _ = writeln!(text, "{name:width$}  {least:>11}  {median:>11}  {most:>11}");
        }
        for (index, run) in self.runs.iter().enumerate() {
            for (error, times) in &run.errors {
                let _ = writeln!(text, "run {}: {times} x {error}", index + 1);
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        let summary: Map<String, Value> = self
            .summary()
            .into_iter()
            .map(|(name, [min, median, max])| {
                let value = json!({ "min": min, "median": median, "max": max });
                (name.to_owned(), value)
            })
            .collect();
        let runs: Vec<Value> = self
            .runs
            .iter()
            .map(|run| {
                let figures: Map<String, Value> = run
                    .values
                    .iter()
                    .map(|(name, value)| (name.clone(), json!(value)))
                    .collect();
                json!({ "figures": figures, "errors": run.errors })
            })
            .collect();
        json!({ "summary": summary, "runs": runs })
    }
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_three_runs() {
        let mut report = Report::default();
        for value in [3.0, 1.0, 2000.0] {
            let mut figures = Figures::default();
            figures.put("creates/s", value);
            figures.fail("no connection", 2);
            report.add(figures);
        }
        assert_eq!(report.failed(), 6);
        let summary = &report.json()["summary"]["creates/s"];
        assert_eq!(
            *summary,
            json!({ "min": 1.0, "median": 3.0, "max": 2000.0 })
        );
        let table = report.table();
        assert!(
            table.contains("creates/s        1.000        3.000         2000"),
            "{table}"
        );
        assert!(table.contains("run 2: 2 x no connection"), "{table}");
    }
}
