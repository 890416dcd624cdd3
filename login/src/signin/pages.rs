//! The two pages that the browser ends on: signed in, or why not.

use std::fmt::Write as _;

use super::Failure;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;place-items:center;min-height:100vh;\
background:#fafafa;color:#1a1a1a}main{max-width:36rem;padding:2rem}h1{font-size:1.5rem;margin:0 0 .5rem}\
dt{color:#666;font-size:.875rem}dd{margin:0 0 .75rem;overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}dt{color:#aaa}}";

/// The page after a sign-in that was saved.
pub(super) fn success() -> String {
    page("Signed in to Codex", "<p>You may close this page and return to the terminal.</p>")
}

/// The page after a sign-in that failed.
pub(super) fn failure(failure: &Failure) -> String {
    let mut body = format!("<p>{}</p><dl>", escape(&failure.to_string()));
    for (term, text) in [("Error code", failure.code()), ("Details", failure.description())] {
        if !text.is_empty() {
            // Writing to a String can't fail.
            let _ = write!(body, "<dt>{term}</dt><dd>{}</dd>", escape(text));
        }
    }
    body.push_str("</dl><p>Return to the terminal and run <code>codex login</code> to try again.</p>");
    page(failure.title(), &body)
}

fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>\n"
    )
}

/// Text as it may stand in an element or a quoted attribute.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
        escaped
    })
}
