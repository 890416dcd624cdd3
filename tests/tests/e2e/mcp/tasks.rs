//! The tasks extension, in both revisions; how a task ends, and that it expires, is tested by a set clock (`mcp/src/tests.rs`).

use codex_e2e::Server;
use codex_e2e::client::guarded;
use codex_e2e::mcp::{McpClient, McpServer, REVISIONS, environment};
use codex_mcp::behind::EnvironmentHttp;
use rmcp::model::{CallToolRequestParams, CallToolResponse, CancelTaskParams, GetTaskParams, TaskPayload};
use serde_json::{Value, json};

/// The id of the task that a program becomes.
async fn begin(mcp: &McpClient, command: &str) -> String {
    let Value::Object(arguments) = json!({"command": command}) else { unreachable!("an object") };
    let call = mcp.service.call_tool_once(CallToolRequestParams::new("exec").with_arguments(arguments));
    match guarded("the task", call).await.unwrap() {
        CallToolResponse::Task(begun) => begun.task.task_id,
        other => panic!("no task: {other:?}"),
    }
}

/// Asks until the task is no longer at work.
async fn end(mcp: &McpClient, task: &str) -> TaskPayload {
    guarded("the end of the task", async {
        loop {
            match mcp.service.get_task(GetTaskParams::new(task)).await.unwrap().task.payload {
                TaskPayload::Working => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                payload => return payload,
            }
        }
    })
    .await
}

fn data(payload: &TaskPayload) -> &Value {
    match payload {
        TaskPayload::Completed { result } => &result["structuredContent"],
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_program_that_goes_on_is_a_task_for_a_client_that_has_them() {
    let go = tempfile::tempdir().unwrap();
    for revision in REVISIONS {
        let gate = go.path().join(format!("{revision:?}"));
        let mcp = McpClient::with_tasks(revision, &[]).await;
        let command =
            format!("echo one; until test -e {}; do sleep 0.01; done; echo two; exit 3", gate.display());
        let task = begin(&mcp, &command).await;
        let look = mcp.service.get_task(GetTaskParams::new(&task)).await.unwrap();
        assert_eq!(look.task.payload, TaskPayload::Working, "{revision:?}");
        std::fs::write(&gate, "").unwrap();
        let payload = end(&mcp, &task).await;
        let (code, output) = (&data(&payload)["exit_code"], &data(&payload)["output"]);
        assert_eq!((code, output), (&json!(3), &json!("one\ntwo\n")), "{revision:?}");
        // What ends soon is answered at once, and what is to be answered by a certain time is.
        assert_eq!(mcp.data("exec", json!({"argv": ["true"]})).await["exit_code"], 0);
        let running = mcp.data("exec", json!({"argv": ["sleep", "1000"], "yield_ms": 0})).await;
        assert_eq!(running["state"], "running");

        let task = begin(&mcp, "exec sleep 1000").await;
        mcp.service.cancel_task(CancelTaskParams::new(&task)).await.unwrap();
        assert_eq!(end(&mcp, &task).await, TaskPayload::Cancelled, "{revision:?}");
        let list = mcp.data("exec_list", json!({})).await;
        let cancelled = json!({"process": list["processes"][0]["process"], "yield_ms": 45_000});
        assert_eq!(mcp.data("exec_read", cancelled).await["signal"], 15, "{list}");
    }
}

#[tokio::test]
async fn a_task_outlives_the_client_that_began_it() {
    let server = Server::start().await;
    let way = EnvironmentHttp::new(environment(&server).await.http, []);
    let tools = McpServer::start(&[], &[]).await;
    for revision in REVISIONS {
        let first = tools.client_with_tasks(revision, &way).await;
        let task = begin(&first, "sleep 1.5; echo done").await;
        drop(first);
        let second = tools.client_with_tasks(revision, &way).await;
        assert_eq!(data(&end(&second, &task).await)["output"], "done\n", "{revision:?}");
        let without = tools.client(revision, &way, None).await;
        let refused = without.service.get_task(GetTaskParams::new(&task)).await.unwrap_err().to_string();
        assert!(refused.to_lowercase().contains("capabilit"), "{refused}");
    }
}
