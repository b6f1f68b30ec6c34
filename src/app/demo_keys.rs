//! Demo mode makes its own keys at the first start and keeps them beside the store. Each symmetric
//! key begins with a mark, and the store keeps a fingerprint of every one, so that production refuses
//! them (contract §3).

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::AppError;
use crate::clock::Clock;
use crate::config::DEMO_KEY_MARK;
use crate::random::Random;
use crate::simulator;
use crate::simulator::keys::DemoKeys as ProviderKeys;

/// Everything that demo mode made for itself.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct DemoKeys {
    field_key: String,
    index_key: String,
    token_key: String,
    pub(super) providers: ProviderKeys,
}

impl DemoKeys {
    /// Reads the file, or makes the keys and writes it.
    pub(super) fn at(
        path: &Path,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self, AppError> {
        read_or_make(path, || {
            let key = || {
                let mut key: [u8; 32] = random.bytes();
                key[..DEMO_KEY_MARK.len()].copy_from_slice(DEMO_KEY_MARK);
                STANDARD.encode(key)
            };
            Ok(Self {
                field_key: key(),
                index_key: key(),
                token_key: key(),
                providers: simulator::keys::generate(clock, random)
                    .map_err(|error| AppError::Demo(error.to_string()))?,
            })
        })
    }

    /// Field, index and token key.
    pub(super) fn symmetric(&self) -> Result<[[u8; 32]; 3], AppError> {
        let decode = |text: &str| {
            STANDARD
                .decode(text)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| {
                    AppError::Demo(
                        "the file of demo keys is damaged: delete the demo's folder and start anew"
                            .to_owned(),
                    )
                })
        };
        Ok([
            decode(&self.field_key)?,
            decode(&self.index_key)?,
            decode(&self.token_key)?,
        ])
    }
}

/// A JSON file of secrets: read where it exists, otherwise made and written for this user alone.
pub(super) fn read_or_make<T: Serialize + DeserializeOwned>(
    path: &Path,
    make: impl FnOnce() -> Result<T, AppError>,
) -> Result<T, AppError> {
    let failed = |error: String| AppError::Demo(format!("{}: {error}", path.display()));
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let fresh = make()?;
            write_secret(path, &fresh).map_err(|error| failed(error.to_string()))?;
            Ok(fresh)
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

pub(super) fn write_secret<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write_file(path, &text)
}

/// For this user alone; written beside and renamed, so that a kill leaves no half file.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}
