//! The registry's bodies: what is sent, what is accepted, what is refused.

use codex_exec_protocol::registry::*;
use serde_json::{Value, json};

fn key() -> PublicKey {
    PublicKey { x25519: [7; X25519_BYTES], mlkem768: Box::new([9; MLKEM768_BYTES]) }
}

#[test]
fn a_key_object_has_exactly_three_members_and_keys_of_the_right_size() {
    let object = serde_json::to_value(key()).unwrap();
    assert_eq!(object["suite"], SUITE);
    assert_eq!(object["x25519_public_key"].as_str().unwrap().len(), 44);
    assert_eq!(object["mlkem768_public_key"].as_str().unwrap().len(), 1580);
    assert_eq!(object.as_object().unwrap().len(), 3);
    assert_eq!(serde_json::from_value::<PublicKey>(object.clone()).unwrap(), key());
    let changed = |change: fn(&mut Value)| {
        let mut object = object.clone();
        change(&mut object);
        serde_json::from_value::<PublicKey>(object)
    };
    assert!(changed(|o| o["extra"] = json!(1)).is_err());
    assert!(changed(|o| o["suite"] = json!("Noise_hybridIK_25519+MLKEM768_AESGCM_SHA256")).is_err());
    assert!(changed(|o| o["x25519_public_key"] = json!("AAAA")).is_err());
    assert!(changed(|o| o["mlkem768_public_key"] = json!("no base64!")).is_err());
    assert!(changed(|o| drop(o.as_object_mut().unwrap().remove("suite"))).is_err());
}

#[test]
fn successful_answers_may_have_further_members_and_hide_their_secrets() {
    let registered: NoiseRegistered = serde_json::from_value(json!({
        "environment_id": "env-1", "url": "ws://h/?ticket=sesame", "security_profile": NOISE_PROFILE,
        "executor_registration_id": "reg-1", "transport_policy": {"version": 1},
    }))
    .unwrap();
    assert_eq!(registered.url.expose(), "ws://h/?ticket=sesame");
    assert!(!format!("{registered:?}").contains("sesame"));
    assert_eq!(serde_json::from_str::<Validated>("{}").unwrap(), Validated { valid: false });
    assert!(serde_json::from_str::<Validated>(r#"{"valid":true,"x":1}"#).unwrap().valid);
}

#[test]
fn a_cloud_registration_leaves_out_an_id_that_was_not_given() {
    let mut body = CloudRegister {
        idempotency_id: "codex-exec-server-00".into(),
        environment_id: None,
        name: "n".into(),
        labels: Default::default(),
        metadata: Default::default(),
    };
    let text = r#"{"idempotency_id":"codex-exec-server-00","name":"n","labels":{},"metadata":{}}"#;
    assert_eq!(serde_json::to_string(&body).unwrap(), text);
    body.environment_id = Some("e".into());
    assert_eq!(serde_json::to_value(&body).unwrap()["environment_id"], "e");
}

#[test]
fn error_bodies_have_optional_members() {
    let body: ErrorBody = serde_json::from_str(r#"{"error":{"code":"nf"}}"#).unwrap();
    assert_eq!(body.error.unwrap().code.as_deref(), Some("nf"));
    let text = serde_json::to_string(&ErrorBody::new("nf", "no such")).unwrap();
    assert_eq!(text, r#"{"error":{"code":"nf","message":"no such"}}"#);
}
