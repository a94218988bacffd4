//! What is kept of a request beside its body.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use smallvec::SmallVec;

/// A request's head as it was before the token was put on. It is cheaper to keep than a clone,
/// which would hash each header: it is made for every request, and used for few.
pub(in crate::service) struct KeptHead {
    method: Method,
    uri: Uri,
    version: Version,
    headers: SmallVec<[(HeaderName, HeaderValue); 8]>,
    extensions: Extensions,
}

impl KeptHead {
    /// All but the headers.
    #[inline]
    pub(in crate::service) fn new<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: SmallVec::new(),
            extensions: request.extensions().clone(),
        }
    }

    pub(in crate::service) fn keep_headers(&mut self, headers: &HeaderMap) {
        self.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    /// The request once more, without a token.
    pub(in crate::service) fn into_request<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 1);
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions;
        request
    }
}
