//! Over real sockets.

use super::*;

async fn supervisor(path: &Path) -> (mpsc::Receiver<Incoming>, watch::Sender<Status>) {
    let listener = listen(path).expect("listen");
    let (calls, received) = mpsc::channel(4);
    let (status, watched) = watch::channel(Status::default());
    tokio::spawn(serve(listener, calls, watched));
    (received, status)
}

#[tokio::test]
async fn a_call_is_answered_over_the_socket_which_only_its_owner_may_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("sub/drey.sock");
    let (mut received, _status) = supervisor(&path).await;
    let mode = fs::metadata(&path).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let answer = async {
        let (asked, back) = received.recv().await.expect("a call");
        assert_eq!(asked, Call::PointerClear { job: None });
        back.send(Reply::Done).expect("the caller waits");
    };
    let (reply, ()) = tokio::join!(call(&path, &Call::PointerClear { job: None }), answer);
    assert_eq!(reply.expect("an answer"), Reply::Done);
}

#[tokio::test]
async fn status_is_answered_while_the_supervisor_is_busy() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("drey.sock");
    let (_busy, status) = supervisor(&path).await;
    status.send_modify(|status| status.cluster_id = "orders".to_owned());
    let Reply::Status(status) = call(&path, &Call::Status).await.expect("an answer") else {
        panic!("not a status");
    };
    assert_eq!(status.cluster_id, "orders");
}

#[tokio::test]
async fn what_is_no_call_is_refused_and_a_supervisor_that_goes_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("drey.sock");
    let (mut received, _status) = supervisor(&path).await;
    let mut stream = UnixStream::connect(&path).await.expect("connect");
    stream
        .write_all(b"{\"call\": \"dance\"}\n")
        .await
        .expect("write");
    let mut line = String::new();
    BufReader::new(&mut stream)
        .read_line(&mut line)
        .await
        .expect("read");
    assert!(line.contains("not a call"), "{line}");
    let leave = async { drop(received.recv().await) };
    let (reply, ()) = tokio::join!(call(&path, &Call::Order), leave);
    assert!(matches!(
        reply.expect("an answer"),
        Reply::Failed { code: 75, .. }
    ));
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_a_living_one_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("drey.sock");
    drop(listen(&path).expect("listen"));
    let _second = listen(&path).expect("the first one is gone");
    assert_eq!(
        listen(&path).expect_err("in use").kind(),
        io::ErrorKind::AddrInUse
    );
}
