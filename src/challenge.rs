//! What a `WWW-Authenticate` header says (RFC 9110 §11.6.1, RFC 6750 §3).

use http::{
    HeaderMap, HeaderValue,
    header::{PROXY_AUTHENTICATE, WWW_AUTHENTICATE},
};

/// How many bytes of all field lines together are read; the rest is ignored.
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
    /// A challenge with this scheme and no parameters.
    #[must_use]
    pub fn new(scheme: impl Into<String>) -> Self {
        Self { scheme: scheme.into(), params: Vec::new(), token68: None }
    }

    /// Adds a parameter, with its name in lower case. If a name occurs twice, the first value
    /// counts.
    #[must_use]
    pub fn with_param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.push(name.into(), value.into());
        self
    }

    /// Reads every `WWW-Authenticate` line, in order.
    ///
    /// It never fails: it skips malformed input up to the next comma, and accepts what real servers
    /// send (missing commas, spaces around `=`, bytes beyond ASCII). It reads at most 16 KiB, 32
    /// challenges and 32 parameters of each.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Vec<Self> {
        Self::from_lines(headers.get_all(WWW_AUTHENTICATE))
    }

    /// Reads every `Proxy-Authenticate` line (RFC 9110 §11.7.1), in the same way.
    #[must_use]
    pub fn from_proxy_headers(headers: &HeaderMap) -> Vec<Self> {
        Self::from_lines(headers.get_all(PROXY_AUTHENTICATE))
    }

    pub(crate) fn from_lines<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> Vec<Self> {
        let mut challenges = Vec::new();
        let mut budget = MAX_BYTES;
        for line in lines {
            let line = line.as_bytes();
            let line = line.get(..budget).unwrap_or(line);
            budget = budget.saturating_sub(line.len());
            Parser { input: line, challenges: &mut challenges, open: false }.run();
        }
        challenges
    }

    /// The scheme, as the server wrote it.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether the challenge has this scheme, in any case (RFC 9110 §11.1).
    #[must_use]
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The value of a parameter, unquoted. The case of the name does not matter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All parameters, their names in lower case, in the server's order.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The token68 (RFC 9110 §11.2), which `Negotiate` uses.
    #[must_use]
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_deref()
    }

    /// The challenge that decides for a client with a bearer token: the first `Bearer` one that a
    /// new token may satisfy, else the first `Bearer` one, else the first `DPoP` one (RFC 9449
    /// §7.1), else the first. `None` if there is none, as in the 401 of many servers.
    ///
    /// The layer puts it into the [`Rejection`](crate::Rejection) of a token. A program that sees a
    /// rejection itself does the same:
    ///
    /// ```
    /// use http::{HeaderMap, header::WWW_AUTHENTICATE};
    /// use tower_bearer::{AccessToken, Challenge, Rejection, TokenCache, TokenError, from_fn};
    /// # use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    ///
    /// /// Another token for a rejected request, if one can help.
    /// async fn renewed(
    ///     cache: &TokenCache,
    ///     rejected: AccessToken,
    ///     headers: &HeaderMap,
    /// ) -> Option<AccessToken> {
    ///     let mut rejection = Rejection::new(rejected);
    ///     if let Some(challenge) = Challenge::decisive(Challenge::from_headers(headers)) {
    ///         if challenge.unsatisfiable().is_some() {
    ///             return None; // `renew` would return an error that says so
    ///         }
    ///         rejection = rejection.with_challenge(challenge);
    ///     }
    ///     cache.renew(rejection).await.ok()
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_bearer::BoxError> {
    /// # let count = AtomicU32::new(0);
    /// # let cache = TokenCache::new(from_fn(move |_| {
    /// #     let nth = count.fetch_add(1, Relaxed);
    /// #     async move { AccessToken::new(format!("t-{nth}")).map_err(TokenError::permanent) }
    /// # }));
    /// let token = cache.get().await?;
    /// let mut headers = HeaderMap::new();
    /// headers.insert(WWW_AUTHENTICATE, r#"Basic realm="x", Bearer error="invalid_token""#.parse()?);
    /// let new = renewed(&cache, token, &headers).await.expect("another token may help");
    ///
    /// headers.insert(WWW_AUTHENTICATE, r#"Bearer error="insufficient_scope""#.parse()?);
    /// assert!(renewed(&cache, new, &headers).await.is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn decisive(challenges: Vec<Self>) -> Option<Self> {
        let rank = |challenge: &Self| match (challenge.is("bearer"), challenge.is("dpop")) {
            (true, _) => u8::from(challenge.unsatisfiable().is_some()),
            (_, true) => 2,
            _ => 3,
        };
        challenges.into_iter().min_by_key(rank)
    }

    /// Why another token of the same kind would be rejected like the old one, if the challenge says
    /// so: a short text for a log, which says what the API asks for instead. `None` if a new token
    /// may help.
    ///
    /// | challenge | why a new token does not satisfy it |
    /// | --- | --- |
    /// | `Bearer error="insufficient_scope"` | the token is valid, but was granted too little (RFC 6750 §3.1) |
    /// | `Bearer error="invalid_request"` | the request is malformed (RFC 6750 §3.1) |
    /// | `Bearer error="insufficient_user_authentication"` | the user has to log in again, or more strongly (RFC 9470 §3) |
    /// | `DPoP` | the token has to be bound to a key (RFC 9449 §7.1) |
    ///
    /// Every other challenge is worth a new token: `invalid_token`, an error that no RFC defines,
    /// no error at all, another scheme. [`TokenCache::renew`](crate::TokenCache::renew) follows
    /// this, unless the source [can satisfy](crate::TokenSource::can_satisfy) the challenge, for
    /// instance because it asks the user for more.
    #[must_use]
    pub fn unsatisfiable(&self) -> Option<&'static str> {
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

