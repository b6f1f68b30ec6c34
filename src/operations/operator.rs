//! Who acts. At a machine, the user id is what the kernel says of the other end of the socket, and the
//! name is the person's own, for one account of a machine may be shared. At the console it is the name
//! that a password opened: nobody gives another one there.

use super::{OperationError, wrong};
use crate::order::{OperatorHash, PayerHash};
use crate::sealing::Sealer;

/// One person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    at: Place,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Of a machine, by its user id.
    Machine(u32),
    Console,
}

impl Operator {
    /// By the name that was given, else by the login name of `user`.
    pub fn of(user: u32, name: Option<&str>) -> Result<Self, OperationError> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => login_name(user).unwrap_or_else(|| format!("user-{user}")),
        };
        Self::named(Place::Machine(user), name, "--operator")
    }

    /// Of a name that may be given to somebody who logs in, or that belongs to a session.
    pub fn at_console(name: &str) -> Result<Self, OperationError> {
        Self::named(Place::Console, name.to_owned(), "name")
    }

    fn named(at: Place, name: String, what: &'static str) -> Result<Self, OperationError> {
        // What looks like one name must be one name: no blanks, nothing invisible.
        let good = name
            .chars()
            .all(|letter| letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-' | '@'));
        if name.is_empty() || name.chars().count() > 64 || !good {
            return Err(wrong(
                what,
                &format!("{name:?}"),
                "1 to 64 letters, digits and . _ - @",
            ));
        }
        Ok(Self { at, name })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// As the log has it.
    pub fn identity(&self) -> String {
        match self.at {
            Place::Machine(user) => format!("{user}:{}", self.name),
            Place::Console => format!("console:{}", self.name),
        }
    }

    /// What tells two people apart, by their names alone: one person may use two machines.
    pub fn hash(&self, sealer: &Sealer) -> OperatorHash {
        PayerHash(sealer.index("operator", &self.name.to_lowercase()))
    }
}

/// From the machine's own list. Users of a directory service give their names themselves.
fn login_name(user: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (id == user).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn one_name_is_one_person() {
        let random = Arc::new(SeededRandom::new(7));
        let sealer = Sealer::new(&[(1, [1; 32])], &[2; 32], &[3; 32], random);
        let of = |user, name| Operator::of(user, Some(name)).unwrap();
        assert_eq!(of(1, "li.wei").identity(), "1:li.wei");
        assert_eq!(of(1, "li.wei").hash(&sealer), of(2, "Li.Wei").hash(&sealer));
        assert_ne!(of(1, "li.wei").hash(&sealer), of(1, "张三").hash(&sealer));
        let logged_in = Operator::at_console("Li.Wei").unwrap();
        assert_eq!(logged_in.identity(), "console:Li.Wei");
        assert_eq!(logged_in.hash(&sealer), of(1, "li.wei").hash(&sealer));
        for bad in [
            "",
            "li wei",
            "li\u{200b}wei",
            "li:wei",
            "a\n",
            &"a".repeat(65),
        ] {
            assert!(Operator::of(1, Some(bad)).is_err(), "{bad:?}");
            assert!(Operator::at_console(bad).is_err(), "{bad:?}");
        }
        // Root has a name on every machine; nobody has the last id.
        assert_eq!(Operator::of(0, None).unwrap().identity(), "0:root");
        let nobody = Operator::of(u32::MAX, None).unwrap();
        assert_eq!(nobody.identity(), format!("{0}:user-{0}", u32::MAX));
    }
}
