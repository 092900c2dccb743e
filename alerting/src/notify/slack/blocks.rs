//! Davy's own form: one attachment of blocks, with a plain text for notifications.
//!
//! Text from outside is escaped and sent `verbatim`, so that it forms no mention, link or channel name.

use serde_json::{Value, json};

use crate::alert::AlertState;
use crate::notify::notice::Notice;
use crate::text::slack;

/// Slack's own limits, in characters after escaping.
const HEADER_CHARS_MAX: usize = 150;
const SECTION_CHARS_MAX: usize = 3000;
const CONTEXT_CHARS_MAX: usize = 2000;

pub(super) fn body(notice: &Notice) -> Value {
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "emoji": false, "text": cut(&slack(&notice.title), HEADER_CHARS_MAX)},
    })];
    blocks.extend(notice.facts.iter().map(|(heading, text)| {
        let text = format!("*{}*\n{}", slack(heading), slack(text));
        json!({"type": "section", "text": mrkdwn(&cut(&text, SECTION_CHARS_MAX))})
    }));
    let link = format!("<{}|{}>", slack(&notice.link).replace('|', "%7C"), slack(&notice.link_text));
    blocks.push(json!({"type": "section", "text": mrkdwn(&link)}));
    let labels: Vec<String> = notice.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
    if !labels.is_empty() {
        let text = cut(&slack(&labels.join("  ")), CONTEXT_CHARS_MAX);
        blocks.push(json!({
            "type": "context",
            "elements": [{"type": "plain_text", "emoji": false, "text": text}],
        }));
    }
    json!({
        "text": slack(&notice.title),
        "unfurl_links": false,
        "unfurl_media": false,
        "attachments": [{"color": color(notice), "fallback": slack(&notice.title), "blocks": blocks}],
    })
}

fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "verbatim": true, "text": text})
}

/// Cuts without leaving half an entity behind.
fn cut(escaped: &str, chars_max: usize) -> String {
    if escaped.chars().count() <= chars_max {
        return escaped.to_owned();
    }
    let mut kept: String = escaped.chars().take(chars_max - 1).collect();
    if let Some(amp) = kept.rfind('&')
        && !kept[amp..].contains(';')
    {
        kept.truncate(amp);
    }
    kept + "…"
}

fn color(notice: &Notice) -> &'static str {
    match (notice.state, notice.severity.as_str()) {
        (AlertState::Resolved, _) | (AlertState::Firing, "info") => "#2eb67d",
        (AlertState::Firing, "warning") => "#ecb22e",
        (AlertState::Firing, _) => "#e01e5a",
    }
}
