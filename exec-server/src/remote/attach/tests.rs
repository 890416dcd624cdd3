//! Tests of the loop, row by row, in paused time.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::Instant;

use super::*;
use crate::registry::Cause;

/// What happens at one step.
enum Step {
    /// A registration succeeds.
    Registered,
    /// A registration fails so.
    Failed(fn(Contract) -> RemoteError),
    /// A websocket stands for this long.
    Served(u64),
    /// The same, and then another executor takes over.
    Superseded(u64),
    /// No websocket: with or without a 4xx.
    Unattached { forgotten: bool },
}

/// Plays steps and notes what was done, and when (in milliseconds).
struct Play {
    contract: Contract,
    start: Instant,
    steps: VecDeque<Step>,
    done: Vec<(u128, String)>,
    told: Vec<Status>,
}

impl Play {
    fn note(&mut self, what: &str) {
        self.done.push((self.start.elapsed().as_millis(), what.to_owned()));
    }

    fn next(&mut self) -> Step {
        self.steps.pop_front().unwrap_or(Step::Failed(unauthorized))
    }
}

impl Steps for Play {
    type Socket = (Duration, bool);

    async fn register(&mut self) -> Result<Registration, RemoteError> {
        self.note("register");
        match self.next() {
            Step::Registered => Ok(Registration {
                id: "env-1".into(),
                executor: None,
                url: "ws://h".to_owned().into(),
                registration_id: None,
            }),
            Step::Failed(error) => Err(error(self.contract)),
            Step::Served(_) | Step::Superseded(_) | Step::Unattached { .. } => {
                panic!("not at a registration: {:?}", self.done)
            }
        }
    }

    async fn connect(&mut self, _registration: &Registration) -> Result<Self::Socket, Unattached> {
        self.note("connect");
        match self.next() {
            Step::Served(milliseconds) => Ok((Duration::from_millis(milliseconds), false)),
            Step::Superseded(milliseconds) => Ok((Duration::from_millis(milliseconds), true)),
            Step::Unattached { forgotten } => Err(Unattached { reason: "refused".into(), forgotten }),
            // The script has ended: a 4xx leads to a registration in every contract.
            Step::Failed(_) => Err(Unattached { reason: "end".into(), forgotten: true }),
            Step::Registered => panic!("not at a connection: {:?}", self.done),
        }
    }

    async fn serve(&mut self, _registration: &Registration, socket: Self::Socket) -> Ended {
        let (time, superseded) = socket;
        tokio::time::sleep(time).await;
        Ended { reason: "closed".into(), superseded }
    }

    fn tell(&mut self, status: Status) {
        self.told.push(status);
    }
}

fn unauthorized(contract: Contract) -> RemoteError {
    RemoteError::Unauthorized { contract, status: StatusCode::UNAUTHORIZED, message: String::new() }
}

fn refused(contract: Contract, status: StatusCode) -> RemoteError {
    RemoteError::Refused { contract, status, code: None, message: String::new() }
}

fn away(contract: Contract) -> RemoteError {
    refused(contract, StatusCode::SERVICE_UNAVAILABLE)
}

fn unreachable(contract: Contract) -> RemoteError {
    RemoteError::Request { contract, text: "no".into(), cause: Some(Cause::new("refused")) }
}

/// Plays until the loop ends; what was done when, with delays at their least.
async fn play(contract: Contract, wait_for_registry: bool, steps: Vec<Step>) -> (Play, RemoteError) {
    let steps = steps.into();
    let mut play = Play { contract, start: Instant::now(), steps, done: Vec::new(), told: Vec::new() };
    let mut least: Jitter = Box::new(|| 0.0);
    let error = run(Policy { contract, wait_for_registry }, &mut play, &mut least).await;
    (play, error)
}

