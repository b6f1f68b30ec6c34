//! `enrollpay merchant …`

use clap::Subcommand;

use crate::operations::{MerchantChanges, Operation};

#[derive(Debug, Subcommand)]
pub(super) enum Merchant {
    /// Register an enrolment system; prints its key and secrets, once.
    #[command(
        after_help = "Example:\n  enrollpay merchant create --name 乌鲁木齐考区 \\\n    --webhook-url https://school.example.edu.cn/enrollpay --account wechat=school-wechat"
    )]
    Create {
        #[arg(long)]
        name: String,
        /// Where events are told; https.
        #[arg(long)]
        webhook_url: Option<String>,
        /// wechat=ID or alipay=ID, as configured; one per wallet.
        #[arg(long = "account", required = true)]
        accounts: Vec<String>,
    },
    /// Change what students see and where events go. An empty text clears a value.
    Set {
        merchant: String,
        #[arg(long)]
        display_name: Option<String>,
        /// Whom to call about paying.
        #[arg(long)]
        help_payment: Option<String>,
        /// Whom to call about the fee itself.
        #[arg(long)]
        help_fee: Option<String>,
        #[arg(long)]
        webhook_url: Option<String>,
        /// A host that return addresses may have; repeat it for more. Replaces the list.
        #[arg(long = "return-host")]
        return_hosts: Option<Vec<String>>,
        /// What to do with an order for a payer who has paid the same purpose.
        #[arg(long, value_parser = ["warn", "refuse"])]
        duplicate: Option<String>,
        /// How much of a payer is shown, for orders made from now on: number 4+4 and phone 3+4
        /// characters, or 1+1 and 3+2.
        #[arg(long, value_parser = ["standard", "strict"])]
        masks: Option<String>,
        /// Refuse orders whose payer is not the person registered; such orders must name a registrant.
        #[arg(long)]
        payer_must_be_registrant: Option<bool>,
    },
    /// All merchants; no secrets.
    List,
    /// A second key; the old one stays valid for the overlap.
    RotateKey {
        merchant: String,
        #[arg(long, default_value_t = 86_400)]
        overlap_seconds: i64,
    },
}

impl Merchant {
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Create {
                name,
                webhook_url,
                accounts,
            } => Operation::MerchantCreate {
                name,
                webhook_url,
                accounts,
            },
            Self::Set {
                merchant,
                display_name,
                help_payment,
                help_fee,
                webhook_url,
                return_hosts,
                duplicate,
                masks,
                payer_must_be_registrant,
            } => Operation::MerchantSet {
                merchant,
                changes: MerchantChanges {
                    display_name,
                    help_payment,
                    help_fee,
                    webhook_url,
                    return_hosts,
                    duplicate,
                    masks,
                    payer_must_be_registrant,
                },
            },
            Self::List => Operation::MerchantList,
            Self::RotateKey {
                merchant,
                overlap_seconds,
            } => Operation::MerchantRotateKey {
                merchant,
                overlap_seconds,
            },
        }
    }
}
