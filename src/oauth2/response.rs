//! The answer of a token endpoint (RFC 6749 §5.1 and §5.2), in all the forms that services send.

mod fields;
mod form;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};
use zeroize::Zeroizing;

use self::fields::{Fields, Scalar};
use super::{error::EndpointErrorKind as Kind, redact::Redactor, token_exchange::TokenType};
use crate::token::AccessToken;

pub use fields::Field;
pub(super) use fields::FieldNames;

/// The longest accepted lifetime of a token: a hundred years.
const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The longest `Retry-After` that is reported.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// The earliest accepted expiry of a token, in seconds since 1970: October 2012, when RFC 6749 was
/// published.
const EARLIEST_DATE: f64 = 1_349_049_600.0;
/// Types of tokens that require a proof: `DPoP` (RFC 9449 §5), `PoP`, `mac`.
const NOT_BEARER: [&str; 3] = ["dpop", "pop", "mac"];
/// The `token_type` of a token that is not an access token (RFC 8693 §2.2.1).
const NO_ACCESS_TOKEN: &str = "n_a";

/// The parsed answer.
pub(super) struct Reply {
    fields: Fields,
}

// ===== impl Reply =====

impl Reply {
    /// Parses a body: JSON or a form, whatever its content type.
    pub(super) fn read(body: &[u8], names: &FieldNames) -> Result<Self, Kind> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        let fields = match body.first() {
            None => return Err(Kind::Unreadable("nothing")),
            Some(b'<') => return Err(Kind::Unreadable("a page of HTML or XML: a login page?")),
            Some(b'{') => Fields::from_json(body, names)?,
            Some(b'[') => return Err(Kind::Unreadable("JSON that is not an object")),
            Some(_) => Fields::from_form(body, names)?,
        };
        Ok(Self { fields })
    }

    /// Whether the answer is an OAuth error, whatever its status. Not every error has a text.
    ///
    /// A list of errors beside an access token does not count: some services put warnings there.
    pub(super) fn is_error(&self) -> bool {
        self.fields.all(Field::Error).any(Scalar::reports_error)
            || (self.fields.has_error_list() && self.text(Field::AccessToken).is_none())
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.text(Field::Error)
    }

    pub(super) fn error_description(&self) -> Option<&str> {
        self.text(Field::ErrorDescription)
    }

    /// A page with more about the error (RFC 6749 §5.2).
    pub(super) fn error_uri(&self) -> Option<&str> {
        self.text(Field::ErrorUri)
    }

    /// The claims that the user must prove, as JSON.
    pub(super) fn claims(&self) -> Option<&str> {
        self.text(Field::Claims)
    }

    /// The type of the token (RFC 8693 §2.2.1), if the answer names it.
    pub(super) fn issued_token_type(&self) -> Option<&str> {
        self.text(Field::IssuedTokenType).map(str::trim)
    }

    /// Whether the token can be used as a bearer token. A token that is not an access token can, if
    /// that type was requested.
    pub(super) fn is_presented(&self, requested: Option<&TokenType>) -> bool {
        let token_type = self.text(Field::TokenType).unwrap_or_default().trim();
        if token_type.eq_ignore_ascii_case(NO_ACCESS_TOKEN) {
            return requested.is_some_and(|requested| *requested != TokenType::AccessToken);
        }
        !NOT_BEARER.iter().any(|other| other.eq_ignore_ascii_case(token_type))
    }

    /// Adds the tokens to the secrets to redact from the answer's other texts.
    pub(super) fn hide_tokens(&self, redactor: &mut Redactor) {
        for field in [Field::AccessToken, Field::RefreshToken] {
            self.text(field).into_iter().for_each(|token| redactor.hide(token));
        }
    }

    /// The refresh token.
    pub(super) fn refresh_token(&self) -> Option<Zeroizing<String>> {
        self.text(Field::RefreshToken).map(|token| Zeroizing::new(token.to_owned()))
    }

    /// Whether the access token is a number, an object or another value that is not a text.
    pub(super) fn has_token_of_another_type(&self) -> bool {
        self.fields.all(Field::AccessToken).any(|value| !value.is_empty() && value.text().is_none())
    }

    /// The access token with its expiry and its scope.
    pub(super) fn access_token(&self) -> Result<AccessToken, Kind> {
        let secret = self.text(Field::AccessToken).ok_or(Kind::MissingToken)?;
        let mut token = AccessToken::new(secret).map_err(Kind::InvalidToken)?;
        if let Some(scope) = self.text(Field::Scope) {
            token = token.with_scope(scope);
        }
        // Relative times first: they need no common clock.
        token = match (self.refresh_in(), self.date(Field::RefreshOn)) {
            (Some(refresh_in), _) => token.with_refresh_in(refresh_in),
            (None, Some(refresh_on)) => token.with_refresh_on(refresh_on),
            (None, None) => token,
        };
        Ok(match (self.lifetime()?, self.date(Field::ExpiresAt)) {
            (Some(lifetime), _) => token.with_lifetime(lifetime),
            (None, Some(expiry)) => token.with_expiry(expiry),
            (None, None) => token,
        })
    }

    /// `expires_in`. An unreadable value is an error: a lifetime that is too long would lead to
    /// unexplained rejections.
    fn lifetime(&self) -> Result<Option<Duration>, Kind> {
        let said = self.fields.all(Field::ExpiresIn).find(|value| !value.is_empty());
        let seconds = said.map(|value| value.number().ok_or(Kind::Unreadable(NO_LIFETIME)));
        Ok(seconds.transpose()?.map(whole_seconds))
    }

    /// `refresh_in`. An unreadable or zero value is ignored, and the policy decides when the token
    /// is due.
    fn refresh_in(&self) -> Option<Duration> {
        let mut numbers = self.fields.all(Field::RefreshIn).filter_map(Scalar::number);
        numbers.find(|seconds| *seconds >= 1.0).map(whole_seconds)
    }

    /// `expiration` and similar members: seconds since 1970. A date as a text is ignored, because
    /// the services that send one send `expires_in` too. So is a date before OAuth 2.0, such as 0,
    /// which services send for no expiry.
    fn date(&self, field: Field) -> Option<SystemTime> {
        let numbers = self.fields.all(field).filter_map(Scalar::number);
        let seconds = numbers.into_iter().find(|seconds| *seconds >= EARLIEST_DATE)?;
        SystemTime::UNIX_EPOCH.checked_add(whole_seconds(seconds))
    }

    fn text(&self, field: Field) -> Option<&str> {
        let nested = self.fields.nested(field);
        self.fields.all(field).find_map(Scalar::text).or(nested)
    }
}

