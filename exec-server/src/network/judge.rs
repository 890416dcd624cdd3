//! Decides about each request of one program: by the rules, by asking, and by the addresses; reports, and connects.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codex_exec_protocol::ProcessId;
use codex_exec_protocol::network::{
    Decision, DecisionSource, DecisionWord, HostRequest, PolicyDecisionParams, PolicyRequestParams,
};
use codex_outgoing::{DialError, Forward, Stream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::address::is_public;
use super::dial;
use super::host::HostName;
use super::overseer::OverseerSlot;
use super::policy::{Found, Reason, Rules, Verdict, Wish};
use super::upstream::{Rule, Upstream};
use crate::own_port;

/// How long an answer may take beyond the time that the client promised (13).
/// Our own pace: nothing outside depends on it.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
/// A client's reason is passed on up to this many bytes. A safeguard, far from any real use.
const LONGEST_REASON: usize = 4096;

/// The longest wait for a connection, whatever the bound says. A safeguard, far from any real use.
const LONGEST_CONNECT: Duration = Duration::from_secs(3600);

/// How long a name is looked up that a proxy will look up as well. Behind a company's proxy nobody may know it.
const LOOK_BEFORE_PROXY: Duration = Duration::from_secs(2);

/// Decides for one program.
pub(super) struct Judge {
    pub(super) process_id: ProcessId,
    pub(super) rules: Rules,
    /// How long the client may take to answer; none if the client is not asked.
    pub(super) patience: Option<Duration>,
    pub(super) overseer_slot: Arc<OverseerSlot>,
    /// For looking up and connecting.
    pub(super) connect_time: Duration,
    pub(super) longest_wait: Duration,
    pub(super) lookups: Arc<Semaphore>,
    /// Whether the program has a network of its own, so that this machine's loopback isn't the program's.
    pub(super) own_network: bool,
    /// What stands between this machine and the world.
    pub(super) upstream: Upstream,
    /// Whether the program may use that.
    pub(super) allows_upstream: bool,
}

/// The way that a connection was found to go.
enum Route {
    /// To these addresses, which were checked.
    Straight(Vec<SocketAddr>),
    /// Through a proxy.
    Through,
}

/// Why there is no connection: for the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxyRefusal {
    pub(super) kind: Kind,
    /// The refusal in words, for people.
    pub(super) sentence: String,
}

/// What kind of a failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was decided so.
    Forbidden,
    /// Nobody knows the host.
    NotFound,
    /// The address does not answer.
    Unreachable,
    /// It took too long.
    TimedOut,
}

/// A decision, and who made it.
struct Final {
    decision: DecisionWord,
    source: DecisionSource,
    reason: String,
}

impl Final {
    fn by_rules(reason: Reason) -> Self {
        Self {
            decision: DecisionWord::Deny,
            source: DecisionSource::BaselinePolicy,
            reason: reason.word().to_owned(),
        }
    }
}

