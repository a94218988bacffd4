//! Serves one connection: its requests and its shutdown.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tower_bearer::BoxError;

use crate::activity::{Activity, EndReason, Upload};

/// How long a client may take to close a connection after the graceful shutdown has begun.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until the client or the sidecar ends the connection. Returns the reason if the sidecar
/// ends it.
pub(crate) async fn serve<F>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    activity: Arc<Activity>,
    answer: impl Fn(Request<RequestBody>) -> F + Send + 'static,
) -> Result<Option<EndReason>, BoxError>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    // `Activity` limits the headers: hyper's timeout would also limit the time between requests.
    server.http1().timer(TokioTimer::new()).header_read_timeout(None);
    let patience = activity.limits().headers;
    server.http2().timer(TokioTimer::new());
    // A client in the middle of sending headers cannot answer a `PING`.
    server.http2().keep_alive_interval(patience).keep_alive_timeout(patience);

    let io = TokioIo::new(Watched { io, activity: Arc::clone(&activity) });
    let watched = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let (upload, in_progress) = (watched.upload(), watched.begin());
        let answered = answer(request.map(|body| Counted { body, _guard: upload }));
        async move {
            let response = answered.await;
            Ok::<_, Infallible>(response.map(|body| Counted { body, _guard: in_progress }))
        }
    });
    drive(server.serve_connection(io, service).into_owned(), &activity).await
}

async fn drive<C>(connection: C, activity: &Activity) -> Result<Option<EndReason>, BoxError>
where
    C: GracefulConnection<Error = BoxError>,
{
    let mut connection = pin!(connection);
    let why = match until(connection.as_mut(), activity, || activity.end()).await {
        Ok(ended) => return ended.map(|()| None),
        Err(why) => why,
    };
    connection.as_mut().graceful_shutdown();
    let requested = Instant::now();
    let grace =
        if matches!(why, EndReason::Headers | EndReason::Full) { Duration::ZERO } else { GRACE };
    let cut = || {
        // Only the shutdown of the program waits for a client that does not read.
        let is_stop = why == EndReason::Stop;
        let is_over = if is_stop { activity.all_sent_since() } else { activity.quiet_since() };
        Some((is_over?.max(requested) + grace, why))
    };
    // The sidecar asked for the end, so an error of the connection does not matter.
    drop(until(connection, activity, cut).await);
    Ok(Some(why))
}

