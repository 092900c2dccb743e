//! The key that signs checkpoints: Ed25519, in a file of its own, apart from the database. Whoever verifies needs only
//! the public half.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use davy_model::Timestamp;
use davy_store::audit::{Checkpoint, Hash};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// PKCS#8 of an Ed25519 key is below a hundred bytes.
const KEY_BYTES_MAX: u64 = 4096;

pub(super) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads the key, or makes one if there is none.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("the audit key {}: {e}", path.display());
        match fs::metadata(path) {
            Ok(meta) if meta.len() > KEY_BYTES_MAX => return Err(wrong(&"is no PKCS#8 key of Ed25519")),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => create(path).map_err(|e| wrong(&e))?,
            Err(e) => return Err(wrong(&e)),
        }
        let bytes = fs::read(path).map_err(|e| wrong(&e))?;
        Ed25519KeyPair::from_pkcs8(&bytes).map(Self).map_err(|_| wrong(&"is no PKCS#8 key of Ed25519"))
    }

    pub(super) fn sign(&self, size: i64, head: Hash, at: Timestamp) -> Checkpoint {
        let signature = self.0.sign(&message(size, &head, at)).as_ref().to_vec();
        Checkpoint { size, head, at, signature }
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }
}

fn create(path: &Path) -> io::Result<()> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| io::Error::other("no randomness to make a key of"))?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(pkcs8.as_ref())?;
    file.sync_all()
}

/// One line of hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey(Vec<u8>);

impl PublicKey {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        unhex(text.trim())
            .filter(|bytes| bytes.len() == 32)
            .map(Self)
            .ok_or_else(|| "expected a public key: 64 hex digits, as `davy audit key` prints them".to_owned())
    }

    pub(super) fn signed(&self, checkpoint: &Checkpoint) -> bool {
        let Checkpoint { size, head, at, signature } = checkpoint;
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&message(*size, head, *at), signature).is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// What is signed: text, so that anyone can do it again.
fn message(size: i64, head: &Hash, at: Timestamp) -> Vec<u8> {
    format!("davy audit checkpoint 1\n{size}\n{}\n{}\n", hex(head), at.as_millis()).into_bytes()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
}
