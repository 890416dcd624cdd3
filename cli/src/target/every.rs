//! Environments by name, each connected to when it is first asked for.

use std::sync::Arc;

use codex_config::environments::LOCAL;
use codex_exec_server::client::{ClientOptions, Dial, Environments, Rest};

use super::{TargetArgs, TargetError, rest_of, written_down};
use crate::setup::Setup;

/// The name of an environment that was given by its address.
const UNNAMED: &str = "remote";

/// All environments that are written down, this machine included unless it is left out there. `adjust` changes what each
/// client is told of waits and bounds. Gives their names as well, in the order in which they are written down.
///
/// # Errors
/// What is written down can't be used.
pub(crate) fn every(
    setup: &Arc<Setup>,
    adjust: impl Fn(&mut ClientOptions) + Copy + Send + Sync + 'static,
) -> Result<(Environments, Vec<String>), TargetError> {
    let found = written_down(setup.own_home().as_deref())?;
    let environments = Environments::default();
    for id in found.ids() {
        let dial = dial(TargetArgs::named(id), setup, adjust);
        let added = match id == LOCAL {
            true => environments.add_local_server(dial),
            false => environments.add_remote(id, dial.resting_while(rest_of(setup, id))),
        };
        added.map_err(|error| TargetError::Here(error.to_string()))?;
    }
    Ok((environments, found.ids().map(str::to_owned).collect()))
}

/// The one environment that the flags name.
///
/// # Errors
/// Flags that can't be meant, a token that can't be had, an environment that is not known or rests.
pub(crate) fn one(
    target: &TargetArgs,
    setup: &Arc<Setup>,
    adjust: impl Fn(&mut ClientOptions) + Copy + Send + Sync + 'static,
) -> Result<Environments, TargetError> {
    let found = target.find(setup)?;
    let environments = Environments::default();
    let dial = dial(target.clone(), setup, adjust);
    let added = match (found.is_remote(), found.name()) {
        (false, _) => environments.add_local_server(dial),
        (true, name) => {
            let rest = name.map_or_else(Rest::default, |name| rest_of(setup, name));
            environments.add_remote(name.unwrap_or(UNNAMED), dial.resting_while(rest))
        }
    };
    added.map_err(|error| TargetError::Here(error.to_string()))?;
    Ok(environments)
}

fn dial(
    target: TargetArgs,
    setup: &Arc<Setup>,
    adjust: impl Fn(&mut ClientOptions) + Send + Sync + 'static,
) -> Dial {
    let setup = Arc::clone(setup);
    Dial::new(move || match target.find(&setup) {
        Ok(mut found) => {
            adjust(found.options_mut());
            Ok(found.into_parts())
        }
        Err(error) => Err(error.to_string()),
    })
}
