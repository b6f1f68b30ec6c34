//! Secrets may stand in the file, in a file of their own (`<key>_file`), or in an environment
//! variable (`<key>_env`). They are gathered here, before anything else is read.

use std::path::Path;

use serde_json::Value;

use super::finding::Finding;

/// Every key that holds a secret or key material.
const SECRET_KEYS: &[&str] = &[
    "api_v3_key",
    "app_secret",
    "private_key",
    "platform_public_key",
    "alipay_public_key",
    "app_cert",
    "alipay_cert",
    "alipay_root_cert",
    "field_keys",
    "index_key",
    "token_key",
    "secret",
];

pub(super) fn is_secret(key: &str) -> bool {
    SECRET_KEYS.contains(&key)
}

/// Replaces every `<secret>_file` and `<secret>_env` by what it points to.
pub(super) fn resolve(tree: &mut Value, environment: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(tree, "", environment, &mut findings);
    findings
}

fn walk(
    node: &mut Value,
    path: &str,
    environment: &[(String, String)],
    findings: &mut Vec<Finding>,
) {
    match node {
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &format!("{path}[{index}]"), environment, findings);
            }
        }
        Value::Object(members) => {
            for secret in SECRET_KEYS {
                for (suffix, from_file) in [("_file", true), ("_env", false)] {
                    let key = format!("{secret}{suffix}");
                    let Some(Value::String(source)) = members.remove(&key) else {
                        continue;
                    };
                    if source.is_empty() {
                        continue;
                    }
                    let full = join(path, &key);
                    if members.get(*secret).is_some_and(is_given) {
                        findings.push(Finding::new(
                            &full,
                            format!("{secret} beside it"),
                            "only one of the two",
                        ));
                        continue;
                    }
                    let value = if from_file {
                        read_file(Path::new(&source)).map_err(|why| (source.clone(), why))
                    } else {
                        environment
                            .iter()
                            .find(|(name, _)| *name == source)
                            .map(|(_, value)| value.clone())
                            .ok_or((source, "an environment variable that is set".to_owned()))
                    };
                    match value {
                        Ok(value) => {
                            members.insert((*secret).to_owned(), Value::String(value));
                        }
                        Err((found, expected)) => {
                            findings.push(Finding::new(&full, found, expected));
                        }
                    }
                }
            }
            for (key, member) in members.iter_mut() {
                walk(member, &join(path, key), environment, findings);
            }
        }
        _ => {}
    }
}

fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("a readable file ({error})"))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Certificates and public keys are no secret, but one rule is easier to keep than two.
        if metadata.permissions().mode() & 0o002 != 0 {
            return Err("a file that not everybody can write (chmod o-w)".to_owned());
        }
    }
    let _ = metadata;
    std::fs::read_to_string(path)
        .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
        .map_err(|error| format!("a readable text file ({error})"))
}
