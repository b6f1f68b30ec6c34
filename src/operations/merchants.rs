//! Enrolment systems and their keys.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{MerchantChanges, OperationError, Operations, Operator, wrong};
use crate::order::{AccountId, KeyId, MerchantId, Timestamp, Wallet};
use crate::sealing::{Place, Sealed};
use crate::store::{DuplicatePolicy, Masks, Merchant, MerchantKey, WebhookSecret, Write};

impl Operations {
    pub(super) async fn merchant_create(
        &self,
        by: &Operator,
        name: String,
        webhook_url: Option<String>,
        accounts: &[String],
    ) -> Result<Value, OperationError> {
        let name = name.trim().to_owned();
        if name.is_empty() || name.chars().count() > 100 {
            return Err(wrong("--name", &name, "1 to 100 characters"));
        }
        if let Some(url) = &webhook_url {
            self.check_url(url).await?;
        }
        let mut chosen: Vec<(AccountId, Wallet)> = Vec::new();
        for text in accounts {
            let known = self.account(text)?;
            if chosen.iter().any(|(_, wallet)| *wallet == known.1) {
                return Err(wrong("--account", text, "at most one account per wallet"));
            }
            chosen.push(known);
        }
        if chosen.is_empty() {
            return Err(wrong(
                "--account",
                "none",
                "at least one of wechat=ID and alipay=ID",
            ));
        }
        let now = self.clock.now();
        let id = MerchantId::from_ulid(self.random.ulid(now));
        let (key, secret) = self.new_key(id, now);
        let webhook_secret = format!("whsec_{}", STANDARD.encode(self.random.bytes::<32>()));
        let sealed = self.sealer.seal(
            webhook_secret_place(&id.to_string()),
            webhook_secret.as_bytes(),
        );
        let merchant = Merchant {
            id,
            display_name: name.clone(),
            name,
            help_lines: [None, None],
            webhook_url,
            webhook_secrets: vec![WebhookSecret {
                sealed,
                until: None,
            }],
            return_hosts: Vec::new(),
            duplicate: DuplicatePolicy::Warn,
            masks: Masks::default(),
            payer_must_be_registrant: false,
            accounts: chosen.into_iter().map(|(account, _)| account).collect(),
            created_at: now,
        };
        let key_id = key.id;
        self.write(vec![
            Write::Merchant(merchant),
            Write::MerchantKey(key),
            self.audit(by, "merchant create", &id.to_string(), "done"),
        ])
        .await?;
        Ok(json!({
            "merchant_id": id,
            "key_id": key_id,
            "secret": secret,
            "webhook_secret": webhook_secret,
        }))
    }

    pub(super) async fn merchant_set(
        &self,
        by: &Operator,
        merchant: &str,
        changes: MerchantChanges,
    ) -> Result<Value, OperationError> {
        let mut merchant = self.merchant(merchant).await?;
        let text = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
        if let Some(display_name) = changes.display_name {
            merchant.display_name = display_name;
        }
        if changes.help_payment.is_some() {
            merchant.help_lines[0] = text(changes.help_payment);
        }
        if changes.help_fee.is_some() {
            merchant.help_lines[1] = text(changes.help_fee);
        }
        if changes.webhook_url.is_some() {
            merchant.webhook_url = text(changes.webhook_url);
            if let Some(url) = &merchant.webhook_url {
                self.check_url(url).await?;
            }
        }
        if let Some(hosts) = changes.return_hosts {
            merchant.return_hosts = hosts;
        }
        if let Some(policy) = changes.duplicate {
            merchant.duplicate = match policy.as_str() {
                "warn" => DuplicatePolicy::Warn,
                "refuse" => DuplicatePolicy::Refuse,
                other => return Err(wrong("duplicate", other, "warn or refuse")),
            };
        }
        if let Some(masks) = changes.masks {
            merchant.masks = match masks.as_str() {
                "standard" => Masks::Standard,
                "strict" => Masks::Strict,
                other => return Err(wrong("masks", other, "standard or strict")),
            };
        }
        if let Some(rule) = changes.payer_must_be_registrant {
            merchant.payer_must_be_registrant = rule;
        }
        let view = merchant_json(&merchant);
        let audit = self.audit(by, "merchant set", &merchant.id.to_string(), "done");
        self.write(vec![Write::Merchant(merchant), audit]).await?;
        Ok(view)
    }

