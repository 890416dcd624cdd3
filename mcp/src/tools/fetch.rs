//! The tool that makes HTTP requests from an environment's machine.

use std::collections::BTreeMap;
use std::time::Duration;

use codex_exec_protocol::http::{RedirectPolicy, RequestHeader, RequestParams};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;

use super::call::Call;
use crate::outcome::{Outcome, Refused};

/// How long a request takes when the call does not say. Our own pace: nothing outside depends on it.
const USUAL_TIME: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FetchArgs {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    timeout_ms: Option<u64>,
    max_bytes: Option<u64>,
    environment: Option<String>,
}

pub(crate) async fn fetch(call: &Call<'_>, args: FetchArgs) -> Result<Outcome, Refused> {
    let lender = call.lender;
    if lender.confinement.permissions.is_some() {
        return Err(Refused::because(
            "requests are not made here: this server confines what it runs with --sandbox",
        ));
    }
    let there = lender.environments.get(args.environment.as_deref()).await?;
    let time = lender.limits.wait(args.timeout_ms, USUAL_TIME);
    let header = |(name, value)| RequestHeader { name, value, value_env_var: None };
    let params = RequestParams {
        method: args.method.unwrap_or_else(|| "GET".into()),
        url: args.url,
        headers: args.headers.into_iter().map(header).collect(),
        body: args.body.map(|body| body.into_bytes().into()),
        timeout_ms: u64::try_from(time.as_millis()).ok(),
        redirect_policy: RedirectPolicy::Follow,
        request_id: uuid::Uuid::new_v4().simple().to_string(),
        stream_response: true,
    };
    let (head, mut body) = there.environment().http.stream(params).await?;
    let most = lender.limits.shown(args.max_bytes);
    let (mut bytes, mut broken) = (Vec::new(), None);
    while bytes.len() <= most {
        match body.next().await {
            Some(Ok(piece)) => bytes.extend(piece),
            Some(Err(error)) => {
                broken = Some(error.to_string());
                break;
            }
            None => break,
        }
    }
    // What is left is not waited for.
    drop(body);
    let truncated = bytes.len() > most;
    bytes.truncate(most);
    let shown = bytes.len();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut told = format!("Status {}\n", head.status);
    for header in
        head.headers.iter().filter(|header| ["content-type", "location"].contains(&header.name.as_str()))
    {
        told.push_str(&format!("{}: {}\n", header.name, header.value));
    }
    told.push_str(&format!("\n{text}"));
    if truncated {
        told.push_str(&format!("\n[… the body is longer than the {most} bytes that are shown …]"));
    }
    if let Some(broken) = &broken {
        told.push_str(&format!("\n[… {broken} …]"));
    }
    let headers: Vec<_> = head.headers.iter().map(|header| json!([header.name, header.value])).collect();
    let data = json!({
        "status": head.status, "headers": headers, "body": text, "shown_bytes": shown, "truncated": truncated,
        "broken": broken,
    });
    Ok(Outcome { text: told, data })
}
