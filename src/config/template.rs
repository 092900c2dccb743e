//! `templates`: the files of Go templates that receivers call, and the texts of receivers that call them.

use davy_alerting::template::{Templates, Text};

use super::reader::{Field, Section};
use super::rule_file::matching;

/// Largest file of templates.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Files of templates altogether.
const FILES_MAX: usize = 100;

pub(super) fn read(top: &mut Section<'_>) -> Templates {
    let mut templates = Templates::default();
    let mut files = 0;
    top.list("templates", |field| {
        for path in matching(&field) {
            files += 1;
            if files > FILES_MAX {
                field.error(format!("more than {FILES_MAX} files of templates"));
                break;
            }
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            let too_large = format!("the file is larger than {FILE_BYTES_MAX} bytes");
            let added = super::read(&path, FILE_BYTES_MAX, &too_large)
                .and_then(|text| templates.add(&name, &text).map_err(|e| e.to_string()));
            if let Err(error) = added {
                field.error(format!("{}: {error}", path.display()));
            }
        }
        Some(())
    });
    templates
}

/// A text that may call templates.
pub(super) fn text(field: &Field<'_>, templates: &Templates) -> Option<Text> {
    field.parse(|source| templates.text(source).map_err(|e| e.to_string()))
}

/// The same for a key that need not be there.
pub(super) fn optional(s: &mut Section<'_>, key: &'static str, templates: &Templates) -> Option<Text> {
    s.get(key).and_then(|field| text(&field, templates))
}
