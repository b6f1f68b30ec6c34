//! What is done to personal data that is no longer needed as it stands (decision 4): [`reseal`] brings
//! it under the newest field key, [`erase`] forgets it. Both go on beside payments, in small bites
//! through the one way of every write, and both may be cut short at any moment.

pub mod erase;
pub mod reseal;

use crate::store::{Rejection, StoreError, Transaction, Write};

/// One transaction of writes alone.
const fn alone(writes: Vec<Write>) -> Transaction {
    Transaction {
        order: None,
        writes,
    }
}

/// The verdict on one transaction.
fn only(verdicts: Vec<Result<(), Rejection>>) -> Result<Result<(), Rejection>, StoreError> {
    verdicts
        .into_iter()
        .next()
        .ok_or_else(|| StoreError::OutcomeUnknown {
            why: "the store gave no verdict".to_owned(),
        })
}