impl Judge {
    /// Connects what comes by SOCKS or a device, if it may be.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn admit(&self, wish: &Wish, client: Option<&str>) -> Result<TcpStream, ProxyRefusal> {
        let deadline = Instant::now() + self.connect_time.min(LONGEST_CONNECT);
        match self.route(wish, client, deadline).await? {
            Route::Straight(found) => connect(wish, &found, deadline).await,
            Route::Through => in_time(wish, deadline, self.upstream.tcp(wish)).await,
        }
    }

    /// The addresses that datagrams to this host may go to.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn admit_datagrams(
        &self,
        wish: &Wish,
        client: Option<&str>,
    ) -> Result<Vec<SocketAddr>, ProxyRefusal> {
        let deadline = Instant::now() + self.connect_time.min(LONGEST_CONNECT);
        match self.route(wish, client, deadline).await? {
            Route::Straight(found) => Ok(found),
            Route::Through => Err(failed(wish, Kind::Unreachable, "can't be reached by a proxy")),
        }
    }

    /// Connects what comes by HTTP, if it may be.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn admit_http(
        &self,
        wish: &Wish,
        client: Option<&str>,
    ) -> Result<Forward, ProxyRefusal> {
        let deadline = Instant::now() + self.connect_time.min(LONGEST_CONNECT);
        match self.route(wish, client, deadline).await? {
            Route::Straight(found) => {
                let stream = Stream::Plain(connect(wish, &found, deadline).await?);
                Ok(Forward { stream, takes_whole: false, authorization: None })
            }
            Route::Through => in_time(wish, deadline, self.upstream.http(wish)).await,
        }
    }

    /// Decides, and says which way it goes.
    async fn route(
        &self,
        wish: &Wish,
        client: Option<&str>,
        deadline: Instant,
    ) -> Result<Route, ProxyRefusal> {
        let mut decided = match self.rules.judge(wish) {
            Verdict::Refused(reason) => {
                self.report(wish, client, &Final::by_rules(reason)).await;
                return Err(self.refused(wish, reason));
            }
            Verdict::Allowed => Final {
                decision: DecisionWord::Allow,
                source: DecisionSource::BaselinePolicy,
                reason: "allowed".to_owned(),
            },
            Verdict::Undecided => self.ask(wish).await,
        };
        if decided.decision != DecisionWord::Allow {
            self.report(wish, client, &decided).await;
            return Err(if decided.reason == Reason::NotAllowed.word() {
                self.refused(wish, Reason::NotAllowed)
            } else {
                forbidden(wish, &format!("was refused: {}", decided.reason))
            });
        }
        let rule = self.upstream.rule(wish, self.allows_upstream);
        if rule == Rule::Closed {
            self.report(wish, client, &decided).await;
            let closed = "is reached by an upstream proxy only, which allowUpstreamProxy would allow";
            return Err(failed(wish, Kind::Unreachable, closed));
        }
        let by_proxy = matches!(rule, Rule::Through | Rule::Only);
        let patience = if by_proxy { deadline.min(Instant::now() + LOOK_BEFORE_PROXY) } else { deadline };
        let looked_up = timeout_at(patience, dial::look_up(&wish.host, wish.port, &self.lookups)).await;
        let found = match looked_up {
            Ok(Ok(found)) => found,
            // The proxy may know it. By itself a name leads no program inside: rules allowed it.
            Ok(Err(_)) | Err(_) if by_proxy => {
                self.report(wish, client, &decided).await;
                return Ok(Route::Through);
            }
            Ok(Err(error)) => {
                self.report(wish, client, &decided).await;
                return Err(failed(wish, Kind::NotFound, &format!("can't be looked up: {error}")));
            }
            Err(_) => {
                self.report(wish, client, &decided).await;
                return Err(failed(wish, Kind::TimedOut, "could not be looked up in time"));
            }
        };
        // One inner address is enough: no honest name has one.
        let checked = found.iter().try_for_each(|found| {
            let found = Found {
                address: found.ip(),
                port: found.port(),
                is_own: dial::is_own(found.ip()),
                is_this_server: own_port::is_ours(found.port()),
            };
            self.rules.check_address(&wish.host, found)
        });
        if let Err(reason) = checked {
            decided = Final::by_rules(reason);
        }
        self.report(wish, client, &decided).await;
        if let Err(reason) = checked {
            return Err(self.refused(wish, reason));
        }
        let is_private = found.iter().any(|found| !is_public(found.ip()) || dial::is_own(found.ip()));
        match rule {
            Rule::Through | Rule::Only if !is_private || self.upstream.private => Ok(Route::Through),
            Rule::Only | Rule::Closed => {
                let private = "is a private address, which is not sent to the upstream proxy";
                Err(failed(wish, Kind::Unreachable, private))
            }
            Rule::Through | Rule::Straight => Ok(Route::Straight(found)),
        }
    }

    /// What the client says of a host that no rule decides.
    async fn ask(&self, wish: &Wish) -> Final {
        let nobody = |source| Final {
            decision: DecisionWord::Deny,
            source,
            reason: Reason::NotAllowed.word().to_owned(),
        };
        let Some(patience) = self.patience else { return nobody(DecisionSource::BaselinePolicy) };
        let question = PolicyRequestParams {
            process_id: self.process_id.clone(),
            request: HostRequest { protocol: wish.protocol, host: wish.host.to_string(), port: wish.port },
        };
        let patience = patience.saturating_add(ANSWER_GRACE).min(self.longest_wait);
        let answer = match self.overseer_slot.current() {
            Some(overseer) => overseer.ask(question, patience).await,
            None => None,
        };
        let (decision, reason) = match answer {
            Some(Decision::Allow) => (DecisionWord::Allow, "allowed".to_owned()),
            Some(Decision::Deny { reason }) => (DecisionWord::Deny, reason),
            Some(Decision::Ask { reason }) => (DecisionWord::Ask, reason),
            None => return nobody(DecisionSource::Decider),
        };
        Final { decision, source: DecisionSource::Decider, reason: shortened(reason) }
    }

    fn refused(&self, wish: &Wish, reason: Reason) -> ProxyRefusal {
        let wants_loopback = match wish.host {
            HostName::Address(address) => address.is_loopback() || address.is_unspecified(),
            HostName::Name(_) => wish.host.is_localhost(),
        };
        forbidden(wish, &format!("{} ({})", why(reason, self.own_network, wants_loopback), reason.word()))
    }

    async fn report(&self, wish: &Wish, client: Option<&str>, decided: &Final) {
        let Some(overseer) = self.overseer_slot.current() else { return };
        let allowed_by_asking = decided.decision == DecisionWord::Allow
            && decided.source == DecisionSource::Decider
            && !self.rules.allows(&wish.host, wish.port);
        let report = PolicyDecisionParams {
            process_id: self.process_id.clone(),
            timestamp: format!("{:.3}", jiff::Timestamp::now()),
            scope: "domain".to_owned(),
            decision: decided.decision,
            source: decided.source,
            reason: decided.reason.clone(),
            protocol: wish.protocol,
            host: wish.host.to_string(),
            port: wish.port,
            method: wish.method.clone(),
            client: client.map(str::to_owned),
            policy_override: allowed_by_asking,
        };
        overseer.tell(report).await;
    }
}

