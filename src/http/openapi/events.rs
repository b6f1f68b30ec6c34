//! The shapes of events.

use utoipa::{IntoParams, ToSchema};

use super::{OrderBody, OrderRefundBody};

/// `{id}` of an event.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct EventIdPath {
    /// The event's id, as in webhook-id.
    #[param(
        example = "evt_01KAH8Z6D0W2F4M6P8R0T2V4X6",
        pattern = "^evt_[0-9A-HJKMNP-TV-Z]{26}$"
    )]
    id: String,
}

/// Where to read on, and what.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// next of an earlier answer; without it from the first event on.
    #[param(required = false)]
    after: String,
    /// Only events of these types, commas between them.
    #[param(required = false, example = "order.paid,refund.succeeded")]
    types: String,
    #[param(required = false, minimum = 1, maximum = 100, default = 20)]
    limit: u32,
}

/// What a webhook carries.
#[derive(ToSchema)]
#[schema(as = WebhookEvent)]
pub struct WebhookBody {
    #[schema(example = "evt_01KAH8Z6D0W2F4M6P8R0T2V4X6")]
    id: String,
    /// order.paid, order.closed, order.surplus_refunded, order.attention, refund.succeeded,
    /// refund.failed or receipt.issued.
    r#type: String,
    #[schema(format = "date-time")]
    created_at: String,
    data: WebhookData,
}

#[derive(ToSchema)]
pub struct WebhookData {
    order: OrderBody,
    /// Of refund.succeeded, refund.failed and order.surplus_refunded: the refund it tells of.
    #[schema(required = false)]
    refund: OrderRefundBody,
}

#[derive(ToSchema)]
#[schema(as = EventList)]
pub struct EventListBody {
    #[schema(pattern = "^list$")]
    object: String,
    /// Oldest first.
    data: Vec<WebhookBody>,
    /// true: there are more now.
    has_more: bool,
    /// Pass it as after to read on; it is there also where nothing more is, for the next time.
    next: String,
}

/// An event that is on its way again.
#[derive(ToSchema)]
#[schema(as = EventDelivery)]
pub struct ResentBody {
    #[schema(example = "evt_01KAH8Z6D0W2F4M6P8R0T2V4X6")]
    id: String,
    #[schema(pattern = "^event_delivery$")]
    object: String,
    r#type: String,
    order_id: String,
    /// Of the order, as the event tells it.
    version: u64,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(pattern = "^pending$")]
    state: String,
}
