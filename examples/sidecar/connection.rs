//! One connection: its requests, and its end.

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

use crate::activity::{Activity, Upload, Why};

/// How long a client that is told that its connection ends may take to let go of it.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until the client or the sidecar ends the connection; why, if the sidecar does.
pub(crate) async fn serve<F>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    activity: Arc<Activity>,
    answer: impl Fn(Request<Asked>) -> F + Send + 'static,
) -> Result<Option<Why>, BoxError>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    // `Activity` limits the headers, so that a connection may idle for longer than that.
    server.http1().timer(TokioTimer::new()).header_read_timeout(None);
    let patience = activity.limits().headers;
    server.http2().timer(TokioTimer::new());
    // Whoever is in the middle of headers cannot answer.
    server.http2().keep_alive_interval(patience).keep_alive_timeout(patience);

    let io = TokioIo::new(Watched { io, activity: Arc::clone(&activity) });
    let watched = Arc::clone(&activity);
    let service = service_fn(move |request: Request<Incoming>| {
        let (upload, under_way) = (watched.upload(), watched.begin());
        let answered = answer(request.map(|body| Counted { body, _guard: upload }));
        async move {
            let response = answered.await;
            Ok::<_, Infallible>(response.map(|body| Counted { body, _guard: under_way }))
        }
    });
    drive(server.serve_connection(io, service).into_owned(), &activity).await
}

async fn drive<C>(connection: C, activity: &Activity) -> Result<Option<Why>, BoxError>
where
    C: GracefulConnection<Error = BoxError>,
{
    let mut connection = pin!(connection);
    let why = match until(connection.as_mut(), activity, || activity.end()).await {
        Ok(ended) => return ended.map(|()| None),
        Err(why) => why,
    };
    connection.as_mut().graceful_shutdown();
    let told = Instant::now();
    let grace = if matches!(why, Why::Headers | Why::Full) { Duration::ZERO } else { GRACE };
    let cut = || {
        // Only the end of the program waits for a client that does not take what it is sent.
        let is_stop = why == Why::Stop;
        let is_over = if is_stop { activity.all_sent_since() } else { activity.quiet_since() };
        Some((is_over?.max(told) + grace, why))
    };
    // An error of the end that it is asked for is none.
    drop(until(connection, activity, cut).await);
    Ok(Some(why))
}

