//! `reconcile`: a provider's bill of one day against the books.

use serde_json::{Value, json};

use super::{OperationError, Operations, Operator, wrong};
use crate::order::AccountId;
use crate::store::reconciliation::{Run, RunBy};

impl Operations {
    pub(super) async fn reconcile(
        &self,
        by: &Operator,
        account: &str,
        date: &str,
    ) -> Result<Value, OperationError> {
        let reconciler = self.reconciler.clone().ok_or(OperationError::NoNode)?;
        let day = date
            .parse()
            .map_err(|_| wrong("--date", date, "a day such as 2026-11-19"))?;
        let asked = AccountId::new(account);
        // It goes on where whoever asked has gone.
        let run = tokio::spawn(async move { reconciler.run(&asked, day, RunBy::Operator).await })
            .await
            .map_err(|_| OperationError::Refused("the run broke off".to_owned()))??;
        let target = format!("{account} {date}");
        let outcome = format!("run {}", run.run);
        self.write(vec![self.audit(by, "reconcile", &target, &outcome)])
            .await?;
        Ok(run_json(&run))
    }
}

/// What a run came to; the rows are to be had through the API.
fn run_json(run: &Run) -> Value {
    let total = run.total();
    json!({
        "account": run.account,
        "date": run.date.to_string(),
        "run": run.run,
        "state": run.state,
        "why": run.why,
        "matched": total.matched,
        "repaired": total.repaired,
        "only_here": total.only_here,
        "only_there": total.only_there,
        "different": total.different,
        "payments_here": total.payments_here,
        "payments_there": total.payments_there,
        "refunds_here": total.refunds_here,
        "refunds_there": total.refunds_there,
        "fees_there": total.fees_there,
        "flows": run.flows,
    })
}
