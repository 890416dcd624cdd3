//! What clients are told of the tools: names, words for the model, schemas, and what each tool may change.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

/// What a tool does to the world, for clients that ask their user before some.
#[derive(Clone, Copy)]
enum Effect {
    /// Only looks.
    Looks,
    /// Changes the machine, and may destroy something.
    Changes,
    /// The same, and may reach other machines.
    Reaches,
}

/// What decides which tools there are, and what they may do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setting {
    /// There is more than one environment to choose from.
    pub(crate) several: bool,
    /// A sandbox is around everything.
    pub(crate) sandboxed: bool,
    /// It lets nothing be written and nobody be reached.
    pub(crate) harmless: bool,
}

/// The tools, in the order that they are listed in.
pub(crate) fn tools(setting: Setting) -> Vec<Tool> {
    let mut all = programs(setting);
    all.extend(files());
    if !setting.sandboxed {
        all.push(fetch());
    }
    all.push(tool(
        "environments",
        "Machines",
        "Lists the machines that the other tools can use, and where relative paths begin.",
        json!({}),
        &[],
        Effect::Looks,
    ));
    if !setting.several {
        return all;
    }
    let choice = json!({"type": "string", "description": "The machine to use, as the tool environments lists it. Default: the first."});
    all.into_iter()
        .map(
            |tool| {
                if takes_environment(&tool.name) { with_property(tool, "environment", &choice) } else { tool }
            },
        )
        .collect()
}

/// The others find their program by its id, or are about all of them.
fn takes_environment(name: &str) -> bool {
    !name.starts_with("exec_") && name != "environments"
}

fn with_property(mut tool: Tool, name: &str, schema: &Value) -> Tool {
    let mut input = JsonObject::clone(&tool.input_schema);
    if let Some(Value::Object(properties)) = input.get_mut("properties") {
        properties.insert(name.to_owned(), schema.clone());
    }
    tool.input_schema = Arc::new(input);
    tool
}

fn tool(
    name: &'static str,
    title: &str,
    words: &'static str,
    properties: Value,
    required: &[&str],
    effect: Effect,
) -> Tool {
    let input = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let hints = ToolAnnotations::new();
    let hints = match effect {
        Effect::Looks => hints.read_only(true).destructive(false).idempotent(true).open_world(false),
        Effect::Changes => hints.read_only(false).destructive(true).idempotent(false).open_world(false),
        Effect::Reaches => hints.read_only(false).destructive(true).idempotent(false).open_world(true),
    };
    Tool::new(name, words, object(input)).with_title(title).with_annotations(hints)
}

fn object(schema: Value) -> JsonObject {
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

fn number(words: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": words})
}

fn text(words: &str) -> Value {
    json!({"type": "string", "description": words})
}

fn flag(words: &str) -> Value {
    json!({"type": "boolean", "default": false, "description": words})
}

fn max_bytes() -> Value {
    number("How much is shown at most, in bytes. Default 32768, at most 1048576.")
}

fn process() -> Value {
    text("The program's id, as exec gave it.")
}

/// What a look at a program gives.
fn reading() -> JsonObject {
    let whole = |words: &str| json!({"type": "integer", "description": words});
    object(json!({
        "type": "object",
        "properties": {
            "process": text("The program's id: the handle for exec_read, exec_write and exec_signal."),
            "environment": text("The machine that it runs on."),
            "state": {"type": "string", "enum": ["running", "exited", "lost"]},
            "exit_code": {"type": ["integer", "null"], "description": "Null while it runs."},
            "signal": {"type": ["integer", "null"], "description": "The signal that killed it."},
            "timed_out": {"type": "boolean", "description": "timeout_ms ended it."},
            "duration_ms": {"type": ["integer", "null"], "description": "From start to end."},
            "output_complete": {"type": "boolean", "description": "False: something that it started still holds its output."},
            "reason": text("Why it is lost."),
            "wall_ms": whole("How long this call waited."),
            "output": text("What it printed, stdout and stderr as they came."),
            "from": whole("Where output begins, in bytes of all that it printed."),
            "next_cursor": whole("Where to go on with exec_read."),
            "total_bytes": whole("What it has printed so far."),
            "shown_bytes": whole("What of it is shown here."),
            "cut_bytes": whole("What was left out here; exec_read with a cursor shows it."),
            "lost_bytes": whole("What of that is not kept any more."),
        },
        "required": ["process", "state", "output", "next_cursor", "total_bytes", "shown_bytes", "cut_bytes"],
    }))
}

fn programs(setting: Setting) -> Vec<Tool> {
    let (run, touch) = match (setting.harmless, setting.sandboxed) {
        (true, _) => (Effect::Looks, Effect::Changes),
        (false, true) => (Effect::Changes, Effect::Changes),
        (false, false) => (Effect::Reaches, Effect::Changes),
    };
    let exec = tool(
        "exec",
        "Run a program",
        "Runs a program and shows what it prints. Answers when it has ended, or after yield_ms while it goes on: then use \
         exec_read with its process id to see the rest, exec_write to type into it, exec_signal to end it. Of much output \
         the beginning and the end are shown; exec_read with a cursor shows what was left out.",
        json!({
            "command": text("A command line for the user's login shell. Give this or argv."),
            "argv": {"type": "array", "items": {"type": "string"}, "description": "Program and arguments, without a shell."},
            "cwd": text("The working directory. Relative paths begin where the tool environments says."),
            "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Variables to add."},
            "tty": flag("Run it on a terminal, for programs that want one."),
            "stdin": text("Text for its standard input, which then ends."),
            "interactive": flag("Keep its standard input open for exec_write."),
            "yield_ms": number("Answer after this time at the latest. Default 10000, at most 45000."),
            "max_bytes": max_bytes(),
            "timeout_ms": number("End the program after this time. Without it, it may run for ever."),
        }),
        &[],
        run,
    );
    let read = tool(
        "exec_read",
        "Look at a program",
        "Shows what a program has printed since the last look, or from a cursor on, and whether it still runs. Waits for its \
         end, for yield_ms at most. With a cursor it shows the next max_bytes from there; go on at next_cursor.",
        json!({
            "process": process(),
            "cursor": number("Where to read from, in bytes of all that the program printed. Default: where the last look stopped."),
            "yield_ms": number("Answer after this time at the latest. Default 10000, at most 45000; 0 only looks."),
            "max_bytes": max_bytes(),
        }),
        &["process"],
        Effect::Looks,
    );
    let write = tool(
        "exec_write",
        "Type into a program",
        "Writes text to a program that was started with tty or interactive, and shows what it prints then. A terminal takes \
         \\u0003 as Ctrl-C and \\u0004 as Ctrl-D; end lines with \\n.",
        json!({
            "process": process(),
            "text": text("What to write, as it is."),
            "close": flag("End its standard input after that."),
            "yield_ms": number("How long to wait for what it prints. Default 1000, at most 45000."),
            "max_bytes": max_bytes(),
        }),
        &["process"],
        touch,
    );
    let signal = tool(
        "exec_signal",
        "Signal a program",
        "Sends a signal. interrupt is Ctrl-C; terminate asks the program to end and kills it 5 s later; kill ends it with \
         all that it has started.",
        json!({
            "process": process(),
            "signal": {"type": "string", "enum": [
                "interrupt", "terminate", "kill", "hangup", "quit", "user1", "user2", "stop", "continue",
            ]},
            "yield_ms": number("How long to wait for its end. Default 1000, at most 45000."),
            "max_bytes": max_bytes(),
        }),
        &["process", "signal"],
        touch,
    );
    let list = tool(
        "exec_list",
        "List programs",
        "Lists the programs that run, and those that ended lately, with their ids and how much of their output is unread.",
        json!({}),
        &[],
        Effect::Looks,
    );
    let reading = Arc::new(reading());
    let looks = [exec, read, write, signal].map(|tool| tool.with_raw_output_schema(Arc::clone(&reading)));
    looks.into_iter().chain([list]).collect()
}

