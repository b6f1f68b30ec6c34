//! Who may log in to the console: `operator …`, and the check of a password.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Hidden, OperationError, Operations, Operator, not_found, wrong};
use crate::order::Timestamp;
use crate::sealing::TokenHash;
use crate::store::desk::{DeskWrite, OperatorRow, SessionRow};
use crate::store::{AuditEntry, Rejection, Transaction, Write};

/// A login holds for a working day at most,
const LONGEST: Duration = Duration::from_hours(8);
/// and for half an hour in which nobody uses it.
const IDLE: Duration = Duration::from_mins(30);
/// A page that is looked at often is written down once a minute.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// Each check takes 19 MiB for its time: so many at once, whoever asks.
static CHECKS: Semaphore = Semaphore::const_new(2);

/// A login that holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub operator: Operator,
    /// What the cookie holds; whoever has it is the operator.
    pub token: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Login({})", self.operator.name())
    }
}

impl Operations {
    pub(super) async fn operator_create(
        &self,
        by: &Operator,
        name: &str,
        password: Option<Hidden>,
    ) -> Result<Value, OperationError> {
        let operator = Operator::at_console(name)?;
        let (password, made) = self.password(password)?;
        let row = OperatorRow {
            name: operator.name().to_owned(),
            password: self.hashed(password).await?,
            created_at: self.clock.now(),
            disabled_at: None,
        };
        let writes = vec![
            Write::Desk(DeskWrite::OperatorAdded(row)),
            self.audit(by, "operator create", name, "done"),
        ];
        let transaction = Transaction {
            order: None,
            writes,
        };
        for outcome in self.store.commit(vec![transaction]).await? {
            match outcome {
                Err(Rejection::OperatorTaken) => {
                    return Err(OperationError::State("there is an operator of this name"));
                }
                other => other.map_err(|error| OperationError::Refused(error.to_string()))?,
            }
        }
        Ok(json!({ "name": name, "password": made }))
    }

    pub(super) async fn operator_list(&self) -> Result<Value, OperationError> {
        let rows = self.store.operators().await?;
        let rows = rows.iter().map(|row| {
            json!({
                "name": row.name,
                "created_at": self.time(row.created_at),
                "disabled_at": row.disabled_at.map(|at| self.time(at)),
            })
        });
        Ok(Value::Array(rows.collect()))
    }

    pub(super) async fn operator_disable(
        &self,
        by: &Operator,
        name: &str,
    ) -> Result<Value, OperationError> {
        let row = self.known_operator(name).await?;
        let row = OperatorRow {
            disabled_at: row.disabled_at.or(Some(self.clock.now())),
            ..row
        };
        let answer = json!({ "name": row.name, "disabled": true });
        self.write(vec![
            self.audit(by, "operator disable", &row.name, "done"),
            Write::Desk(DeskWrite::OperatorChanged(row)),
        ])
        .await?;
        Ok(answer)
    }

    pub(super) async fn operator_set_password(
        &self,
        by: &Operator,
        name: &str,
        password: Option<Hidden>,
    ) -> Result<Value, OperationError> {
        let row = self.known_operator(name).await?;
        let (password, made) = self.password(password)?;
        let row = OperatorRow {
            password: self.hashed(password).await?,
            disabled_at: None,
            ..row
        };
        let answer = json!({ "name": row.name, "password": made });
        self.write(vec![
            self.audit(by, "operator set-password", &row.name, "done"),
            Write::Desk(DeskWrite::OperatorChanged(row)),
        ])
        .await?;
        Ok(answer)
    }

    async fn known_operator(&self, name: &str) -> Result<OperatorRow, OperationError> {
        let row = self.store.operator(name).await?;
        row.ok_or_else(|| not_found("operator", name))
    }

    /// The one that was given, or one of 120 random bits, and what is to be shown of it.
    fn password(&self, given: Option<Hidden>) -> Result<(String, Option<String>), OperationError> {
        let Some(Hidden(given)) = given else {
            // Without letters and digits that are taken for each other.
            const LETTERS: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
            let made: String = (self.random.bytes::<24>().iter())
                .enumerate()
                .flat_map(|(place, byte)| {
                    let letter = char::from(LETTERS[usize::from(byte % 32)]);
                    let gap = (place > 0 && place % 6 == 0).then_some('-');
                    gap.into_iter().chain([letter])
                })
                .collect();
            return Ok((made.clone(), Some(made)));
        };
        // A longer one costs nobody anything; NIST SP 800-63B asks for no more rules than this.
        if !(12..=256).contains(&given.chars().count()) || given.chars().any(char::is_control) {
            return Err(wrong(
                "the password",
                "something else",
                "12 to 256 characters in one line",
            ));
        }
        Ok((given, None))
    }

