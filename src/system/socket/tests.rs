use std::io::{Read, Write};

use super::*;
use crate::system::{event_loop, reactor::CloseReason};

/// Runs `test` on an event loop.
fn with_reactor<F: Future<Output = ()>>(test: impl Fn(Rc<Reactor>) -> F) {
    event_loop::run(|| async { test(Reactor::start().unwrap()).await }).unwrap();
}

/// Runs `test` with a registered socket and its peer.
fn with_pair<F: Future<Output = ()>>(test: impl Fn(Rc<Socket>, std::fs::File) -> F) {
    with_reactor(|reactor| {
        let (ours, theirs) = pair().unwrap();
        test(Rc::new(Socket::new(ours, &reactor).unwrap()), std::fs::File::from(theirs))
    });
}

#[test]
fn what_arrives_after_a_short_read_is_reported() {
    with_pair(|socket, mut peer| async move {
        let mut into = [0; 8];
        for round in 0..3 {
            assert!(socket.is_quiet(), "round {round}");
            peer.write_all(b"abc").unwrap();
            socket.readable().await;
            assert!(!socket.is_quiet(), "round {round}");
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(3));
        }
    });
}

#[test]
fn what_a_read_left_behind_is_still_there_to_be_read() {
    with_pair(|socket, mut peer| async move {
        peer.write_all(b"abcd").unwrap();
        socket.readable().await;
        let mut into = [0; 2];
        for _ in 0..2 {
            assert!(!socket.is_quiet());
            socket.readable().await;
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(2));
        }
        // Whether there is more could not be known; asking finds out.
        assert!(socket.is_quiet());
        assert_eq!(socket.try_recv(&mut into).unwrap(), None);
    });
}

#[test]
fn an_end_that_came_with_the_last_bytes_is_not_forgotten() {
    with_pair(|socket, mut peer| async move {
        peer.write_all(b"abc").unwrap();
        drop(peer);
        socket.readable().await;
        let mut into = [0; 8];
        assert_eq!(socket.try_recv(&mut into).unwrap(), Some(3));
        assert!(!socket.is_quiet());
        socket.readable().await;
        assert_eq!(socket.try_recv(&mut into).unwrap(), Some(0));
    });
}

#[test]
fn a_full_socket_is_waited_for_until_the_peer_has_read() {
    with_pair(|socket, peer| async move {
        let bytes = [0; 8_192];
        let mut sent = 0;
        while let Some(count) = socket.try_send(&bytes, &[]).unwrap() {
            sent += count;
        }
        let reader = std::thread::spawn(move || {
            let mut read = 0;
            let mut into = [0; 8_192];
            let mut peer = peer;
            while read < sent {
                match peer.read(&mut into) {
                    Ok(count) => read += count,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(e) => panic!("{e}"),
                }
            }
            peer
        });
        socket.writable().await;
        let _peer = reader.join().unwrap();
        assert!(socket.try_send(&bytes, &[]).unwrap().is_some());
    });
}

#[test]
fn ending_a_socket_wakes_who_waits_for_it() {
    with_reactor(|reactor| async move {
        let (ours, _theirs) = pair().unwrap();
        let socket = Rc::new(Socket::new(ours, &reactor).unwrap());
        let waiting = Rc::clone(&socket);
        let task = event_loop::spawn(async move {
            waiting.readable().await;
            waiting.registration().close_reason()
        });
        socket.registration().arm(Duration::ZERO);
        while socket.registration().close_reason() == CloseReason::Open {
            reactor.sleep(Duration::from_millis(1)).await;
            reactor.tick();
        }
        assert_eq!(task.await, CloseReason::Deadline);
    });
}

/// Lets the sweep run until `socket` was ended.
async fn wait_ended(socket: &Socket, reactor: &Reactor) {
    while socket.registration().close_reason() == CloseReason::Open {
        reactor.sleep(Duration::from_millis(1)).await;
        reactor.tick();
    }
}