/// Drives the connection to its own end, or to the time that `end` says, which may change with
/// whatever the connection does.
async fn until<C: Future>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    end: impl Fn() -> Option<(Instant, Why)>,
) -> Result<C::Output, Why> {
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
            // One that comes too early costs less than one that is set for each request.
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

// ===== What is watched =====

/// Tells what comes and whether the client takes what it is sent.
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
    fn told<T>(&self, polled: Poll<T>) -> Poll<T> {
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
        self.told(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.told(polled)
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

/// A body that is known to be there, until it is dropped.
pub(crate) struct Counted<B, G> {
    body: B,
    _guard: G,
}

/// The body of a request.
pub(crate) type Asked = Counted<Incoming, Upload>;

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

    type Served = JoinHandle<Result<Option<Why>, BoxError>>;

    /// The client's end; answers `/slow` when it is told to, `/early` before it
    /// has read the request, and `/large` with a mebibyte.
    fn start() -> (DuplexStream, Served, Arc<Activity>, Arc<Notify>) {
        let (client, server) = duplex(64 * 1024);
        let limits = Limits { headers: HEADERS, idle: IDLE };
        let activity = Arc::new(Activity::new(limits, Instant::now()));
        let slow = Arc::new(Notify::new());
        let goes_on = Arc::clone(&slow);
        let answer = move |request: Request<Asked>| {
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

    /// Within a day, which takes no time here.
    async fn why(served: Served) -> Option<Why> {
        let served = timeout(Duration::from_secs(24 * 60 * 60), served).await;
        served.expect("it ends").unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_whole_headers_ends_in_time() {
        for begin in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"PUT", b"GET / HTTP/1.1\r\nHost: lo"]
        {
            let started = Instant::now();
            let (mut client, served, _, _) = start();
            client.write_all(begin).await.unwrap();
            assert_eq!(why(served).await, Some(Why::Headers), "{begin:?}");
            assert_eq!(started.elapsed().as_secs(), HEADERS.as_secs(), "{begin:?}");
            assert_eq!(client.read(&mut [0]).await.unwrap_or_default(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_drip_are_not_given_more_time() {
        let started = Instant::now();
        let (mut client, served, _, _) = start();
        for byte in REQUEST {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        assert!(started.elapsed() < HEADERS + Duration::from_secs(2), "{:?}", started.elapsed());
        assert_eq!(why(served).await, Some(Why::Headers));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_request_has_the_same_time_for_its_headers_from_its_first_byte() {
        let (mut client, served, _, _) = start();
        ask(&mut client, REQUEST).await;
        sleep(IDLE / 2).await;
        ask(&mut client, REQUEST).await;
        sleep(IDLE / 2).await;
        let begun = Instant::now();
        client.write_all(&REQUEST[..20]).await.unwrap();
        assert_eq!(why(served).await, Some(Why::Headers));
        assert_eq!(begun.elapsed().as_secs(), HEADERS.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_idle_ends_after_a_longer_time() {
        let (mut client, served, _, _) = start();
        ask(&mut client, REQUEST).await;
        let answered = Instant::now();
        assert_eq!(why(served).await, Some(Why::Idle));
        assert_eq!(answered.elapsed().as_secs(), IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_take_the_end_of_an_answer_is_idle() {
        let (mut client, served, _, _) = start();
        client.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        client.read_exact(&mut [0; 100]).await.unwrap();
        // The answer's body is one frame: hyper has it all.
        assert_eq!(why(served).await, Some(Why::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_takes_as_long_as_it_takes() {
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
    async fn an_upload_that_goes_on_after_its_answer_is_not_taken_for_headers() {
        let (mut client, served, _, read) = start();
        let request = b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n";
        ask(&mut client, request).await;
        for byte in [b"a", b"b"] {
            sleep(IDLE * 2 / 3).await;
            client.write_all(byte).await.unwrap();
        }
        read.notified().await;
        let read = Instant::now();
        assert_eq!(why(served).await, Some(Why::Idle));
        assert_eq!(read.elapsed().as_secs(), IDLE.as_secs());
    }

    // ===== HTTP/2 =====

    #[tokio::test(start_paused = true)]
    async fn half_the_headers_of_http2_do_not_stay() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // A frame of 100 bytes, of which one comes; and whole ones that are to be continued.
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
    async fn a_client_of_http2_that_answers_is_kept_until_it_has_been_idle_for_long() {
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
        assert_eq!(why(served).await, Some(Why::Idle));
        assert_eq!(started.elapsed().as_secs(), (NOT_YET_IDLE + IDLE).as_secs());
    }

    // ===== The end =====

    #[tokio::test(start_paused = true)]
    async fn when_the_program_ends_nobody_waits_for_who_has_not_asked() {
        for begin in [&b""[..], b"PRI * HTTP/2.0\r\n", &REQUEST[..20]] {
            let (mut client, served, activity, _) = start();
            client.write_all(begin).await.unwrap();
            sleep(Duration::from_secs(2)).await;
            let told = Instant::now();
            activity.tell_to_end(Why::Stop);
            drop(served.await.unwrap());
            assert!(told.elapsed() <= GRACE, "{begin:?}: {:?}", told.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_under_way_is_answered_before_the_end() {
        let (mut client, served, activity, slow) = start();
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        activity.tell_to_end(Why::Stop);
        sleep(IDLE).await;
        slow.notify_one();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(ANSWER) && answer.ends_with(b"ok"));
        assert_eq!(why(served).await, Some(Why::Stop));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_still_being_taken_is_whole_before_the_end() {
        let (mut client, served, activity, _) = start();
        client.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        activity.tell_to_end(Why::Stop);
        sleep(IDLE).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.len() > 1024 * 1024, "{}", answer.len());
        assert_eq!(why(served).await, Some(Why::Stop));
    }

    #[tokio::test(start_paused = true)]
    async fn who_makes_room_does_so_at_once() {
        for begin in [&b""[..], &REQUEST[..20]] {
            let (mut client, served, activity, _) = start();
            client.write_all(begin).await.unwrap();
            sleep(Duration::from_secs(2)).await;
            let told = Instant::now();
            activity.tell_to_end(Why::Full);
            drop(served.await.unwrap());
            assert_eq!(told.elapsed(), Duration::ZERO, "{begin:?}");
        }
    }
}