    async fn hashed(&self, password: String) -> Result<String, OperationError> {
        let salt = self.random.bytes::<16>();
        let _turn = CHECKS.acquire().await;
        tokio::task::spawn_blocking(move || hash(&password, &salt))
            .await
            .ok()
            .flatten()
            .ok_or_else(|| OperationError::Refused("the password was not hashed".to_owned()))
    }

    /// Who logs in with this name and password, if anybody does. What becomes of it is written down. A
    /// name that nobody has takes as long as a wrong password, the writing included.
    pub async fn log_in(
        &self,
        name: &str,
        Hidden(password): Hidden,
    ) -> Result<Option<Login>, OperationError> {
        let row = self.store.operator(name).await?;
        let against = row
            .as_ref()
            .map_or_else(|| nobodys().to_owned(), |row| row.password.clone());
        let fits = {
            let _turn = CHECKS.acquire().await;
            tokio::task::spawn_blocking(move || fits(&password, &against))
                .await
                .unwrap_or_default()
        };
        let Some(row) = row else {
            // Written down without what was typed, which may be a password in the wrong field.
            let now = self.clock.now();
            let nobodys = "refused: nobody's name";
            let audit = AuditEntry::new(now, "console", "console login", "?", nobodys);
            self.write(vec![Write::Audit(audit)]).await?;
            return Ok(None);
        };
        let operator = Operator::at_console(&row.name)?;
        let refused = match (fits, row.disabled_at) {
            (false, _) => Some("refused: wrong password"),
            (true, Some(_)) => Some("refused: disabled"),
            (true, None) => None,
        };
        if let Some(refused) = refused {
            let audit = self.audit(&operator, "console login", &row.name, refused);
            self.write(vec![audit]).await?;
            return Ok(None);
        }
        let token = self.random.hex::<16>();
        let now = self.clock.now();
        let session = SessionRow {
            token: self.session_hash(&token),
            operator: OperatorRow::key(&row.name),
            created_at: now,
            seen_at: now,
        };
        self.write(vec![
            Write::Desk(DeskWrite::SessionBegun {
                session,
                forget_before: now.minus_ms(millis(LONGEST)),
            }),
            self.audit(&operator, "console login", &row.name, "done"),
        ])
        .await?;
        Ok(Some(Login { operator, token }))
    }

    /// Whose session this is, while it holds.
    pub async fn logged_in(&self, token: &str) -> Result<Option<Login>, OperationError> {
        let hash = self.session_hash(token);
        let Some(session) = self.store.session(hash).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        let is_over = |since: Timestamp, most| now.since(since) >= millis(most);
        if is_over(session.created_at, LONGEST) || is_over(session.seen_at, IDLE) {
            self.write(vec![Write::Desk(DeskWrite::SessionEnded { token: hash })])
                .await?;
            return Ok(None);
        }
        let Some(row) = self.store.operator(&session.operator).await? else {
            return Ok(None);
        };
        if row.disabled_at.is_some() {
            return Ok(None);
        }
        if is_over(session.seen_at, NOTED_EVERY) {
            let seen = DeskWrite::SessionSeen {
                token: hash,
                at: now,
            };
            self.write(vec![Write::Desk(seen)]).await?;
        }
        Ok(Some(Login {
            operator: Operator::at_console(&row.name)?,
            token: token.to_owned(),
        }))
    }

    pub async fn log_out(&self, login: &Login) -> Result<(), OperationError> {
        let by = &login.operator;
        self.write(vec![
            Write::Desk(DeskWrite::SessionEnded {
                token: self.session_hash(&login.token),
            }),
            self.audit(by, "console logout", by.name(), "done"),
        ])
        .await
    }

    /// What the store keeps of a token: enough to find it, not enough to use it.
    fn session_hash(&self, token: &str) -> TokenHash {
        TokenHash(self.sealer.index("console session", token).to_be_bytes())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Argon2id with the crate's parameters, which are OWASP's: 19 MiB, two passes.
fn hash(password: &str, salt: &[u8]) -> Option<String> {
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), salt)
        .ok()?;
    Some(hash.to_string())
}

fn fits(password: &str, against: &str) -> bool {
    PasswordHash::new(against).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

/// A hash that no password is known for: what is checked where the name is nobody's.
fn nobodys() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hash("", &[0; 16]).unwrap_or_default())
}

/// The check of a name that nobody has must cost what a wrong password costs from the first one on.
pub fn prepare() {
    let _ = nobodys();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_alone() {
        let kept = hash("correct horse", &[1; 16]).unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        assert!(fits("correct horse", &kept));
        assert!(!fits("correct horsf", &kept));
        assert_ne!(kept, hash("correct horse", &[2; 16]).unwrap());
        assert!(!fits("", "") && !fits("x", nobodys()));
    }
}