#[test]
fn a_deadline_that_was_taken_away_ends_nothing() {
    with_reactor(|reactor| async move {
        let [kept, dropped] = [(); 2].map(|()| {
            let (ours, theirs) = pair().unwrap();
            (Socket::new(ours, &reactor).unwrap(), theirs)
        });
        drop(dropped.0.registration().deadline(Duration::ZERO));
        let _deadline = kept.0.registration().deadline(Duration::ZERO);
        wait_ended(&kept.0, &reactor).await;
        assert_eq!(dropped.0.registration().close_reason(), CloseReason::Open);
    });
}

#[test]
fn the_deadline_of_a_send_leaves_the_end_of_the_socket_to_its_owner() {
    with_reactor(|reactor| async move {
        let (ours, theirs) = pair().unwrap();
        let socket = Socket::new(ours, &reactor).unwrap();
        let mut peer = std::fs::File::from(theirs);
        socket.registration().arm_sending(Duration::ZERO);
        wait_ended(&socket, &reactor).await;
        // Not an orderly end, which could make a cut body look whole.
        let end = peer.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(end, Err(io::ErrorKind::WouldBlock));
    });
}

#[test]
fn a_deadline_that_passes_as_bytes_arrive_takes_neither_them_nor_their_sender() {
    with_reactor(|reactor| async move {
        let (ours, theirs) = pair().unwrap();
        let socket = Socket::new(ours, &reactor).unwrap();
        let mut peer = std::fs::File::from(theirs);
        socket.registration().arm(Duration::ZERO);
        peer.write_all(b"abc").unwrap();
        wait_ended(&socket, &reactor).await;
        assert_eq!(socket.try_recv(&mut [0; 8]).unwrap(), Some(3));
        assert!(!is_gone(&socket, false));
        socket.registration().arm(Duration::from_mins(1));
        assert_eq!(socket.registration().close_reason(), CloseReason::Open);
    });
}

/// Returns true if a wait on behalf of the socket's peer would end.
fn is_gone(socket: &Socket, may_finish: bool) -> bool {
    let context = Context::from_waker(std::task::Waker::noop());
    socket.registration().readiness.poll_gone(may_finish, &context).is_ready()
}

#[test]
fn a_wait_on_behalf_of_a_client_ends_with_it_whatever_it_left_unread() {
    with_reactor(|reactor| async move {
        let (client, theirs) = pair().unwrap();
        let client = Socket::new(client, &reactor).unwrap();
        let (upstream, _silent) = pair().unwrap();
        let upstream = Rc::new(Socket::new(upstream, &reactor).unwrap());
        let waiting = Rc::clone(&upstream);
        upstream.registration().waits_for(Some(client.registration().presence(false)));
        let task = event_loop::spawn(async move {
            waiting.readable().await;
            waiting.registration().close_reason()
        });
        std::fs::File::from(theirs).write_all(b"the next request").unwrap();
        // No tick is needed.
        assert_eq!(task.await, CloseReason::ClientGone);
    });
}

#[test]
fn a_client_that_may_finish_is_gone_only_when_it_has_hung_up() {
    with_pair(|socket, peer| async move {
        assert!(!is_gone(&socket, false));
        SockRef::from(&peer).shutdown(std::net::Shutdown::Write).unwrap();
        socket.readable().await;
        assert!(is_gone(&socket, false));
        assert!(!is_gone(&socket, true));
        drop(peer);
        while !is_gone(&socket, true) {
            socket.registration().reactor.turns.next().await;
        }
    });
}

#[test]
fn only_the_time_of_idle_connections_is_shortened_and_never_lengthened() {
    with_reactor(|reactor| async move {
        let [busy, idle, nearly_over] = [false, true, true].map(|is_idle| {
            let (ours, theirs) = pair().unwrap();
            let socket = Socket::new(ours, &reactor).unwrap();
            socket.registration().arm(Duration::from_mins(1));
            socket.registration().set_idle(is_idle);
            (socket, theirs)
        });
        nearly_over.0.registration().arm(Duration::ZERO);
        reactor.shorten_idle(Duration::from_mins(1));
        wait_ended(&nearly_over.0, &reactor).await;
        assert_eq!(idle.0.registration().close_reason(), CloseReason::Open);
        reactor.shorten_idle(Duration::ZERO);
        wait_ended(&idle.0, &reactor).await;
        assert_eq!(busy.0.registration().close_reason(), CloseReason::Open);
    });
}

