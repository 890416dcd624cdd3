//! Makes a child's environment from the server's, the request's policy and the request's variables (8.2).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use codex_exec_protocol::process::{EnvInherit, EnvPolicy, StartMetadata};

use super::wildcard::Pattern;
use crate::withheld;

/// What `inherit: core` keeps, in any case as 0.169 has it.
const CORE: [&str; 11] =
    ["HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TEMP", "TMP", "TMPDIR", "USER"];

/// What is dropped unless `ignoreDefaultExcludes`: names that look like credentials.
const DEFAULT_EXCLUDES: [&str; 3] = ["*KEY*", "*SECRET*", "*TOKEN*"];

/// Tells a program which thread of the agent it belongs to.
const THREAD_VARIABLE: &str = "CODEX_THREAD_ID";
/// Tells a program which tool call started it.
const TOOL_CALL_VARIABLE: &str = "CODEX_TOOL_CALL_ID";

/// The child's environment, sorted by name.
///
/// Without a policy it is `env`, with one the six steps of 8.2; but for names that no program gets. On a terminal (`tty`) the child gets
/// `SHELL` from `login_shell` unless it has one already; nothing else is invented.
#[must_use]
pub fn child_environment(
    server_env: &[(OsString, OsString)],
    policy: Option<&EnvPolicy>,
    env: &BTreeMap<String, String>,
    tty: bool,
    login_shell: Option<&OsStr>,
) -> Vec<(OsString, OsString)> {
    let mut variables = policy.map_or_else(BTreeMap::new, |policy| inherited(server_env, policy));
    variables.extend(env.iter().map(|(name, value)| (name.into(), value.into())));
    variables.retain(|name, _| !withheld::is_forbidden(name));
    if let (true, Some(shell)) = (tty, login_shell) {
        variables.entry("SHELL".into()).or_insert_with(|| shell.into());
    }
    variables.into_iter().collect()
}

/// Adds what the request says of who asks (21.5): it beats all that the policy and `env` say.
pub(super) fn add_metadata(variables: &mut Vec<(OsString, OsString)>, metadata: &StartMetadata) {
    let thread = metadata.thread_id.as_deref().and_then(|text| uuid::Uuid::try_parse(text).ok());
    let said = [
        (THREAD_VARIABLE, thread.map(|id| id.to_string())),
        (TOOL_CALL_VARIABLE, metadata.tool_call_id.clone()),
    ];
    for (name, value) in said {
        let Some(value) = value else { continue };
        variables.retain(|(other, _)| other != name);
        variables.push((name.into(), value.into()));
    }
}

/// Steps 1 to 5.
fn inherited(server_env: &[(OsString, OsString)], policy: &EnvPolicy) -> BTreeMap<OsString, OsString> {
    let default_excludes: &[&str] = if policy.ignore_default_excludes { &[] } else { &DEFAULT_EXCLUDES };
    let mut excludes: Vec<Pattern> = default_excludes.iter().map(|text| Pattern::new(text)).collect();
    excludes.extend(policy.exclude.iter().map(|text| Pattern::new(text)));
    let mut variables: BTreeMap<OsString, OsString> = server_env
        .iter()
        .filter(|(name, _)| starts_with(policy.inherit, name) && !any_matches(&excludes, name))
        .cloned()
        .collect();
    variables.extend(policy.set.iter().map(|(name, value)| (name.into(), value.into())));
    if !policy.include_only.is_empty() {
        let includes: Vec<Pattern> = policy.include_only.iter().map(|text| Pattern::new(text)).collect();
        variables.retain(|name, _| any_matches(&includes, name));
    }
    variables
}

fn starts_with(inherit: EnvInherit, name: &OsStr) -> bool {
    match inherit {
        EnvInherit::All => true,
        EnvInherit::Core => CORE.iter().any(|core| name.eq_ignore_ascii_case(core)),
        EnvInherit::None => false,
    }
}