    pub(super) async fn merchant_list(&self) -> Result<Value, OperationError> {
        let merchants = self.store.merchants().await?;
        Ok(Value::Array(merchants.iter().map(merchant_json).collect()))
    }

    pub(super) async fn rotate_key(
        &self,
        by: &Operator,
        merchant: &str,
        overlap_seconds: i64,
    ) -> Result<Value, OperationError> {
        if !(0..=90 * 86_400).contains(&overlap_seconds) {
            return Err(wrong(
                "--overlap-seconds",
                &overlap_seconds.to_string(),
                "0 to 7776000 (90 days)",
            ));
        }
        let merchant = self.merchant(merchant).await?;
        let now = self.clock.now();
        let until = now.plus_ms(overlap_seconds * 1000);
        let mut writes = Vec::new();
        for mut old in self.store.keys_of(merchant.id).await? {
            if old.valid_until.is_none_or(|end| end > until) {
                old.valid_until = Some(until);
                writes.push(Write::MerchantKey(old));
            }
        }
        let (key, secret) = self.new_key(merchant.id, now);
        let key_id = key.id;
        writes.push(Write::MerchantKey(key));
        let target = format!("{} {key_id}", merchant.id);
        writes.push(self.audit(by, "merchant rotate-key", &target, "done"));
        self.write(writes).await?;
        Ok(json!({ "merchant_id": merchant.id, "key_id": key_id, "secret": secret }))
    }

    fn new_key(&self, merchant: MerchantId, now: Timestamp) -> (MerchantKey, String) {
        let id = KeyId::from_ulid(self.random.ulid(now));
        let secret = format!("sk_{}", URL_SAFE_NO_PAD.encode(self.random.bytes::<32>()));
        let key = MerchantKey {
            id,
            merchant,
            sealed_secret: self.seal_key(id, &secret),
            created_at: now,
            valid_until: None,
            last_used_at: None,
        };
        (key, secret)
    }

    fn seal_key(&self, id: KeyId, secret: &str) -> Sealed {
        let place = Place {
            table: "merchant_keys",
            column: "secret",
            row: &id.to_string(),
        };
        self.sealer.seal(place, secret.as_bytes())
    }

    async fn check_url(&self, url: &str) -> Result<(), OperationError> {
        (self.check_webhook_url)(url.to_owned())
            .await
            .map_err(|why| wrong("webhook_url", url, &why))
    }

    fn account(&self, text: &str) -> Result<(AccountId, Wallet), OperationError> {
        let known = text.split_once('=').and_then(|(wallet, id)| {
            self.accounts
                .iter()
                .find(|(account, own)| own.as_str() == wallet && account.as_str() == id)
        });
        known.cloned().ok_or_else(|| {
            let configured: Vec<String> = self
                .accounts
                .iter()
                .map(|(account, wallet)| format!("{}={account}", wallet.as_str()))
                .collect();
            wrong(
                "--account",
                text,
                &format!("one of {}", configured.join(", ")),
            )
        })
    }

    pub(super) async fn merchant(&self, id: &str) -> Result<Merchant, OperationError> {
        let not_found = || OperationError::NotFound {
            what: "merchant",
            id: id.to_owned(),
        };
        let parsed: MerchantId = id.parse().map_err(|_| not_found())?;
        self.store.merchant(parsed).await?.ok_or_else(not_found)
    }
}

fn webhook_secret_place(merchant: &str) -> Place<'_> {
    Place {
        table: "merchants",
        column: "webhook_secret",
        row: merchant,
    }
}

fn merchant_json(merchant: &Merchant) -> Value {
    json!({
        "merchant_id": merchant.id,
        "name": merchant.name,
        "display_name": merchant.display_name,
        "help_payment": merchant.help_lines[0],
        "help_fee": merchant.help_lines[1],
        "webhook_url": merchant.webhook_url,
        "return_hosts": merchant.return_hosts,
        "duplicate": merchant.duplicate,
        "masks": merchant.masks,
        "payer_must_be_registrant": merchant.payer_must_be_registrant,
        "accounts": merchant.accounts,
    })
}
