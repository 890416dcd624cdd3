//! The loop that keeps an executor attached (5.1, 8.1): register, connect, serve, wait, again.
//!
//! The steps themselves are behind a trait, so that each row of the tables is tested in paused time.

use std::time::Duration;

use tokio::time::Instant;

use super::outcome::{Ended, Unattached};
use super::socket::address;
use super::status::Status;
use crate::backoff::{Backoff, Jitter};
use crate::registry::{Contract, Registration, RemoteError};

/// A connection that lived this long was not one of two executors that take each other's place in turn.
/// Our own pace: nothing outside depends on it.
const STEADY_TIME: Duration = Duration::from_secs(300);

/// What the loop does to the world.
pub(super) trait Steps {
    /// An open websocket to the rendezvous.
    type Socket;

    /// Asks the registry for a place once, without trying again.
    async fn register(&mut self) -> Result<Registration, RemoteError>;
    /// Opens the websocket that the registration names, without trying again.
    async fn connect(&mut self, registration: &Registration) -> Result<Self::Socket, Unattached>;
    /// Serves until the websocket ends; why it did.
    async fn serve(&mut self, registration: &Registration, socket: Self::Socket) -> Ended;
    /// Tells the person who started the program.
    fn tell(&mut self, status: Status);
}

/// How the loop behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) contract: Contract,
    /// The first registration is tried until it succeeds, too.
    pub(super) wait_for_registry: bool,
}

/// Runs until a registration fails for good.
pub(super) async fn run<S: Steps>(policy: Policy, steps: &mut S, jitter: &mut Jitter) -> RemoteError {
    match attach(policy, steps, jitter).await {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// There is no way out of the loop but an error.
enum Never {}

async fn attach<S: Steps>(policy: Policy, steps: &mut S, jitter: &mut Jitter) -> Result<Never, RemoteError> {
    let mut delays = match policy.contract {
        Contract::Noise => Backoff::of_noise_rendezvous(),
        _ => Backoff::of_plain_rendezvous(),
    };
    let mut displaced = Backoff::of_displaced();
    let mut patient = policy.wait_for_registry;
    let mut kept: Option<Registration> = None;
    loop {
        let registration = match kept.take() {
            Some(registration) => registration,
            None => register(policy.contract, patient, steps, jitter).await?,
        };
        patient = true;
        let (pause, forgotten) = match steps.connect(&registration).await {
            Ok(socket) => {
                delays.reset();
                let since = Instant::now();
                let Ended { reason, superseded } = steps.serve(&registration, socket).await;
                if !superseded || since.elapsed() >= STEADY_TIME {
                    displaced.reset();
                }
                // Two executors of one id would throw each other out every second; so each waits longer every time.
                let again = if superseded { displaced.next(jitter) } else { delays.next(jitter) };
                steps.tell(match superseded {
                    true => Status::Superseded { again },
                    false => Status::Lost { reason, again },
                });
                (again, false)
            }
            Err(Unattached { reason, forgotten }) => {
                let again = delays.next(jitter);
                let rendezvous = address(&registration.url);
                steps.tell(Status::Unattached { rendezvous, reason, again });
                (again, forgotten)
            }
        };
        if policy.contract.keeps_registration() {
            kept = Some(match forgotten {
                true => register(policy.contract, patient, steps, jitter).await?,
                false => registration,
            });
        }
        tokio::time::sleep(pause).await;
    }
}

/// Registers; a `patient` one goes on until an answer is final.
async fn register<S: Steps>(
    contract: Contract,
    patient: bool,
    steps: &mut S,
    jitter: &mut Jitter,
) -> Result<Registration, RemoteError> {
    let mut delays = Backoff::of_registry();
    loop {
        let error = match steps.register().await {
            Ok(registration) => {
                let Registration { id, executor, .. } = registration.clone();
                steps.tell(Status::Registered { contract, id, executor });
                return Ok(registration);
            }
            Err(error) => error,
        };
        if error.is_final() || !(patient || error.is_passing()) {
            return Err(error);
        }
        let again = delays.next(jitter);
        steps.tell(Status::RegistryAway { reason: error.sentence(), again });
        tokio::time::sleep(again).await;
    }
}

#[cfg(test)]
mod tests;
