//! Signs how far the audit has come, now and then and after every act, and writes it where the database is not.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use davy_model::Timestamp;
use davy_store::audit::Checkpoint;
use davy_store::control::Control;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::key::{PublicKey, SigningKey, hex, unhex};

/// Within the data folder, unless another file is named: put it on another disk, or ship it.
const CHECKPOINT_FILE: &str = "audit.checkpoints";
const KEY_FILE: &str = "audit.key";

pub(crate) struct AuditKeeper {
    control: Control,
    key: SigningKey,
    file: PathBuf,
}

impl AuditKeeper {
    /// Makes a key if there is none yet.
    pub(crate) fn open(
        control: Control,
        folder: &Path,
        key_file: Option<&Path>,
        checkpoint_file: Option<&Path>,
    ) -> Result<Self, String> {
        let key = SigningKey::open(key_file.unwrap_or(&folder.join(KEY_FILE)))?;
        let file = checkpoint_file.map_or_else(|| folder.join(CHECKPOINT_FILE), Path::to_owned);
        info!(public_key = %key.public(), "audit checkpoints are signed with this key");
        Ok(Self { control, key, file })
    }

    /// Signs what is not signed yet.
    pub(crate) fn checkpoint(&self, now: Timestamp) -> Result<(), String> {
        let head = self.control.audit_head().map_err(|e| e.to_string())?;
        let Some((size, head, _)) = head.filter(|(size, _, signed)| size > signed) else { return Ok(()) };
        let checkpoint = self.key.sign(size, head, now);
        let line = Line::of(&checkpoint);
        let text = serde_json::to_string(&line).map_err(|e| e.to_string())?;
        info!(target: "davy::audit", size, head = line.head, signature = line.signature, "audit checkpoint");
        append(&self.file, &text).map_err(|e| format!("{}: {e}", self.file.display()))?;
        self.control.put_checkpoint(&checkpoint).map_err(|e| e.to_string())
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}

/// The public key beside a data folder, if its signing key is there.
pub(super) fn public_key(folder: &Path, key_file: Option<&Path>) -> Result<PublicKey, String> {
    let path = key_file.map_or_else(|| folder.join(KEY_FILE), Path::to_owned);
    if !path.exists() {
        return Err(format!("{} is not there; name the public key with --public-key", path.display()));
    }
    SigningKey::open(&path).map(|key| key.public())
}

/// A checkpoint as a line of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    size: i64,
    head: String,
    /// Milliseconds since the epoch.
    at: i64,
    signature: String,
}

impl Line {
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            size: checkpoint.size,
            head: hex(&checkpoint.head),
            at: checkpoint.at.as_millis(),
            signature: hex(&checkpoint.signature),
        }
    }

    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        Some(Checkpoint {
            size: self.size,
            head: unhex(&self.head)?.try_into().ok()?,
            at: Timestamp::from_millis(self.at),
            signature: unhex(&self.signature)?,
        })
    }
}
