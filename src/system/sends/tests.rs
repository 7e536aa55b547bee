use std::{
    fs::File,
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    pin::pin,
    task::Poll,
};

use super::*;
use crate::system::{
    clock::Monotonic,
    event_loop,
    pauses::PausesChoice,
    reactor::Reactor,
    ring::{self, IoChoice},
    send_ring::{Failure, SendsChoice},
    socket::{Socket, pair},
    splice::Pipes,
};

/// Runs `test` where sends go out together, if the kernel gives rings, and where each goes out
/// by itself.
fn with_reactor<F: Future<Output = ()>>(test: impl Fn(Rc<Reactor>) -> F) {
    event_loop::run(|| async {
        if let Some(ring) = ring::open(IoChoice::Auto, SendsChoice::From(0)).unwrap().ring {
            test(Reactor::start_with(Some(ring), PausesChoice::Never).unwrap()).await;
        }
        test(Reactor::start().unwrap()).await;
    })
    .unwrap();
}

fn connect(reactor: &Rc<Reactor>) -> (Socket, File) {
    let (ours, theirs) = pair().unwrap();
    (Socket::new(ours, reactor).unwrap(), File::from(theirs))
}

/// A socket that takes a few kilobytes at once, and its peer.
fn connect_narrow(reactor: &Rc<Reactor>) -> (Socket, File) {
    let (ours, theirs) = pair().unwrap();
    socket2::SockRef::from(&ours).set_send_buffer_size(1).unwrap();
    (Socket::new(ours, reactor).unwrap(), File::from(theirs))
}

/// A socket whose peer reads what comes with the next submission, so that this has two sends.
fn another(reactor: &Rc<Reactor>) -> (Socket, File) {
    let (socket, peer) = connect(reactor);
    let _ = socket.send_soon(&mut b"another".to_vec());
    (socket, peer)
}

/// Everything that has arrived at the peer; true if that was the end.
fn arrived(peer: &mut File) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let ended = peer.read_to_end(&mut all);
    match ended {
        Ok(_) => (all, true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => (all, false),
        Err(error) => panic!("{error}"),
    }
}

/// Bytes of which every one can be told from its neighbours.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// Fills the socket, and returns what it took.
fn fill(socket: &Socket) -> Vec<u8> {
    let mut sent = Vec::new();
    let bytes = pattern(8_192);
    while let Some(count) = socket.try_send(&bytes, &[]).unwrap() {
        sent.extend_from_slice(&bytes[..count]);
    }
    sent
}

/// Sends all, as a response writer does.
async fn send_all(socket: &Socket, mut bytes: Vec<u8>) -> io::Result<usize> {
    let mut taken = socket.send_together(&mut bytes).await?;
    let mut rest = &*bytes;
    while !rest.is_empty() {
        match socket.try_send(rest, &[])? {
            Some(count) => {
                taken += count;
                rest = &rest[count..];
            }
            None => socket.writable().await,
        }
    }
    Ok(taken)
}

#[test]
fn sends_of_a_turn_go_out_with_one_call() {
    with_reactor(|reactor| async move {
        let (sockets, mut peers): (Vec<_>, Vec<_>) = (0..40).map(|_| connect(&reactor)).unzip();
        let tasks: Vec<_> = sockets
            .into_iter()
            .enumerate()
            .map(|(index, socket)| {
                event_loop::spawn(async move {
                    send_all(&socket, pattern(100 + index)).await.unwrap();
                    socket
                })
            })
            .collect();
        for ((index, task), peer) in tasks.into_iter().enumerate().zip(&mut peers) {
            let _open = task.await;
            assert_eq!(arrived(peer), (pattern(100 + index), false));
        }
        let calls = reactor.sends.calls.borrow();
        assert_eq!(*calls, if reactor.sends.is_on.get() { vec![40] } else { vec![] });
    });
}

#[test]
fn more_sends_than_a_ring_holds_all_go_out() {
    with_reactor(|reactor| async move {
        let mut open = Vec::new();
        for index in 0..2 * SENDS_MAX + 3 {
            let (socket, peer) = connect(&reactor);
            if !socket.send_soon(&mut pattern(index + 1)) {
                assert_eq!(socket.try_send(&pattern(index + 1), &[]).unwrap(), Some(index + 1));
            }
            open.push((socket, peer));
        }
        reactor.turns.next().await;
        for (index, (_socket, peer)) in open.iter_mut().enumerate() {
            assert_eq!(arrived(peer).0, pattern(index + 1));
        }
    });
}

#[test]
fn bytes_that_nobody_waits_for_any_more_go_out_unchanged() {
    with_reactor(|reactor| async move {
        let (_other, _others_peer) = another(&reactor);
        let (socket, mut peer) = connect(&reactor);
        {
            let mut sent = pin!(send_all(&socket, pattern(3_000)));
            poll_fn(|context| {
                let _ = sent.as_mut().poll(context);
                Poll::Ready(())
            })
            .await;
        }
        // What comes next takes other memory.
        let _scribbled = vec![0xff_u8; 3_000];
        reactor.turns.next().await;
        assert_eq!(arrived(&mut peer), (pattern(3_000), false));
        assert_eq!(send_all(&socket, b"next".to_vec()).await.unwrap(), 4);
        assert_eq!(arrived(&mut peer), (b"next".to_vec(), false));
    });
}

