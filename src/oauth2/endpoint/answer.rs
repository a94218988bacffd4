//! Turns an answer of the endpoint into a token or an error.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};

use super::{
    super::{
        assertion::skew,
        error::{EndpointError, EndpointErrorKind as Kind},
        redact::Redactor,
        request::Readings,
        response::{Reply, retry_after},
        transport::Answer,
    },
    fetch::{Endpoint, Outcome, RefreshToken},
};
use crate::token::AccessToken;

impl Endpoint {
    /// The access token, and the refresh token beside it.
    pub(super) fn judge(
        &self,
        Answer { head, body }: Answer,
        readings: &Readings,
    ) -> Outcome<(AccessToken, RefreshToken)> {
        let wait = retry_after(&head.headers, SystemTime::now());
        let failed = |error: EndpointError| error.with_head(head.status, wait);
        if head.status.is_redirection() {
            return Err(failed(self.error(Kind::Redirected)));
        }
        let is_success = head.status.is_success();
        let body = match body {
            Err(broken) if is_success => return Err(failed(self.broken(broken, readings))),
            // The status says enough.
            body => body.unwrap_or_default(),
        };
        match Reply::read(&body, &self.names) {
            Ok(reply) if is_success && !reply.is_error() => {
                self.check_type(&reply, readings).map_err(failed)?;
                let token = reply.access_token().map_err(|kind| {
                    let is_missing = kind == Kind::MissingToken;
                    let error = failed(self.error(kind));
                    if is_missing && reply.has_token_of_another_type() {
                        return error.with_detail("its value is not a text");
                    }
                    error
                })?;
                Ok((token, reply.refresh_token()))
            }
            Err(kind) if is_success => Err(failed(self.error(kind))),
            reply => {
                let error = failed(self.refusal(head.status, reply.ok().as_ref(), readings));
                Err(self.explained(error, &head.headers))
            }
        }
    }

    /// Adds a note if an assertion may have been refused because of clock skew.
    fn explained(&self, error: EndpointError, headers: &HeaderMap) -> EndpointError {
        if !error.may_be_about_an_assertion() {
            return error;
        }
        let tolerated = self.template.tolerated_skew();
        match tolerated.and_then(|tolerated| skew(headers, SystemTime::now(), tolerated)) {
            Some(detail) => error.with_detail(&detail),
            None => error,
        }
    }

    /// Checks that the token is a bearer token, and of the requested type.
    fn check_type(&self, reply: &Reply, readings: &Readings) -> Outcome<()> {
        let requested = self.requested.as_ref();
        if !reply.is_presented(requested) {
            return Err(self.error(Kind::NotBearer));
        }
        match (reply.issued_token_type(), requested) {
            (Some(issued), Some(requested)) if issued != requested.as_str() => {
                let issued = self.redactor(reply, readings).clean(issued);
                let detail = format!("`{issued}` in place of `{}`", requested.as_str());
                Err(self.error(Kind::OtherTokenType).with_detail(&detail))
            }
            _ => Ok(()),
        }
    }

    fn refusal(
        &self,
        status: StatusCode,
        reply: Option<&Reply>,
        readings: &Readings,
    ) -> EndpointError {
        let error = self.error(Kind::of(status)).when_asked(readings.overlay.asked());
        let Some(reply) = reply else { return error };
        let redactor = self.redactor(reply, readings);
        error.with_oauth(reply.error(), reply.error_description(), &redactor).with_more(
            reply.error_uri(),
            reply.claims(),
            &redactor,
        )
    }

    /// Redacts every secret that was sent, and every token in the answer.
    fn redactor(&self, reply: &Reply, readings: &Readings) -> Redactor {
        let mut redactor = self.template.redactor(readings);
        reply.hide_tokens(&mut redactor);
        redactor
    }
}