fn files() -> [Tool; 6] {
    let entries = || number("How many are shown at most. Default 500, at most 5000.");
    [
        tool(
            "read",
            "Read a file",
            "Shows a text file, or some of its lines.",
            json!({
                "path": text("The file."),
                "offset": number("The first line to show, from 1."),
                "limit": number("How many lines to show."),
                "max_bytes": max_bytes(),
            }),
            &["path"],
            Effect::Looks,
        ),
        tool(
            "write",
            "Write a file",
            "Makes a file or replaces all that stands in it.",
            json!({
                "path": text("The file."),
                "content": text("All that will stand in it."),
                "create_directories": flag("Make the directories on the way."),
            }),
            &["path", "content"],
            Effect::Changes,
        ),
        tool(
            "edit",
            "Edit a file",
            "Replaces a text in a file by another. The old text must stand there exactly once, white space included, or \
             replace_all must be set.",
            json!({
                "path": text("The file."),
                "old": text("The text to replace."),
                "new": text("What to put in its place."),
                "replace_all": flag("Replace it wherever it stands."),
            }),
            &["path", "old", "new"],
            Effect::Changes,
        ),
        tool(
            "list",
            "List a directory",
            "Lists what is in a directory; names of directories end with a slash.",
            json!({
                "path": text("The directory. Default: where relative paths begin."),
                "depth": number("How many levels to list. Default 1, at most 16; deeper ones leave symlinks out."),
                "max_entries": entries(),
            }),
            &[],
            Effect::Looks,
        ),
        tool(
            "glob",
            "Find files by name",
            "Finds files and directories by a pattern such as **/*.rs, matched against paths below the directory.",
            json!({
                "pattern": text("*, ?, **, [a-z] and {a,b} mean what they mean in a shell."),
                "path": text("Where to look. Default: where relative paths begin."),
                "hidden": flag("Look into directories whose names begin with a dot, too."),
                "max_entries": entries(),
            }),
            &["pattern"],
            Effect::Looks,
        ),
        tool(
            "grep",
            "Find text in files",
            "Finds lines that match an extended regular expression, in all text files below a directory but those in .git.",
            json!({
                "pattern": text("An extended regular expression, as grep -E takes it."),
                "path": text("Where to look. Default: where relative paths begin."),
                "glob": text("Only in files of such names, for example *.rs."),
                "ignore_case": flag("Take capitals and small letters as the same."),
                "files_only": flag("Only the names of the files."),
                "max_entries": entries(),
                "max_bytes": max_bytes(),
            }),
            &["pattern"],
            Effect::Looks,
        ),
    ]
}

fn fetch() -> Tool {
    tool(
        "fetch",
        "Make an HTTP request",
        "Makes an HTTP request from the machine, with its network and its view of names, and shows the answer.",
        json!({
            "url": text("http or https."),
            "method": text("Default GET."),
            "headers": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Headers to send."},
            "body": text("The body to send."),
            "timeout_ms": number("Default 30000, at most 45000."),
            "max_bytes": max_bytes(),
        }),
        &["url"],
        Effect::Reaches,
    )
}
