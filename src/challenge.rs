//! What a `WWW-Authenticate` header says (RFC 9110 §11.6.1, RFC 6750 §3).

use http::{HeaderMap, header::WWW_AUTHENTICATE};

/// How many bytes of all field lines together are read; what follows is passed over.
const MAX_BYTES: usize = 16 * 1024;
/// How many challenges, and how many parameters of one, are kept.
const MAX_ENTRIES: usize = 32;

/// One entry of `WWW-Authenticate`: a scheme, and its parameters or its token68.
///
/// ```
/// use http::{HeaderMap, header::WWW_AUTHENTICATE};
/// use tower_bearer::Challenge;
///
/// let mut headers = HeaderMap::new();
/// let line = r#"Basic realm="simple", Bearer error="invalid_token""#;
/// headers.insert(WWW_AUTHENTICATE, line.parse()?);
///
/// let challenges = Challenge::from_headers(&headers);
/// assert_eq!(challenges.len(), 2);
/// assert!(challenges[1].is("bearer"));
/// assert_eq!(challenges[1].param("error"), Some("invalid_token"));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    scheme: String,
    params: Vec<(String, String)>,
    token68: Option<String>,
}

// ===== impl Challenge =====

impl Challenge {
    /// A challenge of that scheme, without parameters.
    #[must_use]
    pub fn new(scheme: impl Into<String>) -> Self {
        Self { scheme: scheme.into(), params: Vec::new(), token68: None }
    }

    /// Adds a parameter. The name is lowered; of a name that comes twice the first counts.
    #[must_use]
    pub fn with_param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.push(name.into(), value.into());
        self
    }

    /// Reads every `WWW-Authenticate` line, in order.
    ///
    /// It never fails: what is malformed is passed over as far as the next comma, and what the
    /// wild does (missing commas, spaces around `=`, bytes beyond ASCII) is understood. At most
    /// 16 KiB, 32 challenges and 32 parameters of each are read.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Vec<Self> {
        let mut challenges = Vec::new();
        let mut budget = MAX_BYTES;
        for line in headers.get_all(WWW_AUTHENTICATE) {
            let line = &line.as_bytes()[..line.len().min(budget)];
            budget -= line.len();
            Parser { rest: line, challenges: &mut challenges, open: false }.run();
        }
        challenges
    }

    /// The scheme, as the server wrote it.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether the scheme is this one, in any case (RFC 9110 §11.1).
    #[must_use]
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The value of a parameter, unquoted; its name in any case.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All parameters, names lowered, in the server's order.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The token68 (RFC 9110 §11.2), as `Negotiate` uses it.
    #[must_use]
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_deref()
    }

    /// The challenge that speaks for a bearer client: the first `Bearer` one that a new token
    /// may satisfy, else the first `Bearer` one, else the first `DPoP` one, else the first.
    pub(crate) fn decisive(challenges: Vec<Self>) -> Option<Self> {
        let rank = |challenge: &Self| match (challenge.is("bearer"), challenge.is("dpop")) {
            (true, _) => u8::from(challenge.no_cure().is_some()),
            (_, true) => 2,
            _ => 3,
        };
        challenges.into_iter().min_by_key(rank)
    }

    /// Why a new token would be rejected like the old one, if the challenge says so: its error
    /// (RFC 6750 §3.1, RFC 9470 §3), or that it wants proof of possession (RFC 9449 §7.1).
    pub(crate) fn no_cure(&self) -> Option<&'static str> {
        if self.is("dpop") {
            return Some("it wants a DPoP-bound token");
        }
        let error = self.is("bearer").then(|| self.param("error"))??;
        ["insufficient_scope", "insufficient_user_authentication", "invalid_request"]
            .into_iter()
            .find(|known| *known == error)
    }

    fn push(&mut self, mut name: String, value: String) {
        name.make_ascii_lowercase();
        if self.params.len() < MAX_ENTRIES && self.param(&name).is_none() {
            self.params.push((name, value));
        }
    }
}

// ===== impl Parser =====

/// Walks one field line. Each step consumes at least a byte, so that it is linear.
struct Parser<'a, 'b> {
    rest: &'a [u8],
    challenges: &'b mut Vec<Challenge>,
    /// Whether this line has a challenge that parameters belong to.
    open: bool,
}

