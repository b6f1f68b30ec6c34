//! The answer to a press, carried over the redirect that follows a form: a word and a number in a
//! cookie that the next page reads once.

use actix_web::cookie::time::Duration;
use actix_web::{HttpRequest, HttpResponse};

use super::times::Zone;
use super::visitor::cookie;
use crate::http::Deps;
use crate::http::words::{Words, fill};
use crate::order::Timestamp;

const COOKIE: &str = "ep_said";

/// What a press was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Asked at this time: paid.
    Paid(Timestamp),
    /// Asked at this time: no payment known.
    Unpaid(Timestamp),
    /// Asked, and the provider did not say.
    Unreachable,
    WalletBusy,
    Closing,
    TooMany {
        seconds: i64,
    },
    TickFirst,
    NotOffered,
    Stale,
    /// An order was closed, and its bills are free.
    Cancelled,
    /// It is on its way there.
    Cancelling,
    NothingTicked,
    BillsTaken,
    TooManyTicked,
    NotAnEmail,
}

impl Said {
    pub fn write(self, words: &'static Words, zone: Zone) -> String {
        match self {
            Self::Paid(at) => fill(words.answer_paid, &[("time", &zone.clock(at))]),
            Self::Unpaid(at) => fill(words.answer_unpaid, &[("time", &zone.clock(at))]),
            Self::Unreachable => words.answer_unreachable.to_owned(),
            Self::WalletBusy => words.answer_wallet_busy.to_owned(),
            Self::Closing => words.answer_closing.to_owned(),
            Self::TooMany { seconds } => {
                fill(words.answer_too_many, &[("seconds", &seconds.to_string())])
            }
            Self::TickFirst => words.answer_tick_first.to_owned(),
            Self::NotOffered => words.answer_not_offered.to_owned(),
            Self::Stale => words.answer_stale.to_owned(),
            Self::Cancelled => words.answer_cancelled.to_owned(),
            Self::Cancelling => words.cancelling_heading.to_owned(),
            Self::NothingTicked => words.answer_nothing_ticked.to_owned(),
            Self::BillsTaken => words.answer_bills_taken.to_owned(),
            Self::TooManyTicked => words.answer_too_many_ticked.to_owned(),
            Self::NotAnEmail => words.answer_not_an_email.to_owned(),
        }
    }

    fn to_cookie(self) -> String {
        let (word, number) = match self {
            Self::Paid(at) => ("paid", at.as_millis()),
            Self::Unpaid(at) => ("unpaid", at.as_millis()),
            Self::Unreachable => ("unreachable", 0),
            Self::WalletBusy => ("busy", 0),
            Self::Closing => ("closing", 0),
            Self::TooMany { seconds } => ("many", seconds),
            Self::TickFirst => ("tick", 0),
            Self::NotOffered => ("offer", 0),
            Self::Stale => ("stale", 0),
            Self::Cancelled => ("cancelled", 0),
            Self::Cancelling => ("cancelling", 0),
            Self::NothingTicked => ("none", 0),
            Self::BillsTaken => ("taken", 0),
            Self::TooManyTicked => ("ticked", 0),
            Self::NotAnEmail => ("email", 0),
        };
        format!("{word}.{number}")
    }

    fn from_cookie(text: &str) -> Option<Self> {
        let (word, number) = text.split_once('.')?;
        let number: i64 = number.parse().ok()?;
        Some(match word {
            "paid" => Self::Paid(Timestamp::from_millis(number)),
            "unpaid" => Self::Unpaid(Timestamp::from_millis(number)),
            "unreachable" => Self::Unreachable,
            "busy" => Self::WalletBusy,
            "closing" => Self::Closing,
            "many" => Self::TooMany {
                seconds: number.clamp(1, 3600),
            },
            "tick" => Self::TickFirst,
            "offer" => Self::NotOffered,
            "stale" => Self::Stale,
            "cancelled" => Self::Cancelled,
            "cancelling" => Self::Cancelling,
            "none" => Self::NothingTicked,
            "taken" => Self::BillsTaken,
            "ticked" => Self::TooManyTicked,
            "email" => Self::NotAnEmail,
            _ => return None,
        })
    }
}

pub fn from(request: &HttpRequest) -> Option<Said> {
    Said::from_cookie(request.cookie(COOKIE)?.value())
}

/// For the page at `path` alone.
pub fn remember(deps: &Deps, response: &mut HttpResponse, path: &str, said: Said) {
    let mut kept = cookie(deps, COOKIE, &said.to_cookie(), path);
    kept.set_max_age(Duration::seconds(30));
    // It is ours and short: it fits a header.
    let _ = response.add_cookie(&kept);
}

pub fn forget(deps: &Deps, response: &mut HttpResponse, path: &str) {
    let mut gone = cookie(deps, COOKIE, "", path);
    gone.set_max_age(Duration::ZERO);
    let _ = response.add_cookie(&gone);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_survives_the_redirect() {
        let at = Timestamp::from_seconds(1_795_168_800);
        for said in [
            Said::Paid(at),
            Said::Unpaid(at),
            Said::Unreachable,
            Said::WalletBusy,
            Said::Closing,
            Said::TooMany { seconds: 12 },
            Said::TickFirst,
            Said::NotOffered,
            Said::Stale,
            Said::Cancelled,
            Said::Cancelling,
            Said::NothingTicked,
            Said::BillsTaken,
            Said::TooManyTicked,
            Said::NotAnEmail,
        ] {
            assert_eq!(Said::from_cookie(&said.to_cookie()), Some(said));
        }
        assert_eq!(Said::from_cookie("x.1"), None);
        assert_eq!(Said::from_cookie("paid"), None);
    }
}