/// Asserts what arrives when something was handed over and the socket is used then.
fn assert_first(reactor: &Rc<Reactor>, then: fn(Socket) -> Option<Socket>, arrives: (&[u8], bool)) {
    let (_other, _others_peer) = another(reactor);
    let (socket, mut peer) = connect(reactor);
    if !socket.send_soon(&mut b"first".to_vec()) {
        socket.try_send(b"first", &[]).unwrap();
    }
    let _open = then(socket);
    let (bytes, ended) = arrived(&mut peer);
    assert_eq!((&*bytes, ended), arrives);
}

#[test]
fn what_was_handed_over_goes_out_before_anything_else_and_before_an_end() {
    with_reactor(|reactor| async move {
        let sends = |socket: Socket| {
            assert_eq!(socket.try_send(b"second", &[]).unwrap(), Some(6));
            Some(socket)
        };
        assert_first(&reactor, sends, (b"firstsecond", false));
        let finishes = |socket: Socket| {
            socket.finish();
            Some(socket)
        };
        assert_first(&reactor, finishes, (b"first", true));
        assert_first(&reactor, |_dropped| None, (b"first", true));
        let sends_two = |socket: Socket| {
            assert_eq!(socket.try_send(b"sec", b"ond").unwrap(), Some(6));
            Some(socket)
        };
        assert_first(&reactor, sends_two, (b"firstsecond", false));
        let splices = |socket: Socket| {
            let (from, mut source) = connect(&socket.registration().reactor);
            source.write_all(b"second").unwrap();
            let pipes = Pipes::default();
            let mut taken = pipes.take(6, Monotonic(1)).unwrap();
            let pipe = taken.pipe().unwrap();
            assert_eq!(pipe.fill(&from, 6).unwrap(), Some(6));
            assert_eq!(pipe.empty(&socket).unwrap(), Some(6));
            Some(socket)
        };
        assert_first(&reactor, splices, (b"firstsecond", false));
    });
}

#[test]
fn what_a_socket_does_not_take_goes_back_to_its_owner() {
    with_reactor(|reactor| async move {
        let (_other, _others_peer) = another(&reactor);
        let (socket, mut peer) = connect(&reactor);
        let before = fill(&socket);
        let mut bytes = pattern(5_000);
        assert_eq!(socket.send_together(&mut bytes).await.unwrap(), 0);
        assert_eq!(bytes, pattern(5_000));
        // It is known to be full, and reported when it is not.
        let socket = Rc::new(socket);
        let waiting = Rc::clone(&socket);
        let sent = event_loop::spawn(async move { send_all(&waiting, bytes).await.unwrap() });
        let mut all = Vec::new();
        while all.len() < before.len() + 5_000 {
            all.extend(arrived(&mut peer).0);
            reactor.turns.next().await;
        }
        assert_eq!(sent.await, 5_000);
        assert_eq!(all, [before, pattern(5_000)].concat());
    });
}

#[test]
fn what_a_socket_takes_a_part_of_goes_on_behind_that() {
    with_reactor(|reactor| async move {
        let (_other, _others_peer) = another(&reactor);
        let (socket, mut peer) = connect_narrow(&reactor);
        let mut bytes = pattern(BYTES_MAX);
        let taken = socket.send_together(&mut bytes).await.unwrap();
        if reactor.sends.is_on.get() {
            assert!((1..BYTES_MAX).contains(&taken), "{taken}");
        }
        assert_eq!(bytes, pattern(BYTES_MAX)[taken..]);
        assert_eq!(arrived(&mut peer), (pattern(BYTES_MAX)[..taken].to_vec(), false));
        // The same where nobody waits.
        let (_other, _others_peer) = another(&reactor);
        if socket.send_soon(&mut pattern(BYTES_MAX)) {
            let mut all = Vec::new();
            while all.len() < BYTES_MAX {
                reactor.turns.next().await;
                poll_fn(|context| {
                    let _ = socket.poll_readable(context);
                    Poll::Ready(())
                })
                .await;
                all.extend(arrived(&mut peer).0);
            }
            assert_eq!(all, pattern(BYTES_MAX));
            assert!(socket.is_quiet());
        }
    });
}

