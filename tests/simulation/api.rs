//! An API that takes what the token service has issued; one of them has two replicas.

use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use hyper::body::Incoming;

use crate::{World, net};

pub(crate) async fn serve(world: World, name: &'static str) -> turmoil::Result {
    net::serve(move |request| {
        let response = answer(&world, name, &request);
        async { response }
    })
    .await
}

fn answer(world: &World, name: &str, request: &Request<Incoming>) -> Response<String> {
    let shared = world.lock();
    let is_at_second = name == "billing" && fastrand::bool();
    let bearer = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let token = bearer.and_then(|it| it.strip_prefix("Bearer ")).unwrap_or_default();
    let is_good = shared.issued.is_good(token) && !(is_at_second && shared.is_replica_broken);
    let status = if is_good { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    Response::builder().status(status).body(String::new()).unwrap()
}
