//! Which programs may talk to each other.

/// Version of this program.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Why a program of version `theirs` is not talked to by one of version `ours`; `None`: it is.
#[must_use]
pub fn refusal(theirs: &str, ours: &str) -> Option<String> {
    let is_close = match (numbers(theirs), numbers(ours)) {
        (Some(theirs), Some(ours)) => theirs.0 == ours.0 && theirs.1.abs_diff(ours.1) <= 1,
        _ => false,
    };
    (!is_close).then(|| {
        format!("version {theirs:?} does not talk to version {ours}: at most one minor version may lie between the roles of a cluster")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_version_may_lie_between_two_programs_and_no_more() {
        for (theirs, fits) in [
            ("0.2", true),
            ("0.2.7", true),
            ("0.1.0", true),
            ("0.3.9", true),
            ("0.4", false),
            ("0.0", false),
            ("1.2", false),
            ("2", false),
            ("", false),
            ("0.x", false),
        ] {
            assert_eq!(refusal(theirs, "0.2.0").is_none(), fits, "{theirs}");
        }
        assert!(refusal(OWN, OWN).is_none());
    }
}
