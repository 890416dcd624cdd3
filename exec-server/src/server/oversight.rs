//! Asks one connection's client about hosts, and tells it what was decided (section 13).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use codex_exec_protocol::network::{
    Decision, PolicyAnswer, PolicyDecision, PolicyDecisionParams, PolicyRequest, PolicyRequestParams,
};
use codex_exec_protocol::{RequestId, RpcError, envelope};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::Limits;
use crate::network::Overseer;
use crate::rpc::{Asks, Outbox};

/// A connection, as programs' networks see it.
pub(super) struct Oversight {
    outbox: Arc<Outbox>,
    asks: Arc<Asks>,
    /// Caps the questions that wait for an answer at once.
    slots: Semaphore,
}

impl Oversight {
    pub(super) fn new(outbox: Arc<Outbox>, limits: &Limits) -> Self {
        let slots = Semaphore::new(limits.network.network_questions.clamp(1, Semaphore::MAX_PERMITS));
        Self { outbox, asks: Arc::default(), slots }
    }

    /// Takes an answer of the client. False if nothing with this id was ever asked.
    pub(super) fn answered(&self, id: &RequestId, answer: Result<&str, RpcError>) -> bool {
        self.asks.settle(id, answer.map(str::to_owned))
    }

    /// The client is gone.
    pub(super) fn end(&self) {
        self.slots.close();
        self.asks.close();
    }

    async fn decision(&self, question: &PolicyRequestParams) -> Option<Decision> {
        let _slot = self.slots.acquire().await.ok()?;
        self.outbox.room().await;
        let ask = self.asks.begin()?;
        self.outbox.put(|frame| {
            frame.message(256, |out| envelope::request::<PolicyRequest>(&ask.id(), question, out));
        });
        match ask.answer().await? {
            Ok(result) => match serde_json::from_str::<PolicyAnswer>(&result) {
                Ok(answer) => Some(answer.decision),
                Err(error) => {
                    tracing::warn!(%error, "a client's decision about a host can't be read, and counts as deny");
                    None
                }
            },
            Err(error) => {
                tracing::debug!(%error, "a client refuses to decide about a host");
                None
            }
        }
    }
}

#[async_trait]
impl Overseer for Oversight {
    async fn ask(&self, question: PolicyRequestParams, patience: Duration) -> Option<Decision> {
        timeout(patience, self.decision(&question)).await.ok().flatten()
    }

    async fn tell(&self, report: PolicyDecisionParams) {
        self.outbox.room().await;
        self.outbox.notify::<PolicyDecision>(&report);
    }
}
