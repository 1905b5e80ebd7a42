//! Makes a plan stop when its query is cancelled: every source and every join looks at the token before
//! each batch. DataFusion yields at its sources only, and a join may turn one of their batches into
//! hours of work without coming back to them.

use std::fmt;
use std::sync::Arc;

use datafusion::common::exec_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

/// The plan with a look at `token` at every place where work can multiply.
pub(super) fn stoppable(plan: Arc<dyn ExecutionPlan>, token: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        // Sources have no child, joins two; of the rest only UNNEST makes many rows of one.
        let multiplies = node.children().len() != 1 || node.name() == "UnnestExec";
        Ok(if multiplies {
            Transformed::yes(Arc::new(StopExec { input: node, token: token.clone() }) as _)
        } else {
            Transformed::no(node)
        })
    })?;
    Ok(wrapped.data)
}

#[derive(Debug)]
struct StopExec {
    input: Arc<dyn ExecutionPlan>,
    token: CancellationToken,
}

impl DisplayAs for StopExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopExec")
    }
}

impl ExecutionPlan for StopExec {
    fn name(&self) -> &'static str {
        "StopExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self { input, token: self.token.clone() })),
            _ => exec_err!("StopExec has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let token = self.token.clone();
        let batches = self
            .input
            .execute(partition, context)?
            .map(move |batch| if token.is_cancelled() { exec_err!("the query is cancelled") } else { batch });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
