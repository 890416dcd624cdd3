//! The tools, each with its arguments and its work.

mod call;
mod exec;
mod fetch;
mod files;
mod machines;
mod search;

use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use call::Call;

use crate::outcome::{Refused, Reply};

/// Does what a call asks for; none for a tool that there is not.
pub(crate) async fn run(
    call: &Call<'_>,
    name: &str,
    arguments: JsonObject,
) -> Option<Result<Reply, Refused>> {
    macro_rules! with {
        ($work:path) => {
            match decode(name, arguments) {
                Ok(arguments) => $work(call, arguments).await.map(Reply::from),
                Err(refused) => Err(refused),
            }
        };
    }
    Some(match name {
        "exec" => with!(exec::exec),
        "exec_read" => with!(exec::exec_read),
        "exec_write" => with!(exec::exec_write),
        "exec_signal" => with!(exec::exec_signal),
        "exec_list" => with!(exec::exec_list),
        "read" => with!(files::read),
        "write" => with!(files::write),
        "edit" => with!(files::edit),
        "list" => with!(search::list),
        "glob" => with!(search::glob),
        "grep" => with!(search::grep),
        "fetch" => with!(fetch::fetch),
        "environments" => with!(machines::environments),
        _ => return None,
    })
}

fn decode<A: DeserializeOwned>(name: &str, arguments: JsonObject) -> Result<A, Refused> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| {
        // It may repeat what was given, at any length.
        let why: String = error.to_string().chars().take(400).collect();
        Refused(format!("the arguments of {name} are not as its schema says: {why}"))
    })
}
