//! What is configured and installed here (section 12): read on worker threads, since a file system may hang.

use std::sync::Arc;

use codex_exec_protocol::discovery::{
    Discover, DiscoverParams, DiscoverResult, DiscoverRootsParams, DiscoverRootsResult, ReadConfig,
    ReadConfigParams, ReadConfigResult, RootFound, RootParams, SkillsParams,
};
use codex_exec_protocol::{ErrorCode, Method as _, RpcError};

use super::{Machine, Reply};
use crate::budget::answer_bytes;
use crate::environment::configuration;
use crate::filesystem::{How, ScanRoot, ScanSkills, touched};

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

    /// `capabilityRoots/discoverV1` (12.2). What is wrong with one root is told there.
    pub(crate) fn discover_roots(
        self: &Arc<Self>,
        params: DiscoverRootsParams,
        reply: impl Reply<DiscoverRootsResult>,
    ) {
        let limits = &self.limits().discovery;
        let (count, most) = (params.roots.len(), limits.capability_roots);
        if count > most {
            return reply.answer(Err(RpcError::invalid_params(format!(
                "{count} roots are too many: at most {most} at once"
            ))));
        }
        let uses: Vec<_> = params.roots.iter().map(|root| How::Sees.of(&root.path)).collect();
        let (touched, bytes) = (touched(&uses), limits.capability_root_bytes.saturating_mul(count));
        self.on_disk(touched, answer_bytes(bytes as u64), reply, |machine| {
            let roots = params.roots.into_iter().map(|root| machine.scan_root(root)).collect();
            Ok(DiscoverRootsResult { roots })
        });
    }

    fn scan_root(&self, root: RootParams) -> RootFound {
        let empty = RootFound::empty(root.id.clone(), root.path.clone());
        let found = self.confined.run::<ScanRoot>(root, self.limits());
        found.unwrap_or_else(|error| RootFound { error: Some(error.message), ..empty })
    }

    /// `capabilities/discoverV2` (12.3). A place that is not there, or that the sandbox hides, has nothing.
    pub(crate) fn discover(self: &Arc<Self>, params: DiscoverParams, reply: impl Reply<DiscoverResult>) {
        let Some(configuration) = self.common.configuration.clone() else {
            return reply.answer(Err(RpcError::method_not_found(Discover::NAME)));
        };
        let bytes = answer_bytes(self.limits().discovery.capability_root_bytes as u64);
        self.on_disk(Vec::new(), bytes, reply, move |machine| {
            let mut all = DiscoverResult::default();
            for root in configuration.skill_roots() {
                let place = SkillsParams { root, sandbox: params.sandbox.clone() };
                match machine.confined.run::<ScanSkills>(place, machine.limits()) {
                    Ok(found) => {
                        all.skills.extend(found.skills);
                        all.warnings.extend(found.warnings);
                    }
                    Err(error) if error.code == ErrorCode::NOT_FOUND => {}
                    Err(error) => all.warnings.push(error.message),
                }
            }
            Ok(all)
        });
    }
}
