//! The profiles, and what each of them allows and refuses.

use super::super::*;

/// One profile, and what is tried under it.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// More files than each ground has.
    pub(super) files: &'static [&'static str],
    pub(super) entries: fn(&Ground) -> Value,
    /// Shell commands that succeed.
    pub(super) fine: &'static [&'static str],
    /// Those that fail, and print no `hidden words`. (What is denied is empty to an administrator.)
    pub(super) refused: &'static [&'static str],
    /// Files that can be written by `fs/writeFile`.
    pub(super) written: &'static [&'static str],
    /// Those that can't, and the code.
    pub(super) closed: &'static [(&'static str, i64)],
    /// Those that can't be read, and the code.
    pub(super) unread: &'static [(&'static str, i64)],
}

pub(super) fn sub(subpath: &str, access: &str) -> Value {
    json!({"path": {"type": "special", "value": {"kind": "project_roots", "subpath": subpath}}, "access": access})
}

pub(super) fn and(more: &[Value]) -> Value {
    let usual = [special("root", "read"), special("project_roots", "write")];
    json!([&usual[..], more].concat())
}

pub(super) const ROWS: [Row; 10] = [
    Row {
        name: "everything denied, the system readable, the workspace writable",
        files: &[],
        entries: |_| {
            json!([special("root", "deny"), special("minimal", "read"), special("project_roots", "write")])
        },
        fine: &["echo x > new && cat new && ls /usr/bin/env", "mkdir d && mv new d/ && rm -r d"],
        refused: &[
            "grep hidden ../d/secret",
            "grep hidden /proc/self/cwd/../d/secret",
            "echo x > .git/config",
            "mkdir .agents",
        ],
        written: &["w/new", "w/sub/new"],
        closed: &[("o/new", -32004), ("w/.git/config", -32603)],
        unread: &[("d/secret", -32004)],
    },
    Row {
        name: "a workspace in what is denied",
        files: &["w/sub/.env"],
        entries: |ground| and(&[entry(&ground.uri(""), "deny"), entry(&ground.uri("w/sub/.env"), "deny")]),
        fine: &["echo x > new && cat file && ls /usr/bin/env", "ln file sub/hard"],
        refused: &[
            "grep hidden ../d/secret",
            "cd .. && grep hidden d/secret",
            "grep hidden ../w/../d/secret",
            "grep hidden /proc/self/cwd/../o/secret",
            "echo x > ../new",
            "ls ../o",
            "grep hidden sub/.env",
            "echo x > .git/config",
            "ln -s ../d link && grep hidden link/secret",
        ],
        written: &["w/new"],
        closed: &[("o/new", -32600), ("w/.git/config", -32603), ("w/sub/.env", -32600)],
        unread: &[("d/secret", -32600), ("w/link/secret", -32600)],
    },
    Row {
        name: ".git is granted by its path",
        files: &[],
        entries: |ground| and(&[entry(&ground.uri("w/.git"), "write")]),
        fine: &["echo x > .git/config && mkdir .git/objects && ln .git/config hard"],
        refused: &["echo x > .codex/config.toml", "mv .codex moved", "mkdir .agents"],
        written: &["w/.git/index", "w/.git/hooks/new"],
        closed: &[("w/.codex/config.toml", -32603)],
        unread: &[],
    },
    Row {
        name: ".codex is granted below the roots, something in .git denied",
        files: &["w/.git/token"],
        entries: |ground| {
            and(&[sub(".codex", "write"), sub(".git", "write"), entry(&ground.uri("w/.git/token"), "deny")])
        },
        fine: &["echo x > .codex/config.toml && echo x > .git/config"],
        refused: &["grep hidden .git/token", "mv .git x", "rm -f .git/token", "mkdir .agents"],
        written: &["w/.codex/new", "w/.git/new"],
        closed: &[("w/.git/token", -32600)],
        unread: &[("w/.git/token", -32600)],
    },
    Row {
        name: "only something in .codex is granted",
        files: &["w/.codex/tmp/x"],
        entries: |_| and(&[sub(".codex/tmp", "write")]),
        fine: &["echo x > .codex/tmp/new"],
        refused: &[
            "echo x > .codex/config.toml",
            "mv .codex/tmp .codex/tmp2",
            "mv .codex x",
            "echo x > .codex/new",
        ],
        written: &["w/.codex/tmp/new"],
        closed: &[("w/.codex/new", -32603), ("w/.git/config", -32603)],
        unread: &[],
    },
    Row {
        name: "a file in the workspace is denied",
        files: &["w/packages/app/.env", "w/packages/app/main"],
        entries: |ground| and(&[entry(&ground.uri("w/packages/app/.env"), "deny")]),
        fine: &[
            "ln file packages/app/hard && ln packages/app/main main",
            "mv -n file packages/app/moved && mv packages/app/moved file",
            "mkdir packages/other && mv packages/app/main packages/other/ && rm -r packages/other",
        ],
        refused: &[
            "grep hidden packages/app/.env",
            "mv packages x && grep hidden x/app/.env",
            "mv packages/app x && grep hidden x/.env",
            "mv packages/app/.env x",
            "rm -f packages/app/.env",
            "ln packages/app/.env x",
            "mkdir empty && mv -T empty packages/app/.env",
        ],
        written: &["w/packages/app/new", "w/packages/new"],
        closed: &[("w/packages/app/.env", -32600)],
        unread: &[("w/packages/app/.env", -32600), ("w/x/app/.env", -32004)],
    },
    Row {
        name: "what is denied is missing with its parents",
        files: &[],
        entries: |ground| {
            and(&[entry(&ground.uri("w/a/b/secret"), "deny"), entry(&ground.uri("w/a/c"), "read")])
        },
        fine: &["mkdir -p a/b && echo x > a/b/other && echo x > a/other && cat a/b/other"],
        refused: &[
            "echo x > a/b/secret",
            "mv a x",
            "rm -rf a/b",
            "mv a/b x",
            "echo x > a/c/new",
            "rmdir a/c",
        ],
        written: &["w/a/b/new", "w/a/new"],
        closed: &[("w/a/b/secret", -32600), ("w/a/c/new", -32603)],
        unread: &[],
    },
    Row {
        name: "a denied place behind a symlink of the workspace",
        files: &["far/away/secret"],
        entries: |ground| {
            std::os::unix::fs::symlink("../far", ground.at("w/far")).expect("a link");
            and(&[entry(&ground.uri("w/far/away"), "deny")])
        },
        fine: &["echo x > new"],
        refused: &[
            "grep hidden far/away/secret",
            "grep hidden ../far/away/secret",
            "mv far x",
            "rm far",
            "ln -sfn sub far",
        ],
        written: &["w/new"],
        closed: &[("far/away/new", -32600)],
        unread: &[("far/away/secret", -32600), ("w/far/away/secret", -32600)],
    },
    Row {
        name: "a pattern, and a grant in its match",
        files: &["w/vault/pub/a", "w/vault/pub/b.key", "w/vault/c", "w/sub/d.key"],
        entries: |ground| {
            let glob = |pattern: &str| json!({"path": {"type": "glob_pattern", "pattern": ground.text(pattern)}, "access": "deny"});
            and(&[glob("w/**/vault"), glob("w/**/*.key"), entry(&ground.uri("w/vault/pub"), "write")])
        },
        fine: &["echo x > vault/pub/new", "ln file sub/hard"],
        refused: &[
            "grep hidden vault/pub/b.key",
            "grep hidden vault/c",
            "grep hidden sub/d.key",
            "mv vault x",
            "mv sub x",
            "mv vault/pub x",
        ],
        written: &["w/vault/pub/new", "w/sub/new"],
        closed: &[("w/vault/new", -32600), ("w/sub/d.key", -32600)],
        unread: &[("w/vault/c", -32600), ("w/vault/pub/b.key", -32600)],
    },
    Row {
        name: "what nobody but root looks into",
        files: &[],
        entries: |_| {
            and(&[entry("file:///root/.ssh", "deny"), entry("file:///root/.codex/tmp/arg0/x", "write")])
        },
        fine: &["echo x > new"],
        refused: &[
            "grep hidden /root/.ssh/id_rsa",
            "mkdir /root/.ssh/new",
            "mkdir -p /root/.codex/tmp/arg0/x",
        ],
        written: &["w/new"],
        closed: &[],
        unread: &[],
    },
];
