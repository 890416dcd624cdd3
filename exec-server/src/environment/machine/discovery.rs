//! What is configured and installed here (section 12): read on worker threads, since a file system may hang.

use std::sync::Arc;

use codex_exec_protocol::discovery::{ReadConfig, ReadConfigParams, ReadConfigResult};
use codex_exec_protocol::{Method as _, RpcError};

use super::{Machine, Reply};
use crate::budget::answer_bytes;
use crate::environment::configuration;

impl Machine {
    /// `environmentConfig/read` (12.1).
    pub(crate) fn read_config(
        self: &Arc<Self>,
        params: ReadConfigParams,
        reply: impl Reply<ReadConfigResult>,
    ) {
        let limits = &self.limits().discovery;
        let Some(configuration) = self.common.configuration.clone() else {
            return reply.answer(Err(RpcError::method_not_found(ReadConfig::NAME)));
        };
        if let Err(error) = configuration::check(&params, limits) {
            return reply.answer(Err(error));
        }
        let bytes = answer_bytes(limits.config_answer_bytes as u64);
        self.on_disk(Vec::new(), bytes, reply, move |machine| {
            configuration::read(&*configuration, &params, &machine.limits().discovery)
        });
    }
}
