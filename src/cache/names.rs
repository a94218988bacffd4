//! How flights and tokens are named. A name is used once in the life of a cache.

/// The flights, in the order in which they started, from 1.
pub(super) type FlightId = u64;

/// A token: the flight that brought it first.
pub(super) type TokenId = FlightId;
