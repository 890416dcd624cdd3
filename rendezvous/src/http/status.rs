//! Tells an operator which nodes there are, and where each environment is.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use futures_util::future::join_all;
use url::form_urlencoded;

use super::bearer::observer;
use super::refusal::Refusal;
use crate::app::App;
use crate::cluster::Owner;
use crate::node_id::NodeId;
use crate::status::{Environment, Node, PAGE, Status};
use crate::switch::Load;
use crate::tokens::Role;

pub(super) async fn status(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Status>, Refusal> {
    let account = observer(&app, &headers)?;
    account.usage.request().map_err(Refusal::too_many_requests)?;
    let query = query.unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let after = pairs.find(|(name, _)| name == "after").map(|(_, id)| id.into_owned()).unwrap_or_default();
    let mut environments = app.places(&after, PAGE);
    let next = environments.last().filter(|_| environments.len() == PAGE);
    let next = next.map(|last| last.environment.clone());
    environments.retain(|place| account.grant.allows(Role::Observer, &place.environment));
    load(&app, &mut environments).await;
    Ok(Json(Status { broker: app.directory.health(), nodes: nodes(&app), environments, next }))
}

fn nodes(app: &App) -> Vec<Node> {
    let Some(_) = app.directory.node() else {
        let url = app.public_url.as_ref().unwrap_or(&app.local_url).to_string();
        return vec![Node { node: None, url, leaving: app.is_leaving(), silent_ms: 0, levels: app.levels() }];
    };
    let nodes = app.directory.nodes().into_iter().map(|node| Node {
        node: Some(node.node),
        url: node.url,
        leaving: node.leaving,
        silent_ms: u64::try_from(node.silent.as_millis()).unwrap_or(u64::MAX),
        levels: node.levels,
    });
    nodes.collect()
}

/// Asks each node who uses its environments.
async fn load(app: &App, environments: &mut [Environment]) {
    let mut by_node: HashMap<Option<NodeId>, Vec<String>> = HashMap::new();
    for place in environments.iter().filter(|place| place.attached) {
        by_node.entry(place.node).or_default().push(place.environment.clone());
    }
    let asked = by_node.into_iter().map(async |(node, ids)| {
        let loads = match node.filter(|node| Some(*node) != app.directory.node()) {
            None => Some(app.loads(&ids)),
            Some(node) => app.directory.loads(node, &ids).await,
        };
        ids.into_iter().zip(loads.unwrap_or_default()).collect::<Vec<_>>()
    });
    let loads: HashMap<String, Load> = join_all(asked).await.into_iter().flatten().collect();
    for place in environments {
        let load = match place.attached {
            true => loads.get(&place.environment).copied(),
            false => Some(Load::default()),
        };
        place.harnesses = load.map(|load| load.harnesses);
        place.streams = load.map(|load| load.streams);
    }
}