fn any_matches(patterns: &[Pattern], name: &OsStr) -> bool {
    if patterns.is_empty() {
        return false;
    }
    let name: Vec<char> = name.to_string_lossy().chars().collect();
    patterns.iter().any(|pattern| pattern.matches(&name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    type Variables = Vec<(OsString, OsString)>;

    fn variables(text: &str) -> Variables {
        text.split_whitespace()
            .map(|pair| pair.split_once('=').expect("NAME=value"))
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn map(text: &str) -> BTreeMap<String, String> {
        text.split_whitespace()
            .map(|pair| pair.split_once('=').expect("NAME=value"))
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn policy(inherit: EnvInherit, ignore: bool, exclude: &str, set: &str, include_only: &str) -> EnvPolicy {
        EnvPolicy {
            inherit,
            ignore_default_excludes: ignore,
            exclude: words(exclude),
            set: map(set),
            include_only: words(include_only),
        }
    }

    const SERVER: &str = "API_TOKEN=t FOO=foo HOME=/root LANG=C LC_ALL=1 LC_TIME=1 MY_SECRET_KEY=k PATH=/bin \
                          SHELL=/bin/zsh TMP=1 TMPDIR=/tmp TZ=UTC USER=root home=1 lang=1";

    /// The cases of `env-policy.0.169.0.jsonl`, on a shorter server environment.
    #[test]
    fn the_policy_does_what_the_released_server_did() {
        use EnvInherit::{All, Core, None as Nothing};
        let all = "FOO=foo HOME=/root LANG=C LC_ALL=1 LC_TIME=1 PATH=/bin SHELL=/bin/zsh TMP=1 TMPDIR=/tmp TZ=UTC \
                   USER=root home=1 lang=1";
        let core =
            "HOME=/root LANG=C LC_ALL=1 PATH=/bin SHELL=/bin/zsh TMP=1 TMPDIR=/tmp USER=root home=1 lang=1";
        for (case, policy, env, expected) in [
            ("all", policy(All, false, "", "", ""), "", all),
            ("all ignoreDefault", policy(All, true, "", "", ""), "", SERVER),
            ("core", policy(Core, false, "", "", ""), "", core),
            ("none", policy(Nothing, false, "", "", ""), "", ""),
            ("none set", policy(Nothing, false, "", "X=1 A=set", ""), "A=env", "A=env X=1"),
            (
                "all exclude",
                policy(All, false, "FO* lang T?", "", ""),
                "",
                "HOME=/root LC_ALL=1 LC_TIME=1 PATH=/bin SHELL=/bin/zsh TMP=1 TMPDIR=/tmp USER=root home=1",
            ),
            ("core includeOnly", policy(Core, false, "", "", "PATH h*"), "", "HOME=/root PATH=/bin home=1"),
            ("set+includeOnly", policy(Nothing, false, "", "KEEP=1 DROP=2", "KEEP"), "E=1", "E=1 KEEP=1"),
            ("set excluded", policy(Nothing, false, "DROP", "KEEP=1 DROP=2", ""), "", "DROP=2 KEEP=1"),
            ("set secret", policy(Nothing, false, "", "A_KEY=1", ""), "", "A_KEY=1"),
            ("bad pattern", policy(All, false, "[", "", ""), "", all),
            ("env secret", policy(Nothing, false, "*", "", "X"), "MY_TOKEN=1", "MY_TOKEN=1"),
            ("env over server", policy(Core, false, "", "USER=set", ""), "HOME=/h", {
                "HOME=/h LANG=C LC_ALL=1 PATH=/bin SHELL=/bin/zsh TMP=1 TMPDIR=/tmp USER=set home=1 lang=1"
            }),
        ] {
            let got = child_environment(&variables(SERVER), Some(&policy), &map(env), false, None);
            assert_eq!(got, variables(expected), "{case}");
        }
    }

    #[test]
    fn no_client_sets_what_no_program_gets() {
        let forbidden = "CODEX_TOOL_CALL_ID=1 OPENAI_SPIFFE_ID=1 CODEX_GUARDIAN_DECISIONS_API_KEY=1 openai_federation_rule_id=1";
        let set = format!("{forbidden} CODEX_INTERNAL_APP_SERVER_REMOTE_CONTROL_DISABLED=1");
        let policy = policy(EnvInherit::None, false, "", &set, "");
        let env = map(&format!("{forbidden} CODEX_API_KEY=k"));
        let got = child_environment(&[], Some(&policy), &env, false, None);
        assert_eq!(got, variables("CODEX_API_KEY=k CODEX_INTERNAL_APP_SERVER_REMOTE_CONTROL_DISABLED=1"));
        assert_eq!(child_environment(&[], None, &env, false, None), variables("CODEX_API_KEY=k"));
    }

    #[test]
    fn metadata_becomes_variables_over_all_others() {
        let id = "67E55044-10B1-426F-9247-BB680E5FE0C8";
        let normal = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for (thread, call, expected) in [
            (None, None, "A=1 CODEX_THREAD_ID=old".to_owned()),
            (Some(id), None, format!("A=1 CODEX_THREAD_ID={normal}")),
            (
                Some(&*format!("urn:uuid:{id}")),
                Some("c"),
                format!("A=1 CODEX_THREAD_ID={normal} CODEX_TOOL_CALL_ID=c"),
            ),
            (None, Some(""), "A=1 CODEX_THREAD_ID=old CODEX_TOOL_CALL_ID=".to_owned()),
        ] {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let metadata = StartMetadata { thread_id: text(thread), tool_call_id: text(call) };
            let mut got = variables("A=1 CODEX_THREAD_ID=old");
            add_metadata(&mut got, &metadata);
            assert_eq!(got, variables(&expected));
        }
    }

    #[test]
    fn without_a_policy_the_child_gets_exactly_env() {
        let got =
            child_environment(&variables(SERVER), None, &map("A=1"), false, Some(OsStr::new("/bin/bash")));
        assert_eq!(got, variables("A=1"));
    }

    #[test]
    fn a_terminal_adds_the_login_shell_unless_there_is_one() {
        let shell = Some(OsStr::new("/bin/bash"));
        let none = policy(EnvInherit::None, false, "", "", "");
        let all = policy(EnvInherit::All, false, "", "", "");
        for (policy, env, expected) in [
            (None, "", Some("/bin/bash")),
            (Some(&none), "", Some("/bin/bash")),
            (Some(&none), "SHELL=/bin/fish", Some("/bin/fish")),
            (Some(&all), "", Some("/bin/zsh")),
        ] {
            let got = child_environment(&variables(SERVER), policy, &map(env), true, shell);
            let found =
                got.iter().find(|(name, _)| name == "SHELL").map(|(_, value)| value.to_str().expect("text"));
            assert_eq!(found, expected, "{policy:?} {env}");
        }
        assert_eq!(child_environment(&[], None, &map(""), true, None), []);
    }

    #[test]
    fn names_and_values_that_are_no_text_pass_unchanged() {
        let odd = (OsString::from_vec(b"A\xff".to_vec()), OsString::from_vec(b"\xfe".to_vec()));
        let policy = policy(EnvInherit::All, false, "", "", "");
        let got = child_environment(std::slice::from_ref(&odd), Some(&policy), &map(""), false, None);
        assert_eq!(got, [odd]);
    }

    fn names() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[ABKEYabkey]{1,4}", "[a-z]{0,3}", 0..8)
    }

    proptest! {
        #[test]
        fn every_variable_has_a_reason_to_be_there(
            server in names(), set in names(), env in names(),
            exclude in proptest::collection::vec("[ABK*?]{1,3}", 0..3),
            include_only in proptest::collection::vec("[ABK*?]{1,3}", 0..3),
            ignore in any::<bool>(),
        ) {
            let server_env: Variables =
                server.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let policy = EnvPolicy {
                inherit: EnvInherit::All, ignore_default_excludes: ignore, exclude, set, include_only,
            };
            let got = child_environment(&server_env, Some(&policy), &env, false, None);
            let hit = |patterns: &[String], name: &str| {
                let name: Vec<char> = name.chars().collect();
                patterns.iter().any(|pattern| Pattern::new(pattern).matches(&name))
            };
            let dropped = |name: &str| {
                (!ignore && name.to_uppercase().contains("KEY")) || hit(&policy.exclude, name)
            };
            let kept = |name: &str| policy.include_only.is_empty() || hit(&policy.include_only, name);
            let mut expected = BTreeMap::new();
            for name in server.keys().chain(policy.set.keys()).chain(env.keys()) {
                let value = env.get(name)
                    .or_else(|| policy.set.get(name).filter(|_| kept(name)))
                    .or_else(|| {
                        let free = !policy.set.contains_key(name) && !dropped(name) && kept(name);
                        server.get(name).filter(|_| free)
                    });
                if let Some(value) = value {
                    expected.insert(OsString::from(name), OsString::from(value));
                }
            }
            prop_assert_eq!(got, expected.into_iter().collect::<Variables>());
        }
    }
}
