//! What is lent, and within which bounds.

use rmcp::model::Tool;

use crate::environments::Environments;
use crate::limits::Limits;
use crate::places::Confinement;
use crate::tasks::Tasks;

/// What all connections share.
pub(crate) struct Lent {
    pub(crate) environments: Environments,
    pub(crate) confinement: Confinement,
    pub(crate) limits: Limits,
    pub(crate) version: String,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tasks: Tasks,
}