/// Walks one field line. Each step consumes at least a byte, so the walk takes linear time.
struct Parser<'a, 'b> {
    /// What has not been read yet.
    input: &'a [u8],
    challenges: &'b mut Vec<Challenge>,
    /// Whether this line has a challenge to which parameters belong.
    open: bool,
}

impl<'a> Parser<'a, '_> {
    fn run(mut self) {
        // A scheme may stand only where a list element begins.
        let mut element_begins = true;
        loop {
            self.skip_space();
            let Some((next, after)) = self.input.split_first() else { return };
            if *next == b',' {
                self.input = after;
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

    /// Opens a challenge; `false` once there are enough.
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

    /// A token68, if one stands here and nothing else follows before the next comma.
    fn token68(&mut self) -> Option<String> {
        let before = self.input;
        self.skip_space();
        let start = self.input;
        self.take(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        let is_some = self.input.len() < start.len();
        self.take(|byte| byte == b'=');
        let found = start.strip_suffix(self.input).unwrap_or_default();
        self.skip_space();
        if is_some && matches!(self.input.first(), None | Some(b',')) {
            return Some(text(found));
        }
        self.input = before;
        None
    }

    /// The `= value` of a parameter, for the open challenge if there is one.
    fn param(&mut self, name: &[u8]) {
        self.skip_space();
        self.input = self.input.strip_prefix(b"=").unwrap_or(self.input);
        self.skip_space();
        let value = match self.input.strip_prefix(b"\"") {
            Some(opened) => self.quoted(opened),
            None => self.take(|byte| !is_space(byte) && byte != b',').to_vec(),
        };
        if let (true, Some(challenge)) = (self.open, self.challenges.last_mut()) {
            challenge.push(text(name), text(&value));
        }
    }

    /// A quoted-string (RFC 9110 §5.6.4), after its first quote. One that is never closed ends with
    /// the line.
    fn quoted(&mut self, opened: &'a [u8]) -> Vec<u8> {
        let mut value = Vec::new();
        let mut bytes = opened.iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => value.extend(bytes.next()),
                _ => value.push(byte),
            }
        }
        self.input = bytes.as_slice();
        value
    }

    fn skip_junk(&mut self) {
        if let Some(opened) = self.input.strip_prefix(b"\"") {
            self.quoted(opened);
        } else {
            self.take(|byte| !is_space(byte) && byte != b',');
        }
    }

    fn at_equals(&self) -> bool {
        self.input.iter().copied().find(|byte| !is_space(*byte)) == Some(b'=')
    }

    fn skip_space(&mut self) {
        self.take(is_space);
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.input.iter().position(|byte| !belongs(*byte)).unwrap_or(self.input.len());
        let (taken, remaining) = self.input.split_at(end);
        self.input = remaining;
        taken
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// UTF-8 if it is valid, else Latin-1: no byte is lost.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_heard_in_its_own_header() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=api"));
        headers.append(PROXY_AUTHENTICATE, HeaderValue::from_static("Bearer realm=proxy"));
        let realm = |challenges: &[Challenge]| challenges[0].param("realm").map(str::to_owned);
        assert_eq!(realm(&Challenge::from_headers(&headers)).as_deref(), Some("api"));
        assert_eq!(realm(&Challenge::from_proxy_headers(&headers)).as_deref(), Some("proxy"));
    }

    fn parse(lines: &[&[u8]]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line).unwrap());
        }
        Challenge::from_headers(&headers)
    }

    fn unsatisfiable(line: &str) -> bool {
        let challenge = Challenge::decisive(parse(&[line.as_bytes()]));
        challenge.is_some_and(|challenge| challenge.unsatisfiable().is_some())
    }

    #[test]
    fn of_ten_thousand_challenges_or_parameters_the_first_32_are_kept() {
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
    fn what_is_malformed_is_skipped() {
        for line in
            [&b"\"Bearer\""[..], b"=", b",,,", b"=x, =y", b"@@@ Bearer, \xff\xfe=\"\xff\"", b""]
        {
            assert_eq!(parse(&[line]), [], "{}", line.escape_ascii());
        }
        let found = parse(&[b"@@ junk, Bearer error=\"invalid_token\""]);
        assert_eq!(found, [Challenge::new("Bearer").with_param("error", "invalid_token")]);
    }

    #[test]
    fn a_challenge_that_is_cut_is_what_there_is_of_it() {
        for (line, error) in [
            (&b"Bearer error=\"invalid"[..], Some("invalid")),
            (b"Bearer error=\"x\\", Some("x")),
            (b"Bearer error=", None),
        ] {
            let found = parse(&[line]);
            assert_eq!(found.len(), 1, "{}", line.escape_ascii());
            assert_eq!((found[0].scheme(), found[0].param("error")), ("Bearer", error));
        }
    }

    #[test]
    fn parameters_do_not_cross_a_line() {
        let found = parse(&[b"Bearer", b"error=\"invalid_request\""]);
        assert_eq!(found, [Challenge::new("Bearer")]);
    }

    #[test]
    fn the_challenge_that_decides_is_the_one_that_a_bearer_client_can_do_most_about() {
        let decisive = |line: &str| {
            let found = Challenge::decisive(parse(&[line.as_bytes()]))?;
            Some(format!("{} {}", found.scheme(), found.param("n").unwrap_or_default()))
        };
        assert_eq!(decisive(""), None);
        for (line, expected) in [
            ("Basic n=1, Negotiate n=2", "Basic 1"),
            ("Basic n=1, DPoP n=2", "DPoP 2"),
            ("DPoP n=1, Bearer n=2", "Bearer 2"),
            ("Bearer n=1, Bearer n=2", "Bearer 1"),
            ("Bearer error=insufficient_scope, n=1, Bearer n=2", "Bearer 2"),
            ("DPoP n=1, bearer error=invalid_request, n=2", "bearer 2"),
        ] {
            assert_eq!(decisive(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_new_token_does_not_satisfy_a_challenge_that_blames_something_else() {
        assert!(unsatisfiable(r#"Bearer error="insufficient_scope", scope="a""#));
        assert!(unsatisfiable(r#"Bearer error="insufficient_user_authentication", max_age="5""#));
        assert!(unsatisfiable(r#"bearer error="invalid_request""#));
        assert!(unsatisfiable(r#"DPoP algs="ES256""#));
        assert!(unsatisfiable(r#"DPoP error="invalid_token", Basic realm="x""#));

        assert!(!unsatisfiable(""));
        assert!(!unsatisfiable("Bearer"));
        assert!(!unsatisfiable(r#"Basic realm="api""#));
        assert!(!unsatisfiable(r#"Bearer error="invalid_token""#));
        assert!(!unsatisfiable(r#"Bearer, DPoP algs="ES256""#));
        assert!(!unsatisfiable(
            r#"Bearer error="insufficient_scope", Bearer error="invalid_token""#
        ));
        assert!(!unsatisfiable(r#"Basic error="insufficient_scope""#));
    }
}
