//! What goes wrong, and when it is over.

use std::time::Duration;

use fastrand::Rng;
use turmoil::Sim;

use crate::{CLIENTS, World, client, token_service::Mode};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    what: What,
    from: Duration,
    until: Duration,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Service(Mode),
    Replica,
    /// Nothing gets from that client to that server, or back.
    Partition(usize, &'static str),
    /// Of a hundred messages between them, so many are lost.
    Loss(usize, &'static str, u32),
    Latency(usize, &'static str, u64),
    CrashClient(usize),
    CrashServer(&'static str),
    Revocation(usize),
}

/// The beginning or the end of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    what: What,
    begins: bool,
}

impl Fault {
    pub(crate) fn crashes(&self, nth: usize) -> bool {
        matches!(self.what, What::CrashClient(client) if client == nth)
    }

    pub(crate) fn seconds(&self) -> usize {
        usize::try_from(self.until.saturating_sub(self.from).as_secs()).unwrap()
    }
}

/// One every 20 s or so, each over by the end.
pub(crate) fn plan(rng: &mut Rng, end: Duration) -> Vec<Fault> {
    let number = end.as_secs() / 20;
    let mut faults: Vec<_> = (0..number).map(|_| fault(rng, end)).collect();
    faults.sort_by_key(|fault| fault.from);
    faults
}

fn fault(rng: &mut Rng, end: Duration) -> Fault {
    let from = Duration::from_millis(rng.u64(0..u64::try_from(end.as_millis()).unwrap()));
    let until = (from + Duration::from_millis(rng.u64(100..60_000))).min(end);
    let nth = rng.usize(0..CLIENTS);
    let server = ["auth", "orders", "billing"][rng.usize(0..3)];
    let what = match rng.u8(0..11) {
        0 => What::Service(Mode::Broken),
        1 => What::Service(Mode::Busy { retry_after: rng.u64(0..20) }),
        2 => What::Service(Mode::Garbage),
        3 => What::Service(Mode::Slow),
        4 | 5 => What::Replica,
        6 => What::Partition(nth, server),
        7 if rng.bool() => What::Loss(nth, server, rng.u32(1..50)),
        7 => What::Latency(nth, server, rng.u64(300..5000)),
        8 => What::CrashClient(nth),
        9 => What::CrashServer(server),
        _ => What::Revocation(nth),
    };
    Fault { what, from, until }
}

/// The next event last.
pub(crate) fn timeline(faults: &[Fault]) -> Vec<Event> {
    let events = |fault: &Fault| {
        let event = |at, begins| Event { at, what: fault.what, begins };
        [event(fault.from, true), event(fault.until, false)]
    };
    let mut timeline: Vec<_> = faults.iter().flat_map(events).collect();
    timeline.sort_by_key(|event| std::cmp::Reverse(event.at));
    timeline
}

impl Event {
    /// The end of one fault also ends others of its kind: what has healed works.
    pub(crate) fn happen(self, sim: &mut Sim<'_>, world: &World) {
        match self.what {
            What::Service(mode) => {
                world.lock().mode = if self.begins { mode } else { Mode::default() };
            }
            What::Replica => world.lock().is_replica_broken = self.begins,
            What::Partition(nth, server) if self.begins => {
                sim.partition(client::name(nth), server);
            }
            What::Partition(nth, server) => sim.repair(client::name(nth), server),
            What::Loss(nth, server, percent) => {
                let rate = if self.begins { f64::from(percent) / 100.0 } else { 0.0 };
                sim.set_link_fail_rate(client::name(nth), server, rate);
                if !self.begins {
                    sim.repair(client::name(nth), server);
                }
            }
            What::Latency(nth, server, millis) => {
                let latency = if self.begins { millis } else { 300 };
                let latency = Duration::from_millis(latency);
                sim.set_link_max_message_latency(client::name(nth), server, latency);
            }
            What::CrashClient(nth) => crash(sim, &client::name(nth), self.begins),
            What::CrashServer(server) => crash(sim, server, self.begins),
            What::Revocation(nth) if self.begins => world.lock().issued.revoke_all_of(nth),
            What::Revocation(_) => {}
        }
    }
}

fn crash(sim: &mut Sim<'_>, name: &str, begins: bool) {
    if begins {
        sim.crash(name);
    } else if !sim.is_host_running(name) {
        sim.bounce(name);
    }
}
