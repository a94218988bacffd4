//! A token service that does what the faults say.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected};
use hyper::body::Incoming;
use tokio::time::sleep;

use crate::{World, net, now};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Good,
    Broken,
    Busy {
        retry_after: u64,
    },
    Garbage,
    /// It answers, but after a minute.
    Slow,
}

/// What was issued, and who asked how often.
#[derive(Default)]
pub(crate) struct Issued {
    tokens: HashMap<String, Token>,
    revoked: HashSet<String>,
    requests: HashMap<usize, Requests>,
}

struct Token {
    client: usize,
    expiry: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) granted: usize,
    pub(crate) refused: usize,
}

impl Issued {
    fn issue(&mut self, client: usize, seconds: u64) -> String {
        let token = format!("c{client}-t{}", self.tokens.len());
        let expiry = now() + Duration::from_secs(seconds);
        self.tokens.insert(token.clone(), Token { client, expiry });
        token
    }

    pub(crate) fn is_good(&self, token: &str) -> bool {
        let known = self.tokens.get(token);
        known.is_some_and(|it| now() < it.expiry) && !self.revoked.contains(token)
    }

    pub(crate) fn revoke_all_of(&mut self, client: usize) {
        let of = |(token, it): (&String, &Token)| (it.client == client).then(|| token.clone());
        self.revoked.extend(self.tokens.iter().filter_map(of));
    }

    pub(crate) fn requests(&self, client: usize) -> Requests {
        self.requests.get(&client).copied().unwrap_or_default()
    }
}

pub(crate) async fn serve(world: World) -> turmoil::Result {
    net::serve(move |request| answer(world.clone(), request)).await
}

async fn answer(world: World, request: Request<Incoming>) -> Response<String> {
    let form = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    let form = String::from_utf8_lossy(&form).into_owned();
    let id = form.split('&').find_map(|pair| pair.strip_prefix("client_id=client"));
    let Some(client) = id.and_then(|id| id.parse::<usize>().ok()) else {
        return response(StatusCode::BAD_REQUEST, "{\"error\":\"invalid_request\"}");
    };
    let mode = world.lock().mode;
    if matches!(mode, Mode::Slow) {
        sleep(Duration::from_secs(60)).await;
    }
    let mut shared = world.lock();
    let is_granted = matches!(mode, Mode::Good | Mode::Slow);
    let requests = shared.issued.requests.entry(client).or_default();
    // No client waits for an answer that comes after a minute.
    let counted =
        if matches!(mode, Mode::Good) { &mut requests.granted } else { &mut requests.refused };
    *counted += 1;
    if is_granted {
        let seconds = fastrand::u64(20..=120);
        let token = shared.issued.issue(client, seconds);
        let answer = format!(
            "{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":{seconds}}}"
        );
        return response(StatusCode::OK, &answer);
    }
    match mode {
        Mode::Busy { retry_after } => {
            let mut busy = response(StatusCode::TOO_MANY_REQUESTS, "slow down");
            busy.headers_mut().insert(header::RETRY_AFTER, retry_after.into());
            busy
        }
        Mode::Garbage => response(StatusCode::OK, "<html>welcome</html>"),
        _ => response(StatusCode::INTERNAL_SERVER_ERROR, "oops"),
    }
}

fn response(status: StatusCode, body: &str) -> Response<String> {
    let builder = Response::builder().status(status).header("content-type", "application/json");
    builder.body(body.to_owned()).unwrap()
}