const NO_LIFETIME: &str = "a lifetime (`expires_in`) that is not a number";

/// Clamps a lifetime to the range from zero to a hundred years.
fn whole_seconds(seconds: f64) -> Duration {
    let seconds = seconds.trunc().clamp(0.0, MAX_LIFETIME.as_secs_f64());
    Duration::try_from_secs_f64(seconds).unwrap_or(MAX_LIFETIME)
}

/// `Retry-After` (RFC 9110 §10.2.3), in seconds or as a date: a day at most.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn reply(body: &str) -> Result<Reply, Kind> {
        Reply::read(body.as_bytes(), &FieldNames::default())
    }

    fn with_expires_in(value: &str) -> Result<AccessToken, Kind> {
        reply(&format!(r#"{{"access_token":"t","expires_in":{value}}}"#))?.access_token()
    }

    fn lifetime(value: &str) -> Option<u64> {
        with_expires_in(value).unwrap().lifetime().map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn expires_in_comes_in_every_shape() {
        for value in ["3600", "3600.9", "\"3600\"", "\" 3600 \"", "\"3600.5\"", "3.6e3"] {
            assert_eq!(lifetime(value), Some(3600), "{value}");
        }
        for value in ["null", "\"\"", "\" \""] {
            assert_eq!(lifetime(value), None, "{value}");
        }
        for value in
            ["{}", "[]", "true", "false", "[3600]", "\"zzz\"", "\"NaN\"", "\"inf\"", "\"-\""]
        {
            let error = with_expires_in(value).unwrap_err();
            assert_eq!(error, Kind::Unreadable(NO_LIFETIME), "{value}");
        }
    }

    #[test]
    fn a_lifetime_beyond_reason_is_clamped() {
        for value in ["-1", "\"-1\"", "-1e30", "-0.5", "0"] {
            assert_eq!(lifetime(value), Some(0), "{value}");
        }
        for value in ["1e30", "\"1e30\"", "1e308", "18446744073709551615", "9223372036854775807"] {
            assert_eq!(lifetime(value), Some(MAX_LIFETIME.as_secs()), "{value}");
        }
    }

    #[test]
    fn an_absolute_expiry_counts_if_there_is_no_lifetime_and_in_order_of_trust() {
        let expiry = |members: &str| {
            let body = format!(r#"{{"access_token":"t",{members}}}"#);
            let token = reply(&body).unwrap().access_token().unwrap();
            let seconds = |expiry: SystemTime| {
                expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
            };
            (token.lifetime().map(|lifetime| lifetime.as_secs()), token.expiry().map(seconds))
        };
        let all = r#""expires_at":1800000003,"expires_on":"1800000002","expiration":1800000001"#;
        assert_eq!(expiry(&format!(r#"{all},"expires_in":9"#)), (Some(9), None));
        assert_eq!(expiry(all), (None, Some(1_800_000_001)));
        let two = r#""expires_at":1800000003,"expires_on":"1800000002""#;
        assert_eq!(expiry(two), (None, Some(1_800_000_002)));
        let words = r#""expires_at":1800000003.7,"expiration":"soon""#;
        assert_eq!(expiry(words), (None, Some(1_800_000_003)));
        assert_eq!(expiry(r#""expires_at":"2024-01-01T00:00:00Z""#), (None, None));
        assert_eq!(expiry(r#""expires_at":1e30"#), (None, Some(MAX_LIFETIME.as_secs())));
    }

    #[test]
    fn a_configured_name_may_be_the_usual_name_of_another_field() {
        let of = |field, name: &str, body: &str| {
            let mut names = FieldNames::default();
            names.set(field, name.to_owned());
            Reply::read(body.as_bytes(), &names).unwrap()
        };
        // A date in place of a lifetime.
        let body = r#"{"access_token":"t","expires_in":1800000000}"#;
        let token = of(Field::ExpiresAt, "expires_in", body).access_token().unwrap();
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!((token.lifetime(), token.expiry()), (None, Some(expiry)));
        let body = "error=sorry%2C+no&code=x";
        let reply = of(Field::ErrorDescription, "error", body);
        assert_eq!(reply.error_description(), Some("sorry, no"));
    }

    #[test]
    fn the_time_of_the_refresh_is_in_seconds_or_a_date() {
        let due = |members: &str| {
            let body = format!(r#"{{"access_token":"t","expires_in":86399,{members}}}"#);
            let token = reply(&body).unwrap().access_token().unwrap();
            let seconds =
                |date: SystemTime| date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            assert_eq!(token.lifetime(), Some(Duration::from_secs(86_399)));
            (token.refresh_in().map(|it| it.as_secs()), token.refresh_on().map(seconds))
        };
        assert_eq!(due(r#""refresh_in":43199"#), (Some(43_199), None));
        assert_eq!(due(r#""refresh_in":"43199.9""#), (Some(43_199), None));
        assert_eq!(due(r#""refresh_on":1800000000"#), (None, Some(1_800_000_000)));
        assert_eq!(due(r#""refresh_on":"1800000000""#), (None, Some(1_800_000_000)));
        assert_eq!(due(r#""refresh_in":9,"refresh_on":1800000000"#), (Some(9), None));
        for nothing in ["null", "0", "-1", "\"soon\"", "[]", "0.9"] {
            let members = format!(r#""refresh_in":{nothing},"refresh_on":{nothing}"#);
            assert_eq!(due(&members), (None, None), "{nothing}");
        }
        assert_eq!(due(r#""refresh_in":1e30"#), (Some(MAX_LIFETIME.as_secs()), None));
    }

    #[test]
    fn an_expiry_before_oauth_2_counts_as_none() {
        let expiry = |members: &str| {
            let body = format!(r#"{{"access_token":"t",{members}}}"#);
            reply(&body).unwrap().access_token().unwrap().expiry()
        };
        for nothing in ["0", "\"0\"", "-5", "-62135596800", "1", "3600", "1349049599"] {
            assert_eq!(expiry(&format!(r#""expires_at":{nothing}"#)), None, "{nothing}");
        }
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        // A later date in the past is a real expiry.
        assert_eq!(expiry(r#""expires_at":1500000000"#), at(1_500_000_000));
        // A member that is ignored does not hide another one.
        assert_eq!(expiry(r#""expiration":0,"expires_at":1800000000"#), at(1_800_000_000));
    }

    #[test]
    fn a_scope_is_a_text_or_a_list_of_names() {
        for (scope, expected) in [
            (r#""a b""#, Some("a b")),
            (r#"["a","b"]"#, Some("a b")),
            (r#"["a"]"#, Some("a")),
            ("[]", None),
            ("null", None),
            (r#"["a",7]"#, None),
            (r#"{"a":true}"#, None),
            ("7", None),
        ] {
            let body = format!(r#"{{"access_token":"t","scope":{scope}}}"#);
            let token = reply(&body).unwrap().access_token().unwrap();
            assert_eq!(token.scope(), expected, "{scope}");
        }
    }

    #[test]
    fn a_200_can_carry_an_error_and_null_is_not_an_error() {
        assert!(reply(r#"{"error":"x","access_token":"t"}"#).unwrap().is_error());
        assert!(reply(r#"{"error":{"code":7}}"#).unwrap().is_error());
        assert!(reply(r#"{"error":true}"#).unwrap().is_error());
        assert!(reply(r#"{"error":7}"#).unwrap().is_error());
        for nothing in ["null", "\"\"", "false", "0"] {
            let body = format!(r#"{{"error":{nothing},"access_token":"t"}}"#);
            assert!(!reply(&body).unwrap().is_error(), "{nothing}");
        }
    }

    #[test]
    fn an_error_is_found_inside_any_wrapper() {
        for (body, code, description) in [
            (r#"{"error":{"code":"a","message":"b"}}"#, Some("a"), Some("b")),
            (r#"{"error":{"code":401,"status":"A","message":"b"}}"#, Some("A"), Some("b")),
            (r#"{"error":{"code":401}}"#, Some("401"), None),
            (r#"{"error":[{"type":"a"}]}"#, Some("a"), None),
            (
                r#"{"errors":[{"errorType":"a","message":"b"}],"success":false}"#,
                Some("a"),
                Some("b"),
            ),
            (r#"{"errors":["a","c"]}"#, Some("a"), None),
            (r#"{"errors":"a"}"#, Some("a"), None),
            (r#"{"errors":{"code":"a"}}"#, Some("a"), None),
            (
                r#"{"errors":[null,{},{"x":1},{"error":"a","error_description":"b"}]}"#,
                Some("a"),
                Some("b"),
            ),
            (r#"{"errors":[[{"errors":[{"reason":"a"}]}]]}"#, Some("a"), None),
            (r#"{"errors":[{"message":"b"}]}"#, None, Some("b")),
            (r#"{"errors":[true]}"#, None, None),
        ] {
            let reply = reply(body).unwrap();
            assert!(reply.is_error(), "{body}");
            assert_eq!((reply.error(), reply.error_description()), (code, description), "{body}");
        }
    }

    #[test]
    fn a_top_level_error_takes_precedence_over_a_nested_one() {
        let body =
            r#"{"errors":[{"code":"deep","message":"m"}],"errorCode":"top","errorMessage":"n"}"#;
        let reply = reply(body).unwrap();
        assert_eq!((reply.error(), reply.error_description()), (Some("top"), Some("n")));
        let okta = r#"{"errorCode":"E0000004","errorSummary":"no such user","errorCauses":[]}"#;
        let reply = self::reply(okta).unwrap();
        let said = (reply.error(), reply.error_description());
        assert_eq!(said, (Some("E0000004"), Some("no such user")));
    }

    #[test]
    fn an_empty_list_of_errors_and_one_beside_a_token_are_no_error() {
        for errors in ["[]", "null", "[null]", "{}", "[[]]", "\"\"", "false", "0"] {
            assert!(!reply(&format!(r#"{{"errors":{errors}}}"#)).unwrap().is_error(), "{errors}");
        }
        let warned = r#"{"access_token":"t","errors":[{"message":"deprecated"}]}"#;
        assert!(!reply(warned).unwrap().is_error());
        let deep = format!("{{\"errors\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert!(!reply(&deep).unwrap().is_error());
    }

    #[test]
    fn a_configured_name_of_an_error_is_the_only_one_that_is_read() {
        let mut names = FieldNames::default();
        names.set(Field::Error, "problem".to_owned());
        let read = |body: &str| Reply::read(body.as_bytes(), &names).unwrap();
        assert_eq!(read(r#"{"problem":{"code":"a"}}"#).error(), Some("a"));
        assert!(!read(r#"{"errors":["a"],"error":"b"}"#).is_error());
    }

    #[test]
    fn unreadable_answers_are_distinguished() {
        for (body, expected) in [
            ("", "nothing"),
            (" \r\n", "nothing"),
            ("\u{feff}", "nothing"),
            ("<!doctype html>", "a page of HTML or XML: a login page?"),
            ("[]", "JSON that is not an object"),
            (r#"{"access_token":"abc","token_ty"#, "broken JSON"),
            (r#"{"access_token":"abc"} x"#, "broken JSON"),
            ("failure", "neither JSON nor a form"),
            ("\"text\"", "neither JSON nor a form"),
        ] {
            assert_eq!(reply(body).err(), Some(Kind::Unreadable(expected)), "{body}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert_eq!(reply(&deep).err(), Some(Kind::Unreadable("broken JSON")));
    }

    #[test]
    fn a_type_other_than_bearer_is_refused_and_a_misspelt_one_is_accepted() {
        for (token_type, is_bearer) in [
            ("\"Bearer\"", true),
            ("\"BEARER\"", true),
            ("\"Baerer\"", true),
            ("\"\"", true),
            ("null", true),
            ("7", true),
            ("\"DPoP\"", false),
            ("\"pop\"", false),
            ("\" MAC \"", false),
            ("\"N_A\"", false),
        ] {
            let body = format!(r#"{{"access_token":"t","token_type":{token_type}}}"#);
            let reply = reply(&body).unwrap();
            assert_eq!(reply.is_presented(None), is_bearer, "{token_type}");
            let is_refused = reply.is_presented(Some(&TokenType::AccessToken));
            assert_eq!(is_refused, is_bearer, "{token_type}");
            let no_access_token = token_type == "\"N_A\"";
            let is_wanted = reply.is_presented(Some(&TokenType::Jwt));
            assert_eq!(is_wanted, is_bearer || no_access_token, "{token_type}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(seconds("31536000000"), Some(MAX_RETRY_AFTER.as_secs()));
        assert_eq!(seconds("99999999999999999999999"), Some(MAX_RETRY_AFTER.as_secs()));
        assert_eq!(seconds("Thu, 06 Nov 2994 08:49:37 GMT"), Some(MAX_RETRY_AFTER.as_secs()));
        for junk in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(seconds(junk), None, "{junk}");
        }
        let bytes = HeaderValue::from_bytes(b"\xff").unwrap();
        assert_eq!(retry_after(&HeaderMap::from_iter([(RETRY_AFTER, bytes)]), now), None);
    }
}
