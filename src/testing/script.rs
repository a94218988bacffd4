//! What the test told the token service to do.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Failure, credentials::CLIENT_SECRET};

const USUAL_LIFETIME: u64 = 3600;

#[derive(Debug, Default)]
pub(super) struct Script(Mutex<Orders>);

#[derive(Debug)]
pub(super) struct Orders {
    /// Failures to come, each with its number of times; `None` for one without end.
    failures: VecDeque<(Option<u64>, Failure)>,
    /// By user's token.
    subject_failures: HashMap<String, Failure>,
    pub(super) delay: Duration,
    /// In seconds.
    pub(super) expires_in: Option<u64>,
    pub(super) secret: String,
}

// ===== impl Script =====

impl Script {
    pub(super) fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Orders =====

impl Orders {
    pub(super) fn fail(&mut self, times: Option<u64>, failure: Failure) {
        self.failures.push_back((times, failure));
    }

    pub(super) fn fail_subject(&mut self, subject_token: String, failure: Failure) {
        self.subject_failures.insert(subject_token, failure);
    }

    pub(super) fn recover(&mut self) {
        self.failures.clear();
        self.subject_failures.clear();
    }

    /// The failure of each request for this user.
    pub(super) fn subject_failure(&self, subject_token: &str) -> Option<Failure> {
        self.subject_failures.get(subject_token).cloned()
    }

    /// The failure of the next request, if it is to fail.
    pub(super) fn next_failure(&mut self) -> Option<Failure> {
        while let Some((times, failure)) = self.failures.front_mut() {
            match times {
                None => return Some(failure.clone()),
                Some(0) => drop(self.failures.pop_front()),
                Some(times) => {
                    *times -= 1;
                    return Some(failure.clone());
                }
            }
        }
        None
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            failures: VecDeque::new(),
            subject_failures: HashMap::new(),
            delay: Duration::ZERO,
            expires_in: Some(USUAL_LIFETIME),
            secret: CLIENT_SECRET.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_in_the_order_in_which_they_were_asked_for() {
        let mut orders = Orders::default();
        orders.fail(Some(0), Failure::Garbage);
        orders.fail(Some(2), Failure::Cut);
        orders.fail(Some(1), Failure::HtmlPage);
        let met: Vec<_> = (0..4).map(|_| orders.next_failure()).collect();
        assert_eq!(met, [Some(Failure::Cut), Some(Failure::Cut), Some(Failure::HtmlPage), None]);
    }

    #[test]
    fn a_failure_without_end_ends_with_the_recovery() {
        let mut orders = Orders::default();
        orders.fail(None, Failure::Cut);
        assert!((0..9).all(|_| orders.next_failure() == Some(Failure::Cut)));
        orders.recover();
        assert_eq!(orders.next_failure(), None);
    }
}
