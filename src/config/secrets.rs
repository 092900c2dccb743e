//! Secrets of the file: written in it, or in a file of their own that it names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use davy_egress::Secret;
use secrecy::SecretString;

use super::reader::{Field, Section};

/// A secret is a line, not a document.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Which of the two a section gave.
enum Given<'a> {
    Inline(SecretString),
    File(Field<'a>, PathBuf),
}

/// The secret under `key`, or in the file under `key_file`, read now.
pub(super) fn read_secret(
    section: &mut Section<'_>,
    key: &'static str,
    key_file: &'static str,
) -> Option<SecretString> {
    match given(section, key, key_file)? {
        Given::Inline(secret) => Some(secret),
        Given::File(field, path) => read_file(&field, &path),
    }
}

/// The same, but a file is only tried now, and read again at each use, so that rotation needs no reload.
pub(super) fn secret_or_file(
    section: &mut Section<'_>,
    key: &'static str,
    key_file: &'static str,
) -> Option<Secret> {
    match given(section, key, key_file)? {
        Given::Inline(secret) => Some(Secret::Inline(secret)),
        Given::File(field, path) => read_file(&field, &path).map(|_| Secret::File(path)),
    }
}

fn given<'a>(section: &mut Section<'a>, key: &'static str, key_file: &'static str) -> Option<Given<'a>> {
    let inline = section.get(key);
    let file = section.get(key_file);
    match (inline, file) {
        (Some(_), Some(file)) => {
            file.error(format!("both `{key}` and `{key_file}` are given; keep one of them"));
            None
        }
        (Some(field), None) => {
            let text = field.text()?;
            if text.is_empty() {
                field.error(format!("`{key}` is empty"));
                return None;
            }
            Some(Given::Inline(SecretString::from(text)))
        }
        (None, Some(field)) => {
            let path = field.path()?;
            Some(Given::File(field, path))
        }
        (None, None) => None,
    }
}

/// Reads a secret's file without its final line break; warns if everyone on the machine can read it.
fn read_file(field: &Field<'_>, path: &Path) -> Option<SecretString> {
    let (text, open_to_all) = match try_read(path) {
        Ok(read) => read,
        Err(e) => {
            field.error(format!("cannot read {}: {e}", path.display()));
            return None;
        }
    };
    if open_to_all {
        let path = path.display();
        field.warn(&format!("{path} can be read by every user of this machine; chmod 600 {path}"));
    }
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        field.error(format!("{} is empty", path.display()));
        return None;
    }
    Some(SecretString::from(secret))
}

fn try_read(path: &Path) -> Result<(String, bool), String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let metadata = file.metadata().map_err(|e| e.to_string())?;
    // A pipe or a device may block or never end.
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!("it is larger than {SECRET_FILE_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok((text, open_to_all(&metadata)))
}

#[cfg(unix)]
fn open_to_all(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn open_to_all(_: &std::fs::Metadata) -> bool {
    false
}
