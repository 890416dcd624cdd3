//! Programs that go on for long, and clients that give a call up after a minute or ask for tasks. The clock is set, so it
//! takes no time: the machine far away is a script over a pipe in memory, and nothing here waits for anything outside.

use std::collections::HashMap;
use std::time::Duration;

use base64_simd::STANDARD;
use codex_exec_server::client::{ClientOptions, Dial, Endpoint};
use codex_exec_server::interactive::Bounds;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, ClientConfig,
    DetailedTask, GetTaskParams, Implementation, ProtocolVersion, TaskPayload,
};
use rmcp::service::RunningService;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::{Confinement, Environments, Lender, Limits};

/// What common clients give a call.
const PATIENCE: Duration = Duration::from_secs(60);
/// Steps of the build, and how long each takes.
const STEPS: u64 = 180;
const STEP: Duration = Duration::from_secs(10);

fn line(step: u64) -> String {
    format!("[{step}/{STEPS}] compiled crate number {step}\n")
}

/// An exec-server on which every program is the build.
async fn machine(stream: DuplexStream) {
    let (read, mut write) = split(stream);
    let (say, mut said) = mpsc::channel::<Value>(16);
    tokio::spawn(async move {
        while let Some(message) = said.recv().await {
            if write.write_all(format!("{message}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let mut builds = HashMap::new();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let asked: Value = serde_json::from_str(&text).unwrap();
        let Some(method) = asked["method"].as_str().filter(|_| asked["id"].is_number()) else { continue };
        let id = asked["params"]["processId"].clone();
        let result = match method {
            "initialize" => json!({
                "sessionId": "0b6fd9f2-6c7f-4a60-9d3a-0e7e2f9d9f11",
                "environmentInfo": {"shell": {"name": "sh", "path": "/bin/sh"}, "cwd": "file:///srv"},
            }),
            "process/start" => json!({"processId": id}),
            "process/terminate" => json!({"running": builds.remove(&id.to_string()).is_some()}),
            _ => json!({}),
        };
        say.send(json!({"id": asked["id"], "result": result})).await.unwrap();
        if method == "process/start" {
            let (end, ended) = oneshot::channel::<()>();
            builds.insert(id.to_string(), end);
            tokio::spawn(build(id, say.clone(), ended));
        }
    }
}

/// Prints a line at each step. It ends after the last, or by SIGTERM when its end is dropped.
async fn build(id: Value, say: mpsc::Sender<Value>, mut ended: oneshot::Receiver<()>) {
    let (mut seq, mut code) = (0, 0);
    for step in 1..=STEPS {
        tokio::select! {
            () = sleep(STEP) => {}
            _ = &mut ended => {
                code = 143;
                break;
            }
        }
        seq = step;
        let chunk = STANDARD.encode_to_string(line(step));
        let output = json!({"processId": id, "seq": seq, "stream": "stdout", "chunk": chunk});
        if say.send(json!({"method": "process/output", "params": output})).await.is_err() {
            return;
        }
    }
    let exited = json!({"processId": id, "seq": seq + 1, "exitCode": code, "sandboxDenied": false});
    let closed = json!({"processId": id, "seq": seq + 2});
    for (method, params) in [("process/exited", exited), ("process/closed", closed)] {
        let _ = say.send(json!({"method": method, "params": params})).await;
    }
}

/// Lends such a machine.
fn lender(limits: Limits) -> Lender {
    let mut environments = Environments::new(Bounds::default());
    let dial = Dial::new(|| {
        let (here, there) = duplex(1 << 16);
        tokio::spawn(machine(there));
        Ok((Endpoint::Stream(here), ClientOptions::default()))
    });
    environments.add("far", dial).unwrap();
    Lender::new(environments, Confinement::default(), limits, "1")
}

fn modes() -> [ClientLifecycleMode; 2] {
    let discover = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    [ClientLifecycleMode::Initialize, discover]
}

struct User(RunningService<RoleClient, ClientConfig>);

impl User {
    /// A client of its own, on a connection of its own.
    async fn connect(lender: &Lender, mode: ClientLifecycleMode, capabilities: ClientCapabilities) -> Self {
        let (here, there) = duplex(1 << 16);
        let lender = lender.clone();
        tokio::spawn(async move {
            if let Ok(service) = rmcp::serve_server(lender, split(there)).await {
                let _ = service.waiting().await;
            }
        });
        let client = ClientConfig::new(capabilities, Implementation::new("test", "1"));
        Self(client.serve_with_lifecycle(split(here), mode).await.unwrap())
    }

    async fn data(&self, tool: &'static str, arguments: Value) -> Value {
        let CallToolResponse::Complete(result) = self.call(tool, arguments).await else {
            panic!("{tool}: a task")
        };
        assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
        result.structured_content.unwrap()
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> CallToolResponse {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let call = self.0.call_tool_once(CallToolRequestParams::new(tool).with_arguments(arguments));
        timeout(PATIENCE, call).await.expect("every call is answered in time").unwrap()
    }

    /// The id of the task that a call becomes.
    async fn task(&self, arguments: Value) -> String {
        let CallToolResponse::Task(begun) = self.call("exec", arguments).await else { panic!("no task") };
        assert_eq!(begun.task.poll_interval_ms, Some(1000));
        assert!(begun.task.status_message.unwrap().starts_with("runs as process "));
        begun.task.task_id
    }

    async fn look(&self, task: &str) -> Result<DetailedTask, String> {
        let look = self.0.get_task(GetTaskParams::new(task)).await;
        look.map(|result| result.task).map_err(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn a_build_of_half_an_hour_is_driven_by_clients_that_wait_a_minute() {
    for mode in modes() {
        let lender = lender(Limits::default());
        let began = Instant::now();

        let first = User::connect(&lender, mode.clone(), ClientCapabilities::default()).await;
        let started = first.data("exec", json!({"command": "make", "yield_ms": 45_000})).await;
        assert_eq!(started["state"], "running", "{started}");
        let process = &started["process"];
        let mut seen = started["output"].as_str().unwrap().to_owned();
        while began.elapsed() < STEP * 90 {
            let look = first.data("exec_read", json!({"process": process, "yield_ms": 45_000})).await;
            assert_eq!((&look["state"], &look["lost_bytes"]), (&json!("running"), &json!(0)), "{look}");
            seen += look["output"].as_str().unwrap();
        }
        let so_far: String = (1..).map(line).take_while(|line| seen.contains(line.as_str())).collect();
        assert_eq!(seen, so_far, "what one client saw is whole");
        drop(first);

        let second = User::connect(&lender, mode, ClientCapabilities::default()).await;
        let listed = second.data("exec_list", json!({})).await;
        assert_eq!(listed["processes"][0]["process"], *process, "{listed}");
        let (mut cursor, mut all) = (0, String::new());
        loop {
            let ask = json!({"process": process, "cursor": cursor, "yield_ms": 45_000, "max_bytes": 1000});
            let page = second.data("exec_read", ask).await;
            all += page["output"].as_str().unwrap();
            cursor = page["next_cursor"].as_u64().unwrap();
            if page["state"] == "exited" && page["next_cursor"] == page["total_bytes"] {
                assert_eq!(page["exit_code"], 0, "{page}");
                break;
            }
        }
        let whole: String = (1..=STEPS).map(line).collect();
        assert_eq!(all, whole, "every byte is reached by cursor");
        assert!(began.elapsed() >= STEP * 180, "it took {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_tasks_gets_one_for_what_goes_on() {
    for mode in modes() {
        let lender = lender(Limits::default());
        let tasks = || ClientCapabilities::builder().enable_tasks().build();
        let first = User::connect(&lender, mode.clone(), tasks()).await;
        let task = first.task(json!({"command": "make", "max_bytes": 100})).await;
        // By the time to come back, or to type, its caller says that it will do it itself.
        for arguments in [json!({"command": "make", "yield_ms": 0}), json!({"command": "make", "tty": true})]
        {
            assert_eq!(first.data("exec", arguments).await["state"], "running");
        }
        assert_eq!(first.look(&task).await.unwrap().payload, TaskPayload::Working);
        drop(first);

        let second = User::connect(&lender, mode.clone(), tasks()).await;
        let ended = loop {
            let look = second.look(&task).await.unwrap();
            match look.payload {
                TaskPayload::Working => sleep(PATIENCE).await,
                _ => break look,
            }
        };
        let TaskPayload::Completed { result } = &ended.payload else { panic!("{ended:?}") };
        let data = &result["structuredContent"];
        assert_eq!((&data["state"], &data["exit_code"]), (&json!("exited"), &json!(0)), "{data}");
        let all = (1..=STEPS).map(|step| line(step).len()).sum::<usize>();
        assert_eq!((&data["total_bytes"], &data["from"]), (&json!(all), &json!(0)), "{data}");
        assert!(data["shown_bytes"].as_u64().unwrap() <= 100, "{data}");
        let again = second.look(&task).await.unwrap();
        assert_eq!(again.task, ended.task, "an end stays as it is");
        second.0.cancel_task(CancelTaskParams::new(&task)).await.unwrap();
        assert_eq!(second.look(&task).await.unwrap().task, ended.task, "it had ended");

        let other = second.task(json!({"command": "make"})).await;
        second.0.cancel_task(CancelTaskParams::new(&other)).await.unwrap();
        assert_eq!(second.look(&other).await.unwrap().payload, TaskPayload::Cancelled);
        let listed = second.data("exec_list", json!({})).await;
        let look = json!({"process": listed["processes"][0]["process"], "yield_ms": 45_000});
        let ended = second.data("exec_read", look).await;
        assert_eq!(ended["exit_code"], 143, "the program has ended: {ended}");

        sleep(Limits::default().task_life).await;
        for gone in [task.as_str(), &other, "nobody"] {
            assert!(second.look(gone).await.unwrap_err().contains("there is no task"), "{gone}");
        }
        let without = User::connect(&lender, mode, ClientCapabilities::default()).await;
        let refused = without.look(&task).await.unwrap_err();
        assert!(refused.contains("-32021") || refused.to_lowercase().contains("capabilit"), "{refused}");
        assert_eq!(without.data("exec", json!({"command": "make"})).await["state"], "running");
    }
}
