//! `{"status":"success","data":..,"warnings":[..]}` around whatever is not the answer to a query.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::answer::notes;

pub(super) fn success(data: &impl Serialize) -> Response {
    with_warnings(data, &[])
}

pub(super) fn with_warnings(data: &impl Serialize, warnings: &[String]) -> Response {
    written(|out| serde_json::to_writer(out, data).expect("a reply of text and numbers is JSON"), warnings)
}

/// For data that is written as bytes.
pub(super) fn written(write: impl FnOnce(&mut Vec<u8>), warnings: &[String]) -> Response {
    let mut out = br#"{"status":"success","data":"#.to_vec();
    write(&mut out);
    notes(&mut out, "warnings", "warning", warnings);
    out.push(b'}');
    ([(header::CONTENT_TYPE, "application/json")], out).into_response()
}

/// `[item,item]`.
pub(super) fn list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, one) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        item(out, one);
    }
    out.push(b']');
}
