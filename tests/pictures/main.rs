//! The pictures in `docs/` are drawn from what they show: the states from the module pages of the
//! state machine, the path of a request from real requests, the dashboard from its file. So no
//! picture can lag behind. `.ci/pictures` draws them anew.

mod canvas;
mod dashboard;
mod request;
mod states;

use std::{env, fs, path::Path};

#[test]
fn the_picture_of_the_states_is_what_the_state_machine_says() {
    is_drawn("states.svg", &states::picture());
}

#[tokio::test(start_paused = true)]
async fn the_picture_of_a_request_is_what_requests_do() {
    is_drawn("request.svg", &request::picture().await);
}

#[test]
fn the_picture_of_the_dashboard_has_its_panels() {
    is_drawn("dashboard.svg", &dashboard::picture());
}

/// The picture in `docs/` is that one. With `UPDATE_PICTURES` in the environment, it becomes it.
fn is_drawn(name: &str, picture: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if env::var_os("UPDATE_PICTURES").is_some() {
        fs::write(&path, picture).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let drawn = fs::read_to_string(&path);
    let drawn = drawn.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(drawn == picture, "docs/{name} is not what it shows; `.ci/pictures` draws it anew");
}
