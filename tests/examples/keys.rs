//! Examples of tokens for each scope, and on behalf of each user: they tell what has happened.

use crate::support::{example, run};

#[tokio::test]
async fn each_line_of_the_story_on_behalf_of_users_has_happened() {
    let story = run(&mut example("on_behalf_of")).await.printed();
    let lines: Vec<_> = story.lines().collect();
    assert_eq!(lines.len(), 9, "{story}");
    assert!(lines.iter().all(|line| line.starts_with("yes: ")), "{story}");
    for word in ["two users at once", "revoked", "logged out", "`claims`", "step-up", "401"] {
        assert!(story.contains(word), "{word} in {story}");
    }
}

#[tokio::test]
async fn each_request_gets_a_token_for_its_scope_and_its_resource() {
    let shown = run(&mut example("per_request_scope")).await.printed();
    let once = "GET /orders for my-app: orders:read\n\
                POST /orders for my-app: orders:write\n\
                GET /stock for my-app: stock:read https://stock.example.com\n\
                GET /me for my-app: profile\n";
    assert_eq!(shown, format!("{once}{once}4 tokens were fetched for 8 calls\n"));
}
