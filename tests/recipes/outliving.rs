use std::{io::Write, path::{Path, PathBuf}, time::{Duration, SystemTime, UNIX_EPOCH}};
use tower_bearer::{AccessToken, BoxError, Reason, TokenSource, from_fn, oauth2::TokenEndpoint};

/// The last run's token while it is good, then a new one, which the next run finds in the file.
fn outliving(endpoint: TokenEndpoint, file: PathBuf) -> impl TokenSource {
    from_fn(move |request| {
        // Else it is the kept one that is near its end, or was rejected.
        let kept = if request.reason() == Reason::First { load(&file) } else { None };
        let (fetched, file) = (endpoint.fetch(request), file.clone());
        async move {
            if let Some(token) = kept {
                return Ok(token);
            }
            let token = fetched.await?;
            if let Err(error) = save(&file, &token) {
                eprintln!("the token is not kept in {}: {error}", file.display());
            }
            Ok(token)
        }
    })
}

fn load(file: &Path) -> Option<AccessToken> {
    let text = std::fs::read_to_string(file).ok()?;
    let (end, secret) = text.split_once(' ')?;
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(end.parse().ok()?))?;
    let is_good = end > SystemTime::now() + Duration::from_secs(60);
    if is_good { Some(AccessToken::new(secret).ok()?.with_expiry(end)) } else { None }
}

fn save(file: &Path, token: &AccessToken) -> Result<(), BoxError> {
    let end = token.lifetime().and_then(|lifetime| SystemTime::now().checked_add(lifetime));
    let end = end.or(token.expiry()).ok_or("the token has no expiry")?;
    // A new file that its owner alone can read, then in one step the old one's successor.
    let mut new = tempfile::NamedTempFile::new_in(file.parent().ok_or("the path has no directory")?)?;
    write!(new, "{} {}", end.duration_since(UNIX_EPOCH)?.as_secs(), token.secret())?;
    new.persist(file)?;
    Ok(())
}
