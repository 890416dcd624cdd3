//! Figures as text, for `GET /metrics`.

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// The `Content-Type` of [`openmetrics`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that is registered, in OpenMetrics' text format.
#[must_use]
pub fn openmetrics(registry: &Registry) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = text::encode(&mut out, registry);
    out
}
