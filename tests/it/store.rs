//! Stores. [`suite`], [`money`] and [`records`] list the promises that every implementation keeps;
//! `store_suite!` runs them against one of them. `sqlite` and `postgres_suite` add what only that store can
//! show.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use async_trait::async_trait;
use enrollpay::store::Store;

pub mod bills;
pub mod desk;
pub mod money;
pub mod nodes;
pub mod reconciliation;
pub mod records;
pub mod sample;
pub mod suite;

/// One empty place for orders, which a test opens, closes and opens again.
#[async_trait]
pub trait Place: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
}

/// A test for every promise; `$place` makes a fresh, empty [`Place`].
macro_rules! store_suite {
    ($place:expr) => {
        $crate::store::store_suite! { $place =>
            an_order_comes_back_as_it_was,
            a_number_is_taken_once_per_merchant,
            a_hundred_creates_of_one_number_make_one_order,
            a_stale_version_changes_nothing,
            only_the_owner_of_the_shard_writes,
            an_epoch_rises_by_one,
            nothing_commits_at_or_after_its_time,
            a_nonce_is_taken_once,
            an_idempotency_key_is_started_finished_and_kept,
            a_dropped_idempotency_key_is_free_again,
            an_attempt_is_claimed_once,
            one_attempt_lives_at_a_time,
            a_capture_is_recorded_once,
            one_capture_is_kept_and_a_surplus_has_its_refund,
            paid_and_closed_are_final,
            refunds_stay_within_the_payment,
            a_refund_is_one_number_until_it_is_over,
            a_merchants_refund_number_is_taken_once,
            a_surplus_goes_back_whole_in_rounds,
            odd_captures_wait_until_they_are_settled,
            the_books_agree_with_what_moved,
            open_refunds_come_oldest_first,
            a_step_that_does_not_fit_is_refused,
            a_rejected_neighbour_disturbs_nobody,
            a_rejected_transaction_leaves_no_trace,
            reasons_to_refuse_come_in_their_order,
            orders_are_listed_newest_first,
            a_paid_order_for_the_same_purpose_is_found,
            the_longest_overdue_is_due_first,
            the_timeline_tells_everything_in_order,
            tokens_lead_to_one_place,
            personal_data_is_replaced,
            an_oauth_state_keeps_its_code,
            merchants_and_keys_are_kept,
            settings_and_evidence_are_kept,
            an_orders_events_leave_in_order,
            no_merchant_waits_for_another,
            what_is_undelivered_is_listed_oldest_first,
            the_outbox_is_gauged,
            events_are_read_in_the_order_they_were_committed,
            no_event_appears_before_a_cursor_handed_out,
            two_people_settle_evidence,
            what_operators_did_is_one_chain,
            the_latest_that_operators_did_comes_first,
            an_operators_name_is_one_persons,
            a_session_is_one_operators_until_its_end,
            an_order_is_found_by_a_number_of_the_providers,
            orders_are_counted_by_status,
            what_is_old_is_forgotten,
            a_days_captures_and_refunds_are_read_by_pages,
            a_run_is_started_filled_and_ended_once,
            the_last_finished_run_is_the_result,
            rows_are_those_of_one_merchant_and_of_no_order,
            a_row_is_found_on_another_day,
            an_instance_lives_until_its_lease_is_over,
            a_shard_changes_hands,
            a_silent_owner_is_followed_by_the_stores_clock,
            due_orders_and_events_are_those_of_the_owner,
            versions_are_told_of_the_orders_that_exist,
            an_abandoned_key_is_resumed_once,
            bills_come_back_as_they_were,
            an_upload_is_kept_whole_or_not_at_all,
            a_bill_is_in_one_open_order,
            of_two_orders_one_gets_the_bill,
            a_cancelled_bill_is_paid_by_nobody,
            bills_are_listed_by_how_they_stand,
            a_payers_link_ends_and_is_forgotten,
            a_bill_loses_its_payer_once,
            it_is_all_there_after_reopening,
            a_closed_store_says_so,
        }
    };
    ($place:expr => $($promise:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $promise() {
                $crate::store::suite::$promise(&$place).await;
            }
        )+
    };
}
pub(crate) use store_suite;

pub mod machine;
pub mod postgres;
pub mod postgres_suite;
pub mod sqlite;