async fn connect(wish: &Wish, found: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ProxyRefusal> {
    dial::connect(found, deadline).await.map_err(|error| match error.kind() {
        ErrorKind::TimedOut => failed(wish, Kind::TimedOut, "did not answer in time"),
        _ => failed(wish, Kind::Unreachable, &format!("can't be reached: {error}")),
    })
}

/// Connects through a proxy.
async fn in_time<T>(
    wish: &Wish,
    deadline: Instant,
    connecting: impl Future<Output = Result<T, DialError>>,
) -> Result<T, ProxyRefusal> {
    match timeout_at(deadline, connecting).await {
        Ok(connected) => {
            connected.map_err(|error| failed(wish, Kind::Unreachable, &format!("can't be reached: {error}")))
        }
        Err(_) => Err(failed(wish, Kind::TimedOut, "did not answer in time")),
    }
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_REASON));
    text
}

/// Tells a program in a network of its own how to reach its own servers.
const OWN_LOOPBACK: &str = "would be the loopback of the machine, not the program's own, which is reached without the proxy \
     (curl --noproxy '*', or NO_PROXY=localhost)";

fn why(reason: Reason, own_network: bool, wants_loopback: bool) -> &'static str {
    match reason {
        Reason::NotAllowed | Reason::NotAllowedLocal | Reason::Unspecified | Reason::ThisServer
            if own_network && wants_loopback =>
        {
            OWN_LOOPBACK
        }
        Reason::Denied => "is denied by a rule",
        Reason::NotAllowed => "is not allowed by any rule",
        Reason::NotAllowedLocal if own_network => {
            "is, or leads to, an address of this machine or its network, which is closed to this program"
        }
        Reason::NotAllowedLocal => {
            "is, or leads to, an address of this machine or its network, which allowLocalBinding would allow"
        }
        Reason::ThisServer => "is, or leads to, this server itself, which no program of its may use",
        Reason::Unspecified => "is, or leads to, an address that stands for none; name the one that you mean",
        Reason::LeadsInside => {
            "is a name that leads to an address for this machine alone, which a rule has to allow by itself"
        }
        Reason::OnlyReading => {
            "may only be read from, by GET, HEAD and OPTIONS of plain HTTP without a body: the mode is \"limited\""
        }
    }
}

fn forbidden(wish: &Wish, what: &str) -> ProxyRefusal {
    failed(wish, Kind::Forbidden, what)
}

fn failed(wish: &Wish, kind: Kind, what: &str) -> ProxyRefusal {
    let sentence = format!("The network proxy of this program: {}:{} {what}.", wish.host.in_url(), wish.port);
    ProxyRefusal { kind, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_its_own_loopback_is_never_told_to_have_the_machines_opened() {
        let reasons = [
            Reason::Denied,
            Reason::NotAllowed,
            Reason::NotAllowedLocal,
            Reason::ThisServer,
            Reason::Unspecified,
            Reason::LeadsInside,
            Reason::OnlyReading,
        ];
        for reason in reasons {
            for wants_loopback in [false, true] {
                assert!(!why(reason, true, wants_loopback).contains("allowLocalBinding"), "{reason:?}");
                assert!(!why(reason, false, wants_loopback).contains("NO_PROXY"), "{reason:?}");
            }
        }
        assert!(why(Reason::NotAllowedLocal, true, true).contains("NO_PROXY=localhost"));
        assert!(why(Reason::NotAllowed, true, true).contains("NO_PROXY=localhost"));
        assert!(why(Reason::NotAllowedLocal, false, true).contains("allowLocalBinding"));
    }
}
