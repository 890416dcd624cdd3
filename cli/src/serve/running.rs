//! The three ways to serve: those who connect, the one client on stdio, and what a rendezvous sends.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use codex_children::keeper;
use codex_children::signals::ChildSignals;
use codex_config::Config;
use codex_exec_server::Limits;
use codex_exec_server::process::{Groups, Survival};
use codex_exec_server::remote::Lent;
use codex_exec_server::server::Server;
use codex_exec_server::transport::{Bound, Listener};
use tokio::task::JoinSet;

use super::args::ServeArgs;
use super::ending::{Asked, Signals, end, give_way};
use super::kept::Below;
use super::{allow_many_descriptors, auth, config, observing, reaping, stdio, supervise_beside, supervision};
use crate::remote::{self, Plan};
use crate::setup::Setup;
use crate::{output, resident_memory};

/// Serves what a rendezvous sends, until a signal or a failure for good.
pub(super) async fn attach(
    plan: Plan,
    args: ServeArgs,
    limits: Limits,
    home: PathBuf,
    settings: Config,
    below: Below,
) -> anyhow::Result<u8> {
    let Below { keeper, entries, children } = below;
    let survival = survival(keeper.as_ref());
    let follows = keeper.as_ref().is_some_and(keeper::Server::follows);
    let mut signals = Signals::new(keeper).context("can't listen for signals")?;
    let _goodbye = supervision();
    allow_many_descriptors();
    let groups = Groups::when_needed();
    let _orphans = reaping(children, &groups)?;
    let observer = observing::observer(&args, &limits, plan.environment())?;
    let mut config = config(&args, limits, groups, Some(home.clone()), &observer)?;
    config.host.survival = survival;
    let server = Server::observed(config, observer);
    let _figures = observing::show_figures(&args, &server, follows)?;
    server.take_over(entries);
    signals.serves();
    supervise_beside();
    let code = remote::attach(plan, &home, &settings, Lent::Server(Arc::clone(&server)), signals.end()).await;
    end(&server, JoinSet::new(), &mut signals).await;
    Ok(code)
}

/// Where what is to outlive this server is kept: nowhere without a keeper.
fn survival(keeper: Option<&keeper::Server>) -> Survival {
    keeper.map_or_else(Survival::default, |keeper| Survival::new(Arc::new(keeper.store().clone())))
}

/// Serves the one client on stdin and stdout.
pub(super) async fn serve_stdio(
    args: ServeArgs,
    limits: Limits,
    setup: Setup,
    children: ChildSignals,
) -> anyhow::Result<u8> {
    let mut signals = Signals::new(None).context("can't listen for signals")?;
    let _goodbye = supervision();
    allow_many_descriptors();
    let groups = Groups::when_needed();
    let _orphans = reaping(children, &groups)?;
    let observer = observing::observer(&args, &limits, None)?;
    let server = Server::observed(config(&args, limits, groups, setup.own_home(), &observer)?, observer);
    let _figures = observing::show_figures(&args, &server, false)?;
    supervise_beside();
    stdio::serve(&server, &mut signals).await?;
    Ok(0)
}

/// Serves those who connect.
pub(super) async fn listen(
    args: ServeArgs,
    limits: Limits,
    setup: Setup,
    bound: Bound,
    below: Below,
) -> anyhow::Result<u8> {
    let Below { keeper, entries, children } = below;
    let auth = auth(&args)?;
    let follows = keeper.as_ref().is_some_and(keeper::Server::follows);
    let survival = survival(keeper.as_ref());
    let mut signals = Signals::new(keeper).context("can't listen for signals")?;
    let _goodbye = supervision();
    allow_many_descriptors();
    let groups = Groups::when_needed();
    let _orphans = reaping(children, &groups)?;
    let observer = observing::observer(&args, &limits, None)?;
    let mut config = config(&args, limits, groups, setup.own_home(), &observer)?;
    config.host.survival = survival;
    let server = Server::observed(config, observer);
    let shown = observing::for_clients(&args, server.observer());
    let listener = Listener::observed(bound, auth, server.limits(), shown)?;
    let _figures = observing::show_figures(&args, &server, follows)?;
    server.take_over(entries);
    if !follows {
        output::line(&listener.local_address()).context("can't print the address on stdout")?;
    }
    signals.serves();
    supervise_beside();
    resident_memory::forget_start();
    accept(&server, listener, &mut signals).await?;
    Ok(0)
}

async fn accept(server: &Arc<Server>, mut listener: Listener, signals: &mut Signals) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            pending = listener.accept() => {
                let pending = pending.context("can't accept connections any more")?;
                let server = Arc::clone(server);
                connections.spawn(async move {
                    if let Some(carrier) = pending.handshake().await {
                        server.serve(carrier).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            asked = signals.next() => match asked {
                Asked::Suspend => {
                    if give_way(server, &mut connections, signals).await == Asked::End {
                        break;
                    }
                }
                Asked::End => break,
                // Of an upgrade that came to nothing.
                Asked::GoOn => {}
            },
        }
    }
    drop(listener);
    end(server, connections, signals).await;
    Ok(())
}
