//! What is wrong with a configuration, in one line each.

use std::fmt;

/// One wrong key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub key: String,
    pub found: String,
    pub expected: String,
}

impl Finding {
    pub fn new(key: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(
            formatter,
            "configuration: {}: found {}, expected {}",
            self.key,
            one_line(&self.found),
            one_line(&self.expected)
        )
    }
}

/// Why the program does not start: exit 78.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    pub findings: Vec<Finding>,
}

impl ConfigError {
    pub fn one(key: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            findings: vec![Finding::new(key, found, expected)],
        }
    }

    pub(super) fn unreadable(error: &config::ConfigError) -> Self {
        Self::one("the file", "something that is no TOML", error.to_string())
    }

    /// What serde says, sorted into found and expected. Its text can quote a value, so values of
    /// secret keys are left out.
    pub(super) fn wrong_value(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let path = error.path().to_string();
        let text = error.inner().to_string();
        if let Some(rest) = text.strip_prefix("unknown field `") {
            let (field, expected) = rest.split_once("`, ").unwrap_or((rest, ""));
            let key = match path.rsplit_once('.') {
                _ if path == "." || path.is_empty() => field.to_owned(),
                Some((_, last)) if last == field => path,
                None if path == field => path,
                _ => format!("{path}.{field}"),
            };
            return Self::one(&key, "an unknown key", expected);
        }
        if let Some(field) = text.strip_prefix("missing field `") {
            let field = field.split('`').next().unwrap_or_default();
            let key = if path == "." {
                field.to_owned()
            } else {
                format!("{path}.{field}")
            };
            return Self::one(&key, "nothing", "a value");
        }
        let (found, expected) = text
            .split_once(", expected ")
            .unwrap_or((text.as_str(), "another value"));
        let found = if super::secret::is_secret(path.rsplit('.').next().unwrap_or_default()) {
            "a value of the wrong kind"
        } else {
            found
        };
        Self::one(&path, found, expected)
    }
}
