//! Questions to other nodes, and the answers to theirs.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use codex_exec_protocol::registry::PublicKey;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::shared::{Shared, one};
use crate::clock::now;
use crate::cluster::directory::Elsewhere;
use crate::cluster::message::{About, Answer, Question, Sealed, answer_context, everybody, milliseconds};
use crate::node_id::NodeId;
use crate::registry::{NoOffer, Offer, Presented};
use crate::switch::Load;

/// How long an answer may take. Our own pace: nothing outside depends on it.
pub(super) const ANSWER_TIME: Duration = Duration::from_millis(300);
/// How long a page of a list may take. Our own pace: nothing outside depends on it.
pub(super) const LIST_TIME: Duration = Duration::from_secs(2);
/// Environments in one page: with ids of any length it fits into the message that NATS takes by default, 1 MiB.
const PAGE: usize = 2_000;
/// How far clocks may differ, and how old a message may be.
pub(super) const SKEW: Duration = Duration::from_secs(60);

/// What became of a question to one node.
pub(super) enum Asked {
    Answered(NodeId, Answer),
    /// The broker knows that nobody listens.
    Nobody,
    Silence,
}

impl Shared {
    fn question(&self, subject: &str, about: About) -> Option<(Vec<u8>, Bytes)> {
        let nonce = rand::random();
        let question = Question { nonce, at: milliseconds(now()), about };
        let text = serde_json::to_vec(&question).ok()?;
        Some((answer_context(&nonce), self.sealer.seal(subject.as_bytes(), &text)?.into()))
    }

    fn read(&self, context: &[u8], message: &Message) -> Option<(NodeId, Answer)> {
        let opened = self.sealer.open(context, &message.payload)?;
        Some((opened.sender, serde_json::from_slice(&opened.text).ok()?))
    }

    pub(super) async fn ask_one(&self, node: NodeId, about: About, patience: Duration) -> Asked {
        let subject = one(node);
        let Some((context, sealed)) = self.question(&subject, about) else { return Asked::Silence };
        match timeout(patience, self.client.request(subject, sealed)).await {
            Ok(Ok(message)) => match self.read(&context, &message).filter(|(sender, _)| *sender == node) {
                Some((sender, answer)) => Asked::Answered(sender, answer),
                None => Asked::Silence,
            },
            Ok(Err(error)) if error.kind() == async_nats::RequestErrorKind::NoResponders => Asked::Nobody,
            Ok(Err(_)) | Err(_) => Asked::Silence,
        }
    }

