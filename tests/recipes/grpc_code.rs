use tonic::{Code, Status};
use tower_bearer::{Refused, TokenError};

/// What your own service answers when a call through the stack has failed.
fn code(status: &Status) -> Code {
    match (TokenError::find_in(status), Refused::find_in(status)) {
        (Some(error), _) if error.is_transient() => Code::Unavailable,
        (Some(_), _) | (_, Some(_)) => Code::Internal, // an operator or the program has to change
        (None, None) => status.code(),                 // the call's own
    }
}
