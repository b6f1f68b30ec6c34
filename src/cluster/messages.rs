//! What nodes say to one another, as JSON: authenticated, bounded, and of one version, that of the
//! program.

use serde::{Deserialize, Serialize};

use crate::actors::{Asking, Heard, News, OrdersError, Reply, Request};
use crate::order::OrderId;
use crate::store::StoredOrder;

/// The most that is read of a body, on both sides.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;

pub(super) const ORDERS: &str = "/orders";
pub(super) const WATCH: &str = "/watch";
pub(super) const NEWS: &str = "/news";
pub(super) const CHANGED: &str = "/changed";

pub(super) fn command_path(id: OrderId) -> String {
    format!("/orders/{id}/commands")
}

/// A command for the owner of its order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    pub asking: Asking,
    pub request: Request,
}

/// What the owner answers.
pub type Answered = Result<Reply, OrdersError>;

/// What the owner answers who is to make an order.
pub type Made = Result<StoredOrder, OrdersError>;

/// The sender's pages show these orders: it is told what is new of them for so long.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    pub ids: Vec<OrderId>,
    pub ttl_ms: u64,
}

/// What is new of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewsItem {
    pub id: OrderId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Heard>,
    /// Told to the owner by one who is not: those who watch the order do not know yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pass_on: bool,
}

impl NewsItem {
    pub(super) const fn nothing(id: OrderId) -> Self {
        Self {
            id,
            version: None,
            heard: None,
            pass_on: false,
        }
    }

    /// Later news of the same order for the same receiver.
    pub(super) fn add(&mut self, news: News, pass_on: bool) {
        match news {
            News::Version(version) => self.version = self.version.max(Some(version)),
            News::Heard(heard) => self.heard = Some(heard),
        }
        self.pass_on |= pass_on;
    }

    pub(super) fn news(&self) -> impl Iterator<Item = News> + use<> {
        let version = self.version.map(News::Version);
        version.into_iter().chain(self.heard.map(News::Heard))
    }
}