    /// Asks all; the first answer that `wanted` takes, or how many answers there were and whether all came in time.
    async fn ask_all<T>(
        &self,
        about: About,
        patience: Duration,
        mut wanted: impl FnMut(NodeId, Answer) -> Option<T>,
    ) -> Result<T, bool> {
        // Right after the broker came there may be nodes that were not heard yet.
        let others = if self.settled() { self.table.lock().others() } else { usize::MAX };
        if others == 0 {
            return Err(true);
        }
        let subject = everybody();
        let Some((context, sealed)) = self.question(&subject, about) else { return Err(false) };
        let inbox = self.client.new_inbox();
        let deadline = Instant::now() + patience;
        let asking = async {
            let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|_| false)?;
            self.client.publish_with_reply(subject, inbox, sealed).await.map_err(|_| false)?;
            let mut heard = 0;
            while heard < others {
                let Some(message) = answers.next().await else { return Err(false) };
                if message.status == Some(StatusCode::NO_RESPONDERS) {
                    return Err(false);
                }
                let Some((sender, answer)) = self.read(&context, &message) else { continue };
                heard += 1;
                if let Some(found) = wanted(sender, answer) {
                    return Ok(found);
                }
            }
            Err(true)
        };
        timeout_at(deadline, asking).await.unwrap_or(Err(false))
    }

    pub(super) async fn ask_offer(
        &self,
        environment: &str,
        harness: &PublicKey,
    ) -> Result<Elsewhere, NoOffer> {
        let about = || About::Offer { environment: environment.to_owned(), harness: harness.clone() };
        let known = self.table.lock().find(environment);
        if !self.connected() {
            return Err(NoOffer::Away);
        }
        if let Some(Some(node)) = known {
            match self.ask_one(node, about(), ANSWER_TIME).await {
                // Otherwise its executor has just gone, and may be with another node by now.
                Asked::Answered(node, answer) => {
                    if let Some(way) = way(node, answer) {
                        return way;
                    }
                }
                Asked::Nobody => self.is_gone(node),
                Asked::Silence => {}
            }
        }
        let mut away = known.is_some();
        let asked = self.ask_all(about(), ANSWER_TIME, |node, answer| {
            away |= matches!(answer, Answer::Away);
            way(node, answer)
        });
        match asked.await {
            Ok(way) => way,
            // Agents give an environment up for good that is unknown, so all have to say so.
            Err(all) if all && !away && self.settled() => Err(NoOffer::Unknown),
            Err(_) => Err(NoOffer::Away),
        }
    }

    /// Whether the broker is there. A node that has just started waits for it.
    async fn reached(&self) -> bool {
        let starts = self.joined.lock().is_none();
        if starts && !self.connected() {
            // Sent once there is a connection.
            let _ = timeout(LIST_TIME, self.client.flush()).await;
        }
        self.connected()
    }

    pub(super) async fn ask_validate(&self, presented: Presented<'_>) -> bool {
        let about = || About::Validate {
            environment: presented.environment.to_owned(),
            registration: presented.registration.to_owned(),
            harness: presented.harness.clone(),
            authorization: Sealed(presented.authorization.to_owned()),
        };
        if !self.reached().await {
            return false;
        }
        // An executor takes a no for final, and a question whose answer comes too late uses the authorization up.
        let patience = if self.settled() { ANSWER_TIME } else { LIST_TIME };
        let known = self.table.lock().find(presented.environment).flatten();
        if let Some(node) = known {
            match self.ask_one(node, about(), patience).await {
                Asked::Answered(_, Answer::Valid(true)) => return true,
                Asked::Nobody => self.is_gone(node),
                Asked::Answered(..) | Asked::Silence => {}
            }
        }
        let good = |_, answer| matches!(answer, Answer::Valid(true)).then_some(());
        self.ask_all(about(), patience, good).await.is_ok()
    }

    pub(super) async fn ask_loads(&self, node: NodeId, environments: &[String]) -> Option<Vec<Load>> {
        let about = About::Load { environments: environments.to_vec() };
        match self.ask_one(node, about, ANSWER_TIME).await {
            Asked::Answered(_, Answer::Load(loads)) => Some(loads),
            Asked::Answered(..) | Asked::Nobody | Asked::Silence => None,
        }
    }

    /// Takes over what a node has, page by page.
    pub(super) async fn take_list(&self, node: NodeId) {
        let mut listed = std::collections::BTreeSet::new();
        let mut after = String::new();
        loop {
            let about = About::List { after: after.clone() };
            let Asked::Answered(_, Answer::List { claims, more }) =
                self.ask_one(node, about, LIST_TIME).await
            else {
                return;
            };
            let Some(last) = claims.last() else { break };
            // A list that does not go on would never end.
            if last.environment <= after {
                return;
            }
            after.clone_from(&last.environment);
            for claim in claims {
                self.note(node, &claim, true);
                listed.insert(claim.environment);
            }
            if !more {
                break;
            }
        }
        self.table.lock().keep_only(node, &listed, now());
    }

    /// Answers the question of another node, if it is one.
    pub(super) async fn answer(self: Arc<Self>, message: Message) {
        let Some(reply) = message.reply else { return };
        let Some(opened) = self.sealer.open(message.subject.as_bytes(), &message.payload) else { return };
        let Ok(question) = serde_json::from_slice::<Question>(&opened.text) else { return };
        if opened.sender == self.me || !is_recent(question.at) {
            return;
        }
        let Some(answer) = self.answer_to(question.about) else { return };
        let Ok(text) = serde_json::to_vec(&answer) else { return };
        let Some(sealed) = self.sealer.seal(&answer_context(&question.nonce), &text) else { return };
        if let Err(error) = self.client.publish(reply, sealed.into()).await {
            tracing::debug!(%error, "an answer does not go out");
        }
    }

    fn answer_to(&self, about: About) -> Option<Answer> {
        Some(match about {
            About::Offer { environment, harness } => match self.owner()?.offer(&environment, &harness) {
                Ok(offer) => Answer::Offer {
                    registration: offer.registration,
                    key: offer.key,
                    authorization: Sealed(offer.authorization.expose().to_owned()),
                    url: self.url.to_string(),
                },
                Err(NoOffer::Plain) => Answer::Plain,
                Err(NoOffer::Away) => Answer::Away,
                Err(NoOffer::Unknown) if self.table.lock().find(&environment).is_some() => Answer::Away,
                Err(NoOffer::Unknown) => Answer::Unknown,
            },
            About::Validate { environment, registration, harness, authorization } => {
                Answer::Valid(self.owner()?.validate(Presented {
                    environment: &environment,
                    registration: &registration,
                    harness: &harness,
                    authorization: &authorization.0,
                }))
            }
            About::Load { environments } => Answer::Load(self.owner()?.loads(&environments)),
            About::Tokens => Answer::Tokens(self.tokens.as_ref()?.list()),
            About::List { after } => {
                let (claims, more) = self.table.lock().list(&after, PAGE);
                Answer::List { claims, more }
            }
        })
    }
}

/// What an answer leads to; `None` if its node has not got the executor.
fn way(node: NodeId, answer: Answer) -> Option<Result<Elsewhere, NoOffer>> {
    match answer {
        Answer::Offer { registration, key, authorization, url } => {
            let authorization = Answer::secret(authorization);
            let url = Url::parse(&url).ok()?;
            Some(Ok(Elsewhere { offer: Offer { registration, key, authorization }, node, url }))
        }
        Answer::Plain => Some(Err(NoOffer::Plain)),
        _ => None,
    }
}

/// Whether a message was made just now, as far as clocks agree.
pub(super) fn is_recent(at: u64) -> bool {
    milliseconds(now()).abs_diff(at) <= milliseconds(SKEW)
}