impl<'a> Parser<'a, '_> {
    fn run(mut self) {
        // A scheme may stand only where a list element begins.
        let mut element_begins = true;
        loop {
            self.skip_space();
            let Some(&next) = self.rest.first() else { return };
            if next == b',' {
                self.rest = &self.rest[1..];
                element_begins = true;
                continue;
            }
            let word = self.take(is_tchar);
            if word.is_empty() {
                self.skip_junk();
            } else if self.at_equals() {
                self.param(word);
            } else if element_begins && !self.scheme(word) {
                return;
            }
            element_begins = false;
        }
    }

    /// Opens a challenge; false once there are enough of them.
    fn scheme(&mut self, scheme: &[u8]) -> bool {
        if self.challenges.len() == MAX_ENTRIES {
            return false;
        }
        let mut challenge = Challenge::new(text(scheme));
        challenge.token68 = self.token68();
        self.challenges.push(challenge);
        self.open = true;
        true
    }

    /// A token68, if one stands here and nothing else before the next comma.
    fn token68(&mut self) -> Option<String> {
        let before = self.rest;
        self.skip_space();
        let start = self.rest;
        self.take(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        let is_some = self.rest.len() < start.len();
        self.take(|byte| byte == b'=');
        let found = &start[..start.len() - self.rest.len()];
        self.skip_space();
        if is_some && matches!(self.rest.first(), None | Some(b',')) {
            return Some(text(found));
        }
        self.rest = before;
        None
    }

    /// The `= value` of a parameter, for the open challenge if there is one.
    fn param(&mut self, name: &[u8]) {
        self.skip_space();
        self.rest = &self.rest[1..];
        self.skip_space();
        let value = if self.rest.first() == Some(&b'"') {
            self.quoted()
        } else {
            self.take(|byte| !is_space(byte) && byte != b',').to_vec()
        };
        if let (true, Some(challenge)) = (self.open, self.challenges.last_mut()) {
            challenge.push(text(name), text(&value));
        }
    }

    /// A quoted-string (RFC 9110 §5.6.4); one that is never closed ends with the line.
    fn quoted(&mut self) -> Vec<u8> {
        let mut value = Vec::new();
        let mut bytes = self.rest[1..].iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => value.extend(bytes.next()),
                _ => value.push(byte),
            }
        }
        self.rest = bytes.as_slice();
        value
    }

    fn skip_junk(&mut self) {
        if self.rest.first() == Some(&b'"') {
            self.quoted();
        } else {
            self.take(|byte| !is_space(byte) && byte != b',');
        }
    }

    fn at_equals(&self) -> bool {
        self.rest.iter().copied().find(|byte| !is_space(*byte)) == Some(b'=')
    }

    fn skip_space(&mut self) {
        self.take(is_space);
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !belongs(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// UTF-8 where it is that, else Latin-1: nothing is lost.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(lines: &[&[u8]]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line).unwrap());
        }
        Challenge::from_headers(&headers)
    }

    fn no_cure(line: &str) -> bool {
        let challenge = Challenge::decisive(parse(&[line.as_bytes()]));
        challenge.is_some_and(|challenge| challenge.no_cure().is_some())
    }

    #[test]
    fn a_header_of_ten_thousand_challenges_costs_a_bounded_amount() {
        let line = "Bearer a=b,".repeat(10_000);
        let challenges = parse(&[line.as_bytes(), line.as_bytes()]);
        assert_eq!(challenges.len(), MAX_ENTRIES);
        let params: Vec<_> = (0..10_000).map(|n| format!("a{n}=b")).collect();
        let line = format!("Bearer {}", params.join(","));
        assert_eq!(parse(&[line.as_bytes()])[0].params.len(), MAX_ENTRIES);
    }

    #[test]
    fn the_lines_share_one_limit_in_bytes() {
        let long = "x".repeat(16 * 1024 - 1);
        let found = parse(&[long.as_bytes(), b"Basic", b"Bearer"]);
        let schemes: Vec<_> = found.iter().map(Challenge::scheme).collect();
        assert_eq!(schemes, [long.as_str(), "B"]);
    }

    #[test]
    fn a_dpop_challenge_speaks_before_one_of_another_scheme() {
        for line in [r#"Basic realm="x", DPoP algs="ES256""#, r#"DPoP algs="ES256", Basic"#] {
            let decisive = Challenge::decisive(parse(&[line.as_bytes()])).unwrap();
            assert_eq!(decisive.scheme(), "DPoP", "{line}");
        }
    }

    #[test]
    fn what_is_malformed_is_passed_over() {
        for line in [
            &b"\"Bearer\""[..],
            b"=",
            b",,,",
            b"=x, =y",
            b"Bearer error=\"invalid",
            b"Bearer error=\"x\\",
            b"Bearer error=",
            b"@@@ Bearer, \xff\xfe=\"\xff\"",
            b"",
        ] {
            parse(&[line]);
        }
        let found = parse(&[b"@@ junk, Bearer error=\"invalid_token\""]);
        assert_eq!(found, [Challenge::new("Bearer").with_param("error", "invalid_token")]);
    }

    #[test]
    fn parameters_do_not_cross_a_line() {
        let found = parse(&[b"Bearer", b"error=\"invalid_request\""]);
        assert_eq!(found, [Challenge::new("Bearer")]);
    }

    #[test]
    fn a_new_token_does_not_satisfy_a_challenge_that_blames_something_else() {
        assert!(no_cure(r#"Bearer error="insufficient_scope", scope="a""#));
        assert!(no_cure(r#"Bearer error="insufficient_user_authentication", max_age="5""#));
        assert!(no_cure(r#"bearer error="invalid_request""#));
        assert!(no_cure(r#"DPoP algs="ES256""#));
        assert!(no_cure(r#"DPoP error="invalid_token", Basic realm="x""#));

        assert!(!no_cure(""));
        assert!(!no_cure("Bearer"));
        assert!(!no_cure(r#"Basic realm="api""#));
        assert!(!no_cure(r#"Bearer error="invalid_token""#));
        assert!(!no_cure(r#"Bearer, DPoP algs="ES256""#));
        assert!(!no_cure(r#"Bearer error="insufficient_scope", Bearer error="invalid_token""#));
        assert!(!no_cure(r#"Basic error="insufficient_scope""#));
    }
}