/// Drives the connection until it ends, or until the time that `end` returns. That time may change
/// with each poll of the connection.
async fn until<C: Future>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    end: impl Fn() -> Option<(Instant, EndReason)>,
) -> Result<C::Output, EndReason> {
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        activity.task().register(cx.waker());
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Ok(ended));
        }
        loop {
            let Some((end, why)) = end() else { return Poll::Pending };
            if end <= Instant::now() {
                return Poll::Ready(Err(why));
            }
            let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(end)));
            // A wake-up that comes too early costs less than setting the timer for each request.
            if alarm.is_elapsed() || end < alarm.deadline() {
                alarm.as_mut().reset(end);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

// ===== impl Watched =====

/// Reports to the [`Activity`] what arrives, and whether the client reads what the sidecar writes.
struct Watched<I> {
    io: I,
    activity: Arc<Activity>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            self.activity.received(bytes, Instant::now());
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> Watched<I> {
    fn note_write<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.activity.sent(polled.is_pending(), Instant::now());
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note_write(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A body with a guard that counts it until it is dropped.
pub(crate) struct Counted<B, G> {
    body: B,
    _guard: G,
}

/// The body of a request.
pub(crate) type RequestBody = Counted<Incoming, Upload>;

impl<B: HttpBody<Data = Bytes> + Unpin, G: Unpin> HttpBody for Counted<B, G> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::Version;
    use http_body_util::BodyExt;
    use hyper::client::conn;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::Notify,
        task::JoinHandle,
        time::{sleep, timeout},
    };

    use super::*;
    use crate::activity::Limits;

    const HEADERS: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(120);
    const NOT_YET_IDLE: Duration = Duration::from_secs(110);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n";

    type Served = JoinHandle<Result<Option<EndReason>, BoxError>>;

    /// Returns the client's end. The server answers `/slow` after the notification, `/early` before
    /// it has read the request, and `/large` with a mebibyte.
    fn start() -> (DuplexStream, Served, Arc<Activity>, Arc<Notify>) {
        let (client, server) = duplex(64 * 1024);
        let limits = Limits { headers: HEADERS, idle: IDLE };
        let activity = Arc::new(Activity::new(limits, Instant::now()));
        let slow = Arc::new(Notify::new());
        let goes_on = Arc::clone(&slow);
        let answer = move |request: Request<RequestBody>| {
            let goes_on = Arc::clone(&goes_on);
            async move {
                match request.uri().path() {
                    "/slow" => goes_on.notified().await,
                    "/early" => {
                        tokio::spawn(async move {
                            let mut body = request.into_body();
                            for _ in 0..2 {
                                body.frame().await.unwrap().unwrap();
                            }
                            goes_on.notify_one();
                        });
                        return Response::new(Body::from("ok"));
                    }
                    "/large" => return Response::new(Body::from(vec![b'x'; 1024 * 1024])),
                    _ => {}
                }
                request.into_body().collect().await.unwrap();
                Response::new(Body::from("ok"))
            }
        };
        let task = tokio::spawn(serve(server, Arc::clone(&activity), answer));
        (client, task, activity, slow)
    }

    async fn ask(client: &mut DuplexStream, request: &[u8]) {
        client.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            let read = client.read_buf(&mut answer).await.unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(ANSWER));
    }

    /// Waits at most a day of paused time.
    async fn why(served: Served) -> Option<EndReason> {
        let served = timeout(Duration::from_secs(24 * 60 * 60), served).await;
        served.expect("it ends").unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_complete_headers_is_closed_at_the_limit() {
        for begin in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"PUT", b"GET / HTTP/1.1\r\nHost: lo"]
        {
            let started = Instant::now();
            let (mut client, served, _, _) = start();
            client.write_all(begin).await.unwrap();
            assert_eq!(why(served).await, Some(EndReason::Headers), "{begin:?}");
            assert_eq!(started.elapsed().as_secs(), HEADERS.as_secs(), "{begin:?}");
            assert_eq!(client.read(&mut [0]).await.unwrap_or_default(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_headers_get_no_extra_time() {
        let started = Instant::now();
        let (mut client, served, _, _) = start();
        for byte in REQUEST {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        assert!(started.elapsed() < HEADERS + Duration::from_secs(2), "{:?}", started.elapsed());
        assert_eq!(why(served).await, Some(EndReason::Headers));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_for_the_headers_of_a_later_request_starts_at_its_first_byte() {
        let (mut client, served, _, _) = start();
        ask(&mut client, REQUEST).await;
        sleep(IDLE / 2).await;
        ask(&mut client, REQUEST).await;
        sleep(IDLE / 2).await;
        let begun = Instant::now();
        client.write_all(&REQUEST[..20]).await.unwrap();
        assert_eq!(why(served).await, Some(EndReason::Headers));
        assert_eq!(begun.elapsed().as_secs(), HEADERS.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_at_the_idle_limit() {
        let (mut client, served, _, _) = start();
        ask(&mut client, REQUEST).await;
        let answered = Instant::now();
        assert_eq!(why(served).await, Some(EndReason::Idle));
        assert_eq!(answered.elapsed().as_secs(), IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_the_end_of_a_response_is_idle() {
        let (mut client, served, _, _) = start();
        client.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        client.read_exact(&mut [0; 100]).await.unwrap();
        // The body is one frame, and hyper has taken all of it.
        assert_eq!(why(served).await, Some(EndReason::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_progress_has_no_time_limit() {
        let (mut client, served, _, slow) = start();
        let request = b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n";
        client.write_all(request).await.unwrap();
        sleep(IDLE * 10).await;
        slow.notify_one();
        sleep(IDLE * 10).await;
        ask(&mut client, b"ab").await;
        drop(client);
        assert_eq!(why(served).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_continues_after_its_response_is_not_mistaken_for_headers() {
        let (mut client, served, _, read) = start();
        let request = b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n";
        ask(&mut client, request).await;
        for byte in [b"a", b"b"] {
            sleep(IDLE * 2 / 3).await;
            client.write_all(byte).await.unwrap();
        }
        read.notified().await;
        let read = Instant::now();
        assert_eq!(why(served).await, Some(EndReason::Idle));
        assert_eq!(read.elapsed().as_secs(), IDLE.as_secs());
    }

    // ===== HTTP/2 =====

    #[tokio::test(start_paused = true)]
    async fn an_http2_client_with_incomplete_headers_is_disconnected() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // A frame of 100 bytes of which one arrives, and complete headers without `END_HEADERS`.
        let half = [0, 0, 100, 1, 4, 0, 0, 0, 1, 0x82];
        let unfinished = [0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
        for parts in [
            &[&preface[..]][..],
            &[preface, &settings],
            &[preface, &settings, &half],
            &[preface, &settings, &half[..5]],
            &[preface, &settings, &unfinished],
        ] {
            let started = Instant::now();
            let (mut client, served, _, _) = start();
            client.write_all(&parts.concat()).await.unwrap();
            drop(served.await.unwrap());
            assert!(started.elapsed() <= HEADERS * 2, "{:?}", started.elapsed());
            client.read_to_end(&mut Vec::new()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_client_that_answers_pings_stays_until_the_idle_limit() {
        let (client, served, _, _) = start();
        let (mut sender, connection) =
            conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let started = Instant::now();
        sleep(NOT_YET_IDLE).await;
        let request = Request::builder().uri("http://localhost/").body(Body::empty()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        response.into_body().collect().await.unwrap();
        assert_eq!(why(served).await, Some(EndReason::Idle));
        assert_eq!(started.elapsed().as_secs(), (NOT_YET_IDLE + IDLE).as_secs());
    }

    // ===== Shutdown =====

    #[tokio::test(start_paused = true)]
    async fn shutdown_does_not_wait_for_clients_without_a_request() {
        for begin in [&b""[..], b"PRI * HTTP/2.0\r\n", &REQUEST[..20]] {
            let (mut client, served, activity, _) = start();
            client.write_all(begin).await.unwrap();
            sleep(Duration::from_secs(2)).await;
            let requested = Instant::now();
            activity.request_end(EndReason::Stop);
            drop(served.await.unwrap());
            assert!(requested.elapsed() <= GRACE, "{begin:?}: {:?}", requested.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_progress_is_answered_before_shutdown() {
        let (mut client, served, activity, slow) = start();
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        activity.request_end(EndReason::Stop);
        sleep(IDLE).await;
        slow.notify_one();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(ANSWER) && answer.ends_with(b"ok"));
        assert_eq!(why(served).await, Some(EndReason::Stop));
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_the_client_still_reads_is_completed_before_shutdown() {
        let (mut client, served, activity, _) = start();
        client.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        activity.request_end(EndReason::Stop);
        sleep(IDLE).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.len() > 1024 * 1024, "{}", answer.len());
        assert_eq!(why(served).await, Some(EndReason::Stop));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_makes_room_closes_at_once() {
        for begin in [&b""[..], &REQUEST[..20]] {
            let (mut client, served, activity, _) = start();
            client.write_all(begin).await.unwrap();
            sleep(Duration::from_secs(2)).await;
            let requested = Instant::now();
            activity.request_end(EndReason::Full);
            drop(served.await.unwrap());
            assert_eq!(requested.elapsed(), Duration::ZERO, "{begin:?}");
        }
    }
}