#[test]
fn what_nobody_waits_for_is_sent_while_the_socket_is_waited_for() {
    with_reactor(|reactor| async move {
        if !reactor.sends.is_on.get() {
            return;
        }
        let (_other, _others_peer) = another(&reactor);
        let (socket, mut peer) = connect(&reactor);
        let before = fill(&socket);
        assert!(socket.send_soon(&mut pattern(5_000)));
        assert!(!socket.is_quiet());
        let socket = Rc::new(socket);
        let waiting = Rc::clone(&socket);
        let read = event_loop::spawn(async move {
            loop {
                poll_fn(|context| waiting.poll_readable(context)).await;
                waiting.check_sent().unwrap();
                if let Some(count) = waiting.try_recv(&mut [0; 8]).unwrap() {
                    return count;
                }
            }
        });
        // It finds the socket full, and waits.
        for _ in 0..3 {
            reactor.turns.next().await;
        }
        let mut all = Vec::new();
        while all.len() < before.len() + 5_000 {
            all.extend(arrived(&mut peer).0);
            reactor.turns.next().await;
        }
        assert_eq!(all, [before, pattern(5_000)].concat());
        peer.write_all(b"reply").unwrap();
        assert_eq!(read.await, 5);
        assert!(socket.is_quiet());
    });
}

#[test]
fn an_error_reaches_the_owner_as_that_of_a_send_by_itself() {
    with_reactor(|reactor| async move {
        let (_other, _others_peer) = another(&reactor);
        let (socket, peer) = connect(&reactor);
        drop(peer);
        let error = send_all(&socket, pattern(10)).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        let (_other, _others_peer) = another(&reactor);
        let (socket, peer) = connect(&reactor);
        if socket.send_soon(&mut pattern(10)) {
            drop(peer);
            poll_fn(|context| socket.poll_readable(context)).await;
            // It stays.
            for _ in 0..2 {
                let error = socket.check_sent().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
            }
            assert!(!socket.is_quiet());
        }
    });
}

/// Lets the ring fail with a send of another socket and one of this, whose outcome it returns.
async fn fail(reactor: &Rc<Reactor>, failure: Failure, socket: &Socket) -> io::Result<usize> {
    let (_first, mut first_peer) = another(reactor);
    if let Some(ring) = reactor.sends.ring.borrow_mut().as_mut() {
        ring.fail(failure);
    }
    let was_on = reactor.sends.is_on.get();
    let outcome = send_all(socket, pattern(10)).await;
    assert!(!reactor.sends.is_on.get());
    assert_eq!(arrived(&mut first_peer).0, if was_on { b"another".to_vec() } else { Vec::new() });
    let (last, mut last_peer) = connect(reactor);
    assert!(!last.send_soon(&mut pattern(1)));
    assert_eq!(send_all(&last, b"alone".to_vec()).await.unwrap(), 5);
    assert_eq!(arrived(&mut last_peer), (b"alone".to_vec(), false));
    outcome
}

#[test]
fn a_ring_that_fails_loses_nothing_and_is_not_used_again() {
    with_reactor(|reactor| async move {
        let (socket, mut peer) = connect(&reactor);
        assert_eq!(fail(&reactor, Failure::Refused, &socket).await.unwrap(), 10);
        assert_eq!(arrived(&mut peer), (pattern(10), false));
    });
}

#[test]
fn what_may_have_been_sent_is_an_error_and_never_sent_again() {
    with_reactor(|reactor| async move {
        let (socket, mut peer) = connect(&reactor);
        let is_together = reactor.sends.is_on.get();
        let outcome = fail(&reactor, Failure::Silent, &socket).await;
        if is_together {
            assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EIO));
        }
        assert_eq!(arrived(&mut peer), (pattern(10), false));
    });
}

#[test]
fn small_sends_go_out_before_large_ones() {
    with_reactor(|reactor| async move {
        if !reactor.sends.is_on.get() {
            return;
        }
        let (_small, mut peer) = another(&reactor);
        let (large, _large_peer) = connect(&reactor);
        assert!(large.try_send(&pattern(1_000), &[]).unwrap().is_some());
        assert_eq!(arrived(&mut peer).0, b"");
        assert!(large.try_send(&pattern(20_000), &[]).unwrap().is_some());
        assert_eq!(arrived(&mut peer).0, b"another");
    });
}

#[test]
fn sends_of_a_turn_with_few_events_go_out_one_by_one() {
    assert_eq!(SendsChoice::parse("alone"), SendsChoice::Never);
    assert_eq!(SendsChoice::parse("3"), SendsChoice::From(3));
    assert!(matches!(SendsChoice::parse(""), SendsChoice::From(2..)));
    event_loop::run(|| async {
        let opened = ring::open(IoChoice::Auto, SendsChoice::From(3)).unwrap();
        if opened.ring.is_none() {
            return;
        }
        let reactor = Reactor::start_with(opened.ring, PausesChoice::Never).unwrap();
        let (socket, mut peer) = connect(&reactor);
        for (events, is_taken) in [(2, false), (3, true), (0, false)] {
            reactor.sends.begin_turn(events);
            assert_eq!(socket.send_soon(&mut b"x".to_vec()), is_taken, "{events} events");
            reactor.sends.submit();
        }
        assert_eq!(arrived(&mut peer), (b"x".to_vec(), false));
    })
    .unwrap();
}
