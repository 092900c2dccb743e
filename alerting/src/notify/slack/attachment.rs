//! The file's own form: an attachment as `slack_configs` of an Alertmanager describe it.

use davy_model::Timestamp;
use serde_json::{Map, Value, json};

use crate::config::SlackForm;
use crate::gotemplate::Value as Data;
use crate::template::{Markup, TemplateError, Text};

/// Longest title that Slack shows.
const TITLE_CHARS_MAX: usize = 1024;
/// Slack refuses messages beyond this.
const TEXT_CHARS_MAX: usize = 40_000;

pub(super) fn body(form: &SlackForm, data: &Data, now: Timestamp) -> Result<Value, TemplateError> {
    let mut attachment = Map::new();
    let mut put = |key: &str, text: Option<&Text>, markup: Markup, chars_max: usize| {
        if let Some(text) = text {
            let text: String = text.expand(data, markup, now)?.chars().take(chars_max).collect();
            if !text.is_empty() || key == "text" {
                attachment.insert(key.to_owned(), text.into());
            }
        }
        Ok::<(), TemplateError>(())
    };
    put("title", form.title.as_ref(), Markup::Slack, TITLE_CHARS_MAX)?;
    put("title_link", form.title_link.as_ref(), Markup::Plain, TEXT_CHARS_MAX)?;
    put("pretext", form.pretext.as_ref(), Markup::Slack, TEXT_CHARS_MAX)?;
    put("text", form.text.as_ref(), Markup::Slack, TEXT_CHARS_MAX)?;
    put("fallback", form.fallback.as_ref(), Markup::Slack, TEXT_CHARS_MAX)?;
    put("footer", form.footer.as_ref(), Markup::Slack, TEXT_CHARS_MAX)?;
    put("color", form.color.as_ref(), Markup::Plain, TEXT_CHARS_MAX)?;
    put("image_url", form.image_url.as_ref(), Markup::Plain, TEXT_CHARS_MAX)?;
    put("thumb_url", form.thumb_url.as_ref(), Markup::Plain, TEXT_CHARS_MAX)?;
    let mut fields = Vec::new();
    for field in &form.fields {
        fields.push(json!({
            "title": field.title.expand(data, Markup::Slack, now)?,
            "value": field.value.expand(data, Markup::Slack, now)?,
            "short": field.short,
        }));
    }
    if !fields.is_empty() {
        attachment.insert("fields".to_owned(), fields.into());
    }
    let usual = || ["fallback", "pretext", "text"].map(str::to_owned).to_vec();
    let mrkdwn_in = form.mrkdwn_in.clone().unwrap_or_else(usual);
    attachment.insert("mrkdwn_in".to_owned(), mrkdwn_in.into());

    let mut body = json!({"attachments": [attachment]});
    for (key, text) in
        [("username", &form.username), ("icon_emoji", &form.icon_emoji), ("icon_url", &form.icon_url)]
    {
        if let Some(text) = text {
            let text = text.expand(data, Markup::Plain, now)?;
            if !text.is_empty() {
                body[key] = text.into();
            }
        }
    }
    if form.link_names {
        body["link_names"] = true.into();
    }
    Ok(body)
}
