//! What a replay keeps of a request besides its body.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// How many headers are kept inline. More of them take an allocation.
const IN_PLACE: usize = 8;

type Header = (HeaderName, HeaderValue);

/// A request's head as it was before the token was added. It is cheaper to make than a clone, whose
/// headers take two allocations, and dearer to use: the layer makes one for every request and uses
/// few.
pub(crate) struct KeptHead {
    method: Method,
    uri: Uri,
    version: Version,
    extensions: Extensions,
    in_place: [Option<Header>; IN_PLACE],
    others: Vec<Header>,
}

impl KeptHead {
    /// Everything but the headers.
    #[inline]
    pub(crate) fn new<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            extensions: request.extensions().clone(),
            in_place: std::array::from_fn(|_| None),
            others: Vec::new(),
        }
    }

    pub(crate) fn keep_headers(&mut self, headers: &HeaderMap) {
        let mut headers = headers.iter();
        for place in &mut self.in_place {
            let Some(header) = headers.next() else { return };
            // An assignment would copy the header again.
            place.get_or_insert_with(|| clone_of(header));
        }
        self.others.extend(headers.map(clone_of));
    }

    /// The request again, without a token.
    pub(crate) fn into_request<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        for (name, value) in self.in_place.into_iter().flatten().chain(self.others) {
            request.headers_mut().append(name, value);
        }
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.extensions_mut() = self.extensions;
        request
    }
}

fn clone_of((name, value): (&HeaderName, &HeaderValue)) -> Header {
    (name.clone(), value.clone())
}
