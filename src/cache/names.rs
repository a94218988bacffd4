//! The names of flights and tokens. Each name is used once in the life of a cache.

/// The flights, in the order in which they started, from 1.
pub(super) type FlightId = u64;

/// A token: the flight that first returned it.
pub(super) type TokenId = FlightId;