#[test]
fn a_deadline_that_passes_while_the_process_ends_does_not_hide_the_end() {
    with_reactor(|reactor| async move {
        let (ours, _theirs) = pair().unwrap();
        let socket = Socket::new(ours, &reactor).unwrap();
        reactor.end_all();
        assert_eq!(socket.try_recv(&mut [0; 8]).unwrap(), None);
        socket.registration().arm(Duration::ZERO);
        while !socket.may_read() {
            reactor.sleep(Duration::from_millis(1)).await;
            reactor.tick();
        }
        assert_eq!(socket.registration().close_reason(), CloseReason::ClientGone);
    });
}

/// Runs `test` with a socket over TCP and its peer.
fn with_tcp<F: Future<Output = ()>>(test: impl Fn(Rc<Reactor>, Socket, std::net::TcpStream) -> F) {
    with_reactor(|reactor| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = Socket::new(OwnedFd::from(ours), &reactor).unwrap();
        test(reactor, socket, peer)
    });
}

#[test]
fn bytes_come_together_before_they_are_reported() {
    with_tcp(|reactor, socket, mut peer| async move {
        let mut into = [0; 2_000];
        for _ in 0..3 {
            socket.registration().coalesce(1_000);
            peer.write_all(&[0; 500]).unwrap();
            while !has_arrived(&socket) {
                reactor.turns.next().await;
            }
            reactor.turns.next().await;
            assert!(!socket.may_read(), "half of them is not enough");
            peer.write_all(&[0; 600]).unwrap();
            socket.readable().await;
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(1_100));
            // And no more of it.
            socket.registration().coalesce(1);
            peer.write_all(b"x").unwrap();
            socket.readable().await;
            assert_eq!(socket.try_recv(&mut into).unwrap(), Some(1));
        }
        // More, and then less, of what is left of a body.
        socket.registration().coalesce(1_500);
        peer.write_all(&[0; 1_200]).unwrap();
        while !has_arrived(&socket) {
            reactor.turns.next().await;
        }
        reactor.turns.next().await;
        assert!(!socket.may_read());
        socket.registration().coalesce(1_100);
        socket.readable().await;
        assert_eq!(socket.try_recv(&mut into).unwrap(), Some(1_200));
        drop(peer);
        socket.readable().await;
        assert_eq!(socket.try_recv(&mut into).unwrap(), Some(0));
    });
}

#[test]
fn bytes_that_do_not_come_together_are_reported_after_two_ticks() {
    with_tcp(|reactor, socket, mut peer| async move {
        let mut into = [0; 2_000];
        socket.registration().coalesce(1_000);
        peer.write_all(b"few").unwrap();
        reactor.tick();
        reactor.turns.next().await;
        assert!(!socket.may_read());
        reactor.tick();
        socket.readable().await;
        assert_eq!(socket.try_recv(&mut into).unwrap(), Some(3));
        // Not waited for again, until it was ended.
        socket.registration().coalesce(1_000);
        peer.write_all(b"few").unwrap();
        socket.readable().await;
        assert_eq!(socket.try_recv(&mut into).unwrap(), Some(3));
        socket.registration().coalesce(1);
        socket.registration().coalesce(1_000);
        peer.write_all(b"few").unwrap();
        while !has_arrived(&socket) {
            reactor.turns.next().await;
        }
        reactor.turns.next().await;
        assert!(!socket.may_read());
    });
}

fn has_arrived(socket: &Socket) -> bool {
    matches!(recv_peek(socket.raw(), &mut [0]), Ok(Some(_)))
}
