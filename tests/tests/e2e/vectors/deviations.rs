//! Where our server differs from a recorded one on purpose, with the reason for each.

use serde_json::Value;

/// One request with its recorded answer.
pub(crate) struct Exchange<'a> {
    pub(crate) version: &'a str,
    pub(crate) method: &'a str,
    pub(crate) params: &'a Value,
    /// The recorded error's code, if it was refused.
    pub(crate) code: Option<i64>,
}

impl Exchange<'_> {
    fn old(&self) -> bool {
        self.version == "0.131.0"
    }

    /// Whether any string of the params fits.
    fn any_path(&self, fits: fn(&str) -> bool) -> bool {
        fn any(value: &Value, fits: fn(&str) -> bool) -> bool {
            match value {
                Value::String(text) => fits(text),
                Value::Array(items) => items.iter().any(|item| any(item, fits)),
                Value::Object(members) => members.iter().any(|(name, value)| {
                    (matches!(name.as_str(), "path" | "cwd" | "sourcePath" | "destinationPath")
                        || !value.is_string())
                        && name != "argv"
                        && any(value, fits)
                }),
                _ => false,
            }
        }
        any(self.params, fits)
    }

    fn has(&self, member: &str) -> bool {
        self.params.get(member).is_some()
    }

    fn sandbox(&self) -> bool {
        self.params.get("sandbox").is_some_and(|sandbox| !sandbox.is_null())
    }
}

/// What is allowed instead of the recorded answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    /// Any answer; what follows from it is not compared either.
    Anything,
    /// The recorded answer, or a refusal with one of these codes.
    OrRefused(&'static [i64]),
}

/// A deliberate difference.
pub(crate) struct Deviation {
    /// Why, with the section of `protocol.md`.
    #[allow(dead_code, reason = "read by people")]
    pub(crate) reason: &'static str,
    applies: fn(&Exchange<'_>) -> bool,
    pub(crate) instead: Instead,
}

const NEW_METHODS: [&str; 13] = [
    "capabilityRoots/discoverV1",
    "capabilities/discoverV2",
    "environmentConfig/read",
    "process/signal",
    "environment/info",
    "environment/status",
    "fs/canonicalize",
    "fs/walk",
    "fs/open",
    "fs/readBlock",
    "fs/close",
    "fs/writeBlock",
    "fs/watchMissing",
];
const EXTENSIONS: [&str; 4] = ["process/list", "process/wait", "process/resize", "process/closeStdin"];

const DEVIATIONS: &[Deviation] = &[
    Deviation {
        reason: "19: one server has the methods of all releases",
        applies: |x| x.code == Some(-32601) && NEW_METHODS.contains(&x.method),
        instead: Instead::Anything,
    },
    Deviation {
        reason: "docs/extensions.md: methods of our own",
        applies: |x| EXTENSIONS.contains(&x.method),
        instead: Instead::Anything,
    },
    Deviation {
        reason: "19: a URI is a path for everybody",
        applies: |x| {
            x.old() && x.code.is_some() && x.any_path(|text| text.to_ascii_lowercase().starts_with("file:"))
        },
        instead: Instead::Anything,
    },
    Deviation {
        reason: "19: a native path is a path for everybody",
        applies: |x| !x.old() && x.code == Some(-32602) && x.any_path(|text| text.starts_with('/')),
        instead: Instead::Anything,
    },
    Deviation {
        reason: "7.1, 19: a cwd that is neither absolute nor a URI does not decode (0.131 failed at the spawn)",
        applies: |x| {
            x.old()
                && x.method == "process/start"
                && x.code == Some(-32603)
                && x.any_path(|text| !text.starts_with('/'))
        },
        instead: Instead::OrRefused(&[-32602]),
    },
    Deviation {
        reason: "19: a missing writeId is an old client; an empty one is refused; a known one is not written again",
        applies: |x| {
            x.method == "process/write"
                && (x.old() || (x.code == Some(-32602) && x.params.get("writeId").is_none_or(Value::is_null)))
        },
        instead: Instead::Anything,
    },
    Deviation {
        reason: "5.1, 19: an attached session is -32010 for everybody",
        applies: |x| {
            x.old() && x.method == "initialize" && x.code == Some(-32600) && x.has("resumeSessionId")
        },
        instead: Instead::OrRefused(&[-32010]),
    },
    Deviation {
        reason: "7.3: the sandbox object is read as by 0.169",
        applies: |x| x.old() && x.sandbox(),
        instead: Instead::Anything,
    },
    Deviation {
        reason: "13: without a proxy the network can't be managed, which is refused (0.169 started and failed)",
        applies: |x| x.sandbox() && x.params["enforceManagedNetwork"] == true && x.code != Some(-32602),
        instead: Instead::OrRefused(&[-32600]),
    },
    Deviation {
        reason: "8.1: 0.131 ignored members that are read now",
        applies: |x| {
            x.old()
                && x.method == "process/start"
                && [
                    "metadata",
                    "managedNetwork",
                    "networkProxy",
                    "shellSnapshot",
                    "enforceManagedNetwork",
                    "rows",
                    "timeoutMs",
                ]
                .iter()
                .any(|member| x.has(member))
        },
        instead: Instead::Anything,
    },
    Deviation {
        reason: "21.9: a login is remembered for bash, and on this machine its state is another",
        applies: |x| {
            x.method == "process/start" && x.params.get("shellSnapshot").is_some_and(|value| !value.is_null())
        },
        instead: Instead::Anything,
    },
    Deviation {
        reason: "issue part E: process/signal takes the usual words",
        applies: |x| x.method == "process/signal" && x.code == Some(-32602),
        instead: Instead::Anything,
    },
    Deviation {
        reason: "10: followSymlinks is obeyed (0.131 ignored it)",
        applies: |x| x.old() && x.has("followSymlinks"),
        instead: Instead::Anything,
    },
    Deviation {
        reason: "10.1: a directory is -32600 to read, as by 0.144 and later",
        applies: |x| x.old() && x.method == "fs/readFile" && x.code == Some(-32603),
        instead: Instead::OrRefused(&[-32600]),
    },
    Deviation {
        reason: "21.2: packed bodies are unpacked, as by 0.171",
        applies: |x| {
            x.method == "http/request" && x.params["url"].as_str().is_some_and(|url| url.ends_with("/gzip"))
        },
        instead: Instead::Anything,
    },
    Deviation {
        reason: "11.1: redirectPolicy and valueEnvVar are obeyed (0.131 ignored them)",
        applies: |x| {
            x.old()
                && x.method == "http/request"
                && (x.has("redirectPolicy") || x.params["headers"].to_string().contains("valueEnvVar"))
        },
        instead: Instead::Anything,
    },
];

/// The first deliberate difference that covers an exchange.
pub(crate) fn deviation(exchange: &Exchange<'_>) -> Option<&'static Deviation> {
    DEVIATIONS.iter().find(|deviation| (deviation.applies)(exchange))
}
