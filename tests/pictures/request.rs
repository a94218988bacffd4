//! The path of a request: what your code, the layer, the source and the API say to each other, as
//! real requests through a real stack have it. Time is paused.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join;
use http::{Request, Response, header::AUTHORIZATION};
use tokio::time::sleep;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_bearer::{
    AccessToken, BearerAuthLayer, RefreshPolicy, TokenCache, TokenError, TokenRequest, from_fn,
};

use crate::canvas::{Canvas, width_of_strong};

const ORIGIN: &str = "https://api.example.com";
const LIFETIME: Duration = Duration::from_secs(3600);

const WIDTH: f64 = 880.0;
const STEP: f64 = 26.0;

/// Those who speak, from left to right.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Caller,
    Layer,
    Source,
    Api,
}

const NAMES: [(Who, &str, f64); 4] = [
    (Who::Caller, "your code", 110.0),
    (Who::Layer, "BearerAuthLayer, TokenCache", 350.0),
    (Who::Source, "TokenSource", 570.0),
    (Who::Api, "your client, the API", 780.0),
];

struct Said {
    from: Who,
    to: Who,
    words: String,
    is_answer: bool,
}

/// Writes down what is said; every clone writes to the same page.
#[derive(Clone, Default)]
struct Clerk(Arc<Mutex<Vec<Said>>>);

impl Clerk {
    fn asks(&self, from: Who, to: Who, words: impl Into<String>) {
        self.write(Said { from, to, words: words.into(), is_answer: false });
    }

    fn answers(&self, from: Who, to: Who, words: impl Into<String>) {
        self.write(Said { from, to, words: words.into(), is_answer: true });
    }

    fn write(&self, said: Said) {
        self.0.lock().unwrap().push(said);
    }

    fn take(&self) -> Vec<Said> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(crate) async fn picture() -> String {
    let clerk = Clerk::default();
    let revoked = Arc::new(AtomicU64::new(0));
    let policy = RefreshPolicy::builder().due_jitter(0.0).build().unwrap();
    let cache = TokenCache::with_policy(source(&clerk), policy);
    let layer = BearerAuthLayer::from_cache(cache).origin(ORIGIN).unwrap();
    let stack = layer.layer(api(&clerk, &revoked));

    let mut scenes = Vec::new();
    let mut scene = |title: &'static str| scenes.push((title, clerk.take()));

    join(call(&stack, &clerk, "A"), call(&stack, &clerk, "B")).await;
    scene("There is no token yet: requests wait for one fetch");
    call(&stack, &clerk, "C").await;
    scene("The token is usable: the request carries it at once");
    sleep(LIFETIME * 9 / 10).await;
    call(&stack, &clerk, "D").await;
    // The refresh is in the background.
    sleep(Duration::from_secs(1)).await;
    scene("The token is due: the request carries it, and a refresh runs in the background");
    revoked.store(2, Relaxed);
    call(&stack, &clerk, "E").await;
    scene("The API answers 401: a new token, and the request once more");

    draw(&scenes)
}

fn draw(scenes: &[(&str, Vec<Said>)]) -> String {
    let mut canvas = Canvas::new(WIDTH);
    let top = 56.0;
    let height = top + scenes.iter().map(|(_, scene)| height_of(scene)).sum::<f64>();
    for (_, name, x) in NAMES {
        canvas.line("rail", &[(x, 40.0), (x, height - 10.0)]);
        let width = width_of_strong(name) + 20.0;
        canvas.rect("box", (x - width / 2.0, 12.0), (width, 28.0));
        canvas.text("strong", "middle", (x, 31.0), name);
    }
    let mut y = top;
    for (title, scene) in scenes {
        draw_scene(&mut canvas, y, title, scene);
        y += height_of(scene);
    }
    canvas.finish("The path of a request", height)
}

fn height_of(scene: &[Said]) -> f64 {
    52.0 + scene.iter().map(|_| STEP).sum::<f64>()
}

/// Draws what was said in a scene below `y`.
fn draw_scene(canvas: &mut Canvas, y: f64, title: &str, scene: &[Said]) {
    canvas.text("strong over", "start", (20.0, y + 12.0), title);
    let mut y = y + 40.0;
    for Said { from, to, words, is_answer } in scene {
        let (from, to) = (place(*from), place(*to));
        let style = if *is_answer { "dashed" } else { "" };
        canvas.arrow(style, &[(from, y), (to, y)]);
        canvas.text("soft over", "middle", (f64::midpoint(from, to), y - 6.0), words);
        y += STEP;
    }
}

fn place(who: Who) -> f64 {
    NAMES.iter().find(|(name, ..)| *name == who).expect("everybody has a place").2
}

/// Fetches tokens that are numbered from 1.
fn source(clerk: &Clerk) -> impl tower_bearer::TokenSource + use<> {
    let (clerk, issued) = (clerk.clone(), AtomicU64::new(0));
    from_fn(move |request: TokenRequest| {
        let (clerk, nth) = (clerk.clone(), issued.fetch_add(1, Relaxed) + 1);
        async move {
            clerk.asks(Who::Layer, Who::Source, format!("fetch: {:?}", request.reason()));
            sleep(Duration::from_millis(100)).await;
            clerk.answers(Who::Source, Who::Layer, format!("token {nth}"));
            let token = AccessToken::new(nth.to_string()).map_err(TokenError::permanent)?;
            Ok(token.with_lifetime(LIFETIME))
        }
    })
}

/// Answers 401 to the tokens up to the one that was revoked.
fn api(
    clerk: &Clerk,
    revoked: &Arc<AtomicU64>,
) -> impl Service<Request<String>, Response = Response<()>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ use<> {
    let (clerk, revoked) = (clerk.clone(), Arc::clone(revoked));
    service_fn(move |request: Request<String>| {
        let token = request.headers()[AUTHORIZATION].to_str().unwrap();
        let token: u64 = token.strip_prefix("Bearer ").unwrap().parse().unwrap();
        let status = if token <= revoked.load(Relaxed) { 401 } else { 200 };
        let (clerk, name) = (clerk.clone(), request.into_body());
        async move {
            clerk.asks(Who::Layer, Who::Api, format!("{name} with token {token}"));
            sleep(Duration::from_millis(20)).await;
            clerk.answers(Who::Api, Who::Layer, format!("{name}: {status}"));
            Ok(Response::builder().status(status).body(()).unwrap())
        }
    })
}

/// A request of that name.
async fn call<S>(stack: &S, clerk: &Clerk, name: &str)
where
    S: Service<Request<String>, Response = Response<()>, Error = BoxError> + Clone,
{
    clerk.asks(Who::Caller, Who::Layer, format!("request {name}"));
    let request = Request::get(format!("{ORIGIN}/v1/invoices")).body(name.to_owned()).unwrap();
    let status = stack.clone().oneshot(request).await.unwrap().status();
    clerk.answers(Who::Layer, Who::Caller, format!("{name}: {}", status.as_u16()));
}