fn times(play: &Play, what: &str) -> Vec<u128> {
    play.done.iter().filter(|(_, done)| done == what).map(|(at, _)| *at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_to_d_register_before_each_attempt_at_1_3_7_15_31_and_61_s() {
    for contract in [Contract::Cloud, Contract::Executor, Contract::Environment] {
        let mut steps = vec![Step::Registered, Step::Served(0)];
        for forgotten in [false, true, false, true, false, true] {
            steps.extend([Step::Registered, Step::Unattached { forgotten }]);
        }
        let (play, _) = play(contract, false, steps).await;
        let expected = [0, 1000, 3000, 7000, 15_000, 31_000, 61_000];
        assert_eq!(times(&play, "connect"), expected, "{contract}");
        assert_eq!(times(&play, "register")[..7], expected, "{contract}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_however_short_sets_the_delay_back() {
    let steps = vec![
        Step::Registered,
        Step::Unattached { forgotten: false },
        Step::Registered,
        Step::Unattached { forgotten: false },
        Step::Registered,
        Step::Served(1),
        Step::Registered,
        Step::Served(0),
    ];
    let (play, _) = play(Contract::Executor, false, steps).await;
    assert_eq!(times(&play, "connect"), [0, 1000, 3000, 4001]);
}

#[tokio::test(start_paused = true)]
async fn an_executor_whose_place_another_takes_comes_back_ever_later_until_it_stays() {
    for contract in [Contract::Executor, Contract::Environment] {
        let mut steps = Vec::new();
        for time in [0, 0, 0, 0, 0, 0, 0, 299_999, 300_000, 0] {
            steps.extend([Step::Registered, Step::Superseded(time)]);
        }
        let (play, _) = play(contract, false, steps).await;
        let expected = [0, 1, 3, 7, 15, 31, 63, 123, 483, 784].map(|s| s * 1000);
        let times: Vec<_> = times(&play, "connect").into_iter().map(|at| at.div_ceil(1000) * 1000).collect();
        assert_eq!(times[..10], expected, "{contract}");
        let told: Vec<String> = play.told.iter().map(ToString::to_string).collect();
        assert!(
            told[1].contains("another executor seems to use the same id")
                && told[1].ends_with("again in 1.0 s")
        );
    }
    let steps = vec![
        Step::Registered,
        Step::Superseded(0),
        Step::Unattached { forgotten: true },
        Step::Registered,
        Step::Superseded(0),
        Step::Unattached { forgotten: true },
        Step::Registered,
        Step::Served(0),
    ];
    let (play, _) = play(Contract::Noise, false, steps).await;
    // Between the refusal and the next attempt nobody is attached: that pause stays short.
    assert_eq!(times(&play, "connect"), [0, 1000, 1500, 3500, 4000, 4500]);
}

#[tokio::test(start_paused = true)]
async fn e_keeps_its_registration_over_drops_and_refusals_other_than_4xx() {
    let mut steps = vec![Step::Registered];
    for _ in 0..3 {
        steps.extend([Step::Served(10_000), Step::Unattached { forgotten: false }]);
    }
    let (play, _) = play(Contract::Noise, false, steps).await;
    // Half of 1, 2, 4 … s; the seventh attempt meets the script's end.
    assert_eq!(times(&play, "connect"), [0, 10_500, 11_500, 22_000, 23_000, 33_500, 34_500]);
    assert_eq!(times(&play, "register"), [0, 34_500]);
}

#[tokio::test(start_paused = true)]
async fn e_registers_at_once_after_a_4xx_then_waits_then_connects() {
    let steps = vec![
        Step::Registered,
        Step::Unattached { forgotten: true },
        Step::Registered,
        Step::Unattached { forgotten: true },
        Step::Failed(away),
        Step::Registered,
    ];
    let (play, _) = play(Contract::Noise, false, steps).await;
    let expected = [
        (0, "register"),
        (0, "connect"),
        (0, "register"),
        (500, "connect"),
        (500, "register"),
        // The registry was away: half a second more.
        (1000, "register"),
        (2000, "connect"),
        (2000, "register"),
    ];
    assert_eq!(play.done, expected.map(|(at, what)| (at, what.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn the_first_registration_fails_at_once_unless_told_to_wait() {
    for contract in [Contract::Cloud, Contract::Executor, Contract::Environment, Contract::Noise] {
        for error in [away, unreachable] {
            let (first, _) = play(contract, false, vec![Step::Failed(error)]).await;
            assert_eq!(times(&first, "register"), [0], "{contract}");
            let (patient, _) = play(contract, true, (0..6).map(|_| Step::Failed(error)).collect()).await;
            assert_eq!(times(&patient, "register"), [0, 500, 1500, 3500, 7500, 12_500, 17_500], "{contract}");
            let told = patient.told.iter().filter(|told| matches!(told, Status::RegistryAway { .. }));
            assert_eq!(told.count(), 6, "each wait is told");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn once_registered_only_a_final_answer_ends_it() {
    let finals: [fn(Contract) -> RemoteError; 6] = [
        unauthorized,
        |contract| refused(contract, StatusCode::FORBIDDEN),
        |contract| refused(contract, StatusCode::NOT_FOUND),
        |contract| refused(contract, StatusCode::GONE),
        |contract| RemoteError::Answer { text: contract.to_string(), other_contract: true, cause: None },
        |_| RemoteError::Protocol("another environment".into()),
    ];
    let passing: [fn(Contract) -> RemoteError; 5] = [
        away,
        unreachable,
        |contract| refused(contract, StatusCode::TOO_MANY_REQUESTS),
        |contract| refused(contract, StatusCode::BAD_REQUEST),
        |contract| RemoteError::Answer { text: contract.to_string(), other_contract: false, cause: None },
    ];
    for last in finals {
        let mut steps = vec![Step::Registered, Step::Unattached { forgotten: true }];
        steps.extend(passing.map(Step::Failed));
        steps.push(Step::Failed(last));
        let (play, error) = play(Contract::Noise, false, steps).await;
        assert!(error.is_final(), "{error}");
        assert_eq!(times(&play, "register").len(), 1 + passing.len() + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_told_in_order_with_the_time_of_the_next_try() {
    let steps = vec![Step::Registered, Step::Served(5), Step::Failed(away)];
    let (play, _) = play(Contract::Environment, false, steps).await;
    let told: Vec<String> = play.told.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "codex exec-server remote environment registered with environment_id env-1",
            "codex exec-server lost the rendezvous: closed; again in 1.0 s",
            "codex exec-server could not register: environment registry request failed (503 Service Unavailable): ; \
             again in 0.5 s",
        ]
    );
}
