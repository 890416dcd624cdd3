//! The words of the managed network (section 13).

use codex_exec_protocol::network::{
    Decision, HostRequest, NetworkProxy, PolicyAnswer, PolicyDecisionParams, PolicyRequestParams, Protocol,
};
use serde_json::{Value, json};

fn full() -> Value {
    json!({
        "proxy": {
            "enabled": true, "enableSocks5": true, "enableSocks5Udp": true, "allowUpstreamProxy": true,
            "dangerouslyAllowAllUnixSockets": false, "mode": "full", "allowLocalBinding": false,
            "domains": {"a.test": "allow", "b.test": "deny", "c.test": "none"},
            "unixSockets": {"/run/x": "allow", "/run/y": "deny"},
            "reviewDomains": ["d.test"], "credentialProviders": {},
        },
        "auditMetadata": {"conversationId": "c", "other": null},
        "environmentId": "e", "executionId": "x", "policyDecisionTimeoutMs": 1000,
    })
}

#[test]
fn a_proxy_is_asked_for_as_released_clients_do() {
    serde_json::from_value::<NetworkProxy>(full()).unwrap();
    let mut least = full();
    for optional in ["domains", "unixSockets", "reviewDomains", "credentialProviders"] {
        least["proxy"].as_object_mut().unwrap().remove(optional);
    }
    for optional in ["auditMetadata", "environmentId", "executionId", "policyDecisionTimeoutMs"] {
        least.as_object_mut().unwrap().remove(optional);
    }
    serde_json::from_value::<NetworkProxy>(least).unwrap();
}

#[test]
fn what_a_released_server_refuses_does_not_decode() {
    for required in [
        "enabled",
        "enableSocks5",
        "enableSocks5Udp",
        "allowUpstreamProxy",
        "dangerouslyAllowAllUnixSockets",
        "mode",
        "allowLocalBinding",
    ] {
        let mut lacking = full();
        lacking["proxy"].as_object_mut().unwrap().remove(required);
        assert!(serde_json::from_value::<NetworkProxy>(lacking).is_err(), "{required}");
    }
    for (place, value) in [
        ("/proxy", Value::Null),
        ("/proxy/enabled", json!(false)),
        ("/proxy/mode", json!("open")),
        ("/proxy/domains", json!({"a": "ask"})),
        ("/proxy/unixSockets", json!({"/a": "none"})),
        ("/proxy/reviewDomains", json!({})),
        ("/auditMetadata", json!({"conversationId": 5})),
        ("/environmentId", json!(5)),
        ("/policyDecisionTimeoutMs", json!(0)),
        ("/policyDecisionTimeoutMs", json!(-1)),
    ] {
        let mut wrong = full();
        *wrong.pointer_mut(place).unwrap() = value.clone();
        assert!(serde_json::from_value::<NetworkProxy>(wrong).is_err(), "{place} {value}");
    }
    assert!(serde_json::from_value::<NetworkProxy>(json!({})).is_err());
}

#[test]
fn questions_answers_and_reports_look_as_seen() {
    let host = HostRequest { protocol: Protocol::HttpsConnect, host: "unknown.test".into(), port: 443 };
    let asked = PolicyRequestParams { process_id: "p".into(), request: host };
    assert_eq!(
        serde_json::to_value(asked).unwrap(),
        json!({"processId": "p", "request": {"protocol": "https_connect", "host": "unknown.test", "port": 443}})
    );
    for (answer, decision) in [
        (json!({"type": "allow"}), Some(Decision::Allow)),
        (json!({"type": "deny", "reason": "because"}), Some(Decision::Deny { reason: "because".into() })),
        (json!({"type": "ask", "reason": "because"}), Some(Decision::Ask { reason: "because".into() })),
        (json!({"type": "deny"}), Some(Decision::Deny { reason: "not_allowed".into() })),
        (json!({"type": "ask"}), Some(Decision::Ask { reason: "not_allowed".into() })),
        (json!({"type": "deny", "reason": 5}), None),
        (json!({"type": "maybe", "reason": "because"}), None),
        (json!("allow"), None),
    ] {
        let read = serde_json::from_value::<PolicyAnswer>(json!({"decision": answer})).ok();
        assert_eq!(read.map(|answer| answer.decision), decision, "{answer}");
    }
    let seen = json!({
        "processId": "p", "timestamp": "2026-01-02T03:04:05.678Z", "scope": "domain", "decision": "deny",
        "source": "decider", "reason": "because", "protocol": "http", "host": "unknown.test", "port": 80,
        "method": "GET", "client": "127.0.0.1:40000", "policyOverride": false,
    });
    let read: PolicyDecisionParams = serde_json::from_value(seen.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), seen);
}
