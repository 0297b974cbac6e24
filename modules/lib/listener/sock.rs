// SPDX-License-Identifier: GPL-2.0-only

//! Sockets: the calls into `modules/shim/listener.c`, made safe.

use super::super::message::Message;
use core::ffi::c_void;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;

/// An IP address of either family, a port, and (link-local IPv6) an interface.
///
/// The mirror of `struct virgo_addr`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Addr {
    family: u16,
    port: u16,
    scope: u32,
    ip: [u8; 16],
}

kernel::static_assert!(core::mem::size_of::<Addr>() == 24);

impl Addr {
    /// An IPv4 address.
    pub const fn v4(ip: [u8; 4], port: u16) -> Self {
        let [a, b, c, d] = ip;
        Self {
            family: 4,
            port,
            scope: 0,
            ip: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    /// An IPv6 address; `scope` is the interface of a link-local one, else 0.
    pub const fn v6(ip: [u8; 16], port: u16, scope: u32) -> Self {
        Self {
            family: 6,
            port,
            scope,
            ip,
        }
    }

    /// 127.0.0.1, the default of every listener.
    pub const fn loopback(port: u16) -> Self {
        Self::v4([127, 0, 0, 1], port)
    }

    /// No address at all.
    pub const fn none() -> Self {
        Self {
            family: 0,
            port: 0,
            scope: 0,
            ip: [0; 16],
        }
    }

    /// The port, in host order.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The interface of a link-local IPv6 address, else 0.
    pub const fn scope(&self) -> u32 {
        self.scope
    }

    /// The four bytes of an IPv4 address, also of one mapped into IPv6.
    pub fn ipv4(&self) -> Option<[u8; 4]> {
        match (self.family, &self.ip) {
            (4, [a, b, c, d, ..]) | (6, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]) => {
                Some([*a, *b, *c, *d])
            }
            _ => None,
        }
    }

    /// The sixteen bytes of an IPv6 address which is not a mapped IPv4 one.
    pub fn ipv6(&self) -> Option<[u8; 16]> {
        (self.family == 6 && self.ipv4().is_none()).then_some(self.ip)
    }
}

impl core::fmt::Display for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if let Some([a, b, c, d]) = self.ipv4() {
            return write!(f, "{a}.{b}.{c}.{d}:{}", self.port);
        }
        let Some(ip) = self.ipv6() else {
            return f.write_str("unknown");
        };
        f.write_str("[")?;
        for (i, pair) in ip.chunks_exact(2).enumerate() {
            if let [hi, lo] = pair {
                let sep = if i == 0 { "" } else { ":" };
                write!(f, "{sep}{:x}", u16::from_be_bytes([*hi, *lo]))?;
            }
        }
        write!(f, "]:{}", self.port)
    }
}

/// `struct socket`; never looked into.
#[repr(C)]
struct RawSocket {
    _opaque: [u8; 0],
}

/// The mirror of `struct virgo_sock_hook`: what a socket's callbacks call.
#[repr(C)]
pub(super) struct RawHook {
    pub(super) event: unsafe extern "C" fn(*mut RawHook),
}

/// The mirror of `struct virgo_sock_saved`; never looked into.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Saved([usize; 3]);

impl Saved {
    pub(super) const fn new() -> Self {
        Self([0; 3])
    }
}

/// `VIRGO_SOCK_ENDING`.
pub(super) const ENDING: u32 = 1;

extern "C" {
    fn virgo_sock_listen(addr: *const Addr, backlog: i32, out: *mut *mut RawSocket) -> i32;
    fn virgo_sock_accept(
        listener: *mut RawSocket,
        send_buffer: u32,
        peer: *mut Addr,
        out: *mut *mut RawSocket,
    ) -> i32;
    fn virgo_sock_connect(
        addr: *const Addr,
        from: *const Addr,
        connect_ms: u32,
        io_ms: u32,
        out: *mut *mut RawSocket,
    ) -> i32;
    fn virgo_sock_free(sock: *mut RawSocket);
    fn virgo_sock_local(sock: *mut RawSocket, addr: *mut Addr) -> i32;
    fn virgo_sock_shutdown(sock: *mut RawSocket, how: i32) -> i32;
    fn virgo_sock_attach_listener(sock: *mut RawSocket, hook: *mut RawHook, saved: *mut Saved);
    fn virgo_sock_attach(
        sock: *mut RawSocket,
        hook: *mut RawHook,
        listener: *const Saved,
        saved: *mut Saved,
    );
    fn virgo_sock_detach(sock: *mut RawSocket, saved: *const Saved);
    fn virgo_sock_recv(
        sock: *mut RawSocket,
        buf: *mut c_void,
        len: usize,
        flags: i32,
        status: *mut u32,
    ) -> isize;
    fn virgo_sock_ending(sock: *mut RawSocket) -> i32;
    fn virgo_sock_since_segment_ns(sock: *mut RawSocket) -> u64;
    fn virgo_sock_send(
        sock: *mut RawSocket,
        vec: *mut bindings::kvec,
        n: usize,
        len: usize,
        flags: i32,
    ) -> isize;
    fn virgo_sock_send_pages(
        sock: *mut RawSocket,
        page: *mut c_void,
        from: usize,
        len: usize,
        flags: i32,
    ) -> isize;
    fn virgo_sock_recv_bh(
        sock: *mut RawSocket,
        buf: *mut c_void,
        len: usize,
        status: *mut u32,
    ) -> isize;
    fn virgo_sock_send_bh(
        sock: *mut RawSocket,
        vec: *mut bindings::kvec,
        n: usize,
        len: usize,
    ) -> isize;
}

/// The most pieces one send gathers.
pub(super) const MAX_PIECES: usize = 16;

/// An error which the `kernel` crate has no name for.
pub(super) fn errno(code: u32) -> Error {
    // CAST: a small constant.
    Error::from_errno(-(code as i32))
}

const DONTWAIT: i32 = bindings::MSG_DONTWAIT as i32; // CAST: a flag bit.

/// Which half of a connection [`Socket::shutdown`] ends.
#[derive(Clone, Copy)]
pub enum Half {
    /// We send no more: the peer reads the end of the stream.
    Send,
    /// Both: whoever waits on the socket is woken.
    Both,
}

/// A TCP socket of the kernel's own, in the initial network namespace.
///
/// # Invariants
///
/// The pointer is a live `struct socket` with its `sk`, of which this value is
/// the only owner.
pub(super) struct Socket(NonNull<RawSocket>);

// SAFETY: A socket belongs to no thread, and every call made through `&Socket`
// takes the socket's own lock.
unsafe impl Send for Socket {}
// SAFETY: As above.
unsafe impl Sync for Socket {}

fn length(ret: isize) -> Result<usize> {
    usize::try_from(ret).map_err(|_| Error::from_errno(i32::try_from(ret).unwrap_or(-5)))
}

impl Socket {
    /// # Safety
    ///
    /// `ret` is the answer of a call which stores an owned socket in `raw`
    /// when, and only when, it answers 0.
    unsafe fn take(ret: i32, raw: *mut RawSocket) -> Result<Self> {
        to_result(ret)?;
        // INVARIANT: By the function's safety requirements.
        NonNull::new(raw).map(Self).ok_or(EIO)
    }

    /// Binds and listens. Process context; sleeps.
    pub(super) fn listen(addr: &Addr, backlog: i32) -> Result<Self> {
        let mut raw = core::ptr::null_mut();
        // SAFETY: Both pointers are good for the length of the call.
        let ret = unsafe { virgo_sock_listen(addr, backlog, &mut raw) };
        // SAFETY: `virgo_sock_listen` stores a socket it hands over, at 0.
        unsafe { Self::take(ret, raw) }
    }

    /// The next waiting connection, or `EAGAIN`. Process context.
    pub(super) fn accept(&self, send_buffer: u32) -> Result<(Self, Addr)> {
        let mut raw = core::ptr::null_mut();
        let mut peer = Addr::none();
        // SAFETY: `self` is live by the invariant; the others are good for the
        // length of the call.
        let ret = unsafe { virgo_sock_accept(self.0.as_ptr(), send_buffer, &mut peer, &mut raw) };
        // SAFETY: `virgo_sock_accept` stores a socket it hands over, at 0.
        Ok((unsafe { Self::take(ret, raw) }?, peer))
    }

    /// Connects, from an address of ours where one is given (its port does not count). Process
    /// context; sleeps for `connect_ms` at most.
    pub(super) fn connect(
        addr: &Addr,
        from: Option<&Addr>,
        connect_ms: u32,
        io_ms: u32,
    ) -> Result<Self> {
        let mut raw = core::ptr::null_mut();
        let from = from.map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: All pointers are good for the length of the call; `from` may be null.
        let ret = unsafe { virgo_sock_connect(addr, from, connect_ms, io_ms, &mut raw) };
        // SAFETY: `virgo_sock_connect` stores a socket it hands over, at 0.
        unsafe { Self::take(ret, raw) }
    }

    /// The address bound to. Process context; sleeps.
    pub(super) fn local(&self) -> Result<Addr> {
        let mut addr = Addr::none();
        // SAFETY: `self` is live by the invariant; `addr` outlives the call.
        to_result(unsafe { virgo_sock_local(self.0.as_ptr(), &mut addr) })?;
        Ok(addr)
    }

    /// Ends one half or both. Process context; sleeps.
    pub(super) fn shutdown(&self, half: Half) -> Result {
        let how = match half {
            Half::Send => 1,
            Half::Both => 2,
        };
        // SAFETY: `self` is live by the invariant.
        to_result(unsafe { virgo_sock_shutdown(self.0.as_ptr(), how) })
    }

    /// Routes the arrivals at a listening socket to `hook`.
    ///
    /// # Safety
    ///
    /// `hook` stays valid until [`detach`](Self::detach) has returned.
    pub(super) unsafe fn attach_listener(&self, hook: *mut RawHook) -> Saved {
        let mut saved = Saved::new();
        // SAFETY: `self` is live by the invariant, `hook` by the caller's word.
        unsafe { virgo_sock_attach_listener(self.0.as_ptr(), hook, &mut saved) };
        saved
    }

    /// Routes an accepted connection's events to `hook`; `listener` is what
    /// its listening socket's [`attach_listener`](Self::attach_listener) gave.
    ///
    /// # Safety
    ///
    /// `hook` stays valid until [`detach`](Self::detach) has returned.
    pub(super) unsafe fn attach(&self, hook: *mut RawHook, listener: &Saved) -> Saved {
        let mut saved = Saved::new();
        // SAFETY: `self` is live by the invariant, `hook` by the caller's word.
        unsafe { virgo_sock_attach(self.0.as_ptr(), hook, listener, &mut saved) };
        saved
    }

    /// Gives the socket its own callbacks back: when this returns, none of
    /// them will look at the hook again. Any context but hard interrupt.
    ///
    /// # Safety
    ///
    /// `saved` came from an attach of this very socket.
    pub(super) unsafe fn detach(&self, saved: &Saved) {
        // SAFETY: `self` is live by the invariant; `saved` holds callbacks of
        // this socket by the caller's word.
        unsafe { virgo_sock_detach(self.0.as_ptr(), saved) }
    }

    /// Receives into the room after the contents of `buf`, at most `want`
    /// bytes and the room there is; and whether the stream is [`ENDING`].
    /// No bytes: the end.
    ///
    /// Process context. With `wait`, sleeps until the socket's receive timeout
    /// (then `EAGAIN`); else `EAGAIN` at once.
    pub(super) fn recv(
        &self,
        buf: &mut KVVec<u8>,
        want: usize,
        wait: bool,
    ) -> Result<(usize, u32)> {
        let room = buf.spare_capacity_mut();
        let len = room.len().min(want);
        let flags = if wait { 0 } else { DONTWAIT };
        let mut status = 0;
        let (sock, to) = (self.0.as_ptr(), room.as_mut_ptr().cast());
        // SAFETY: `self` is live by the invariant; `room` is `len` writable bytes.
        let n = length(unsafe { virgo_sock_recv(sock, to, len, flags, &mut status) })?.min(len);
        // SAFETY: `n` is within the room, and the kernel has written that many.
        unsafe { buf.inc_len(n) };
        Ok((n, status))
    }

    /// The peer has ended its half, or the connection is broken. Any context.
    pub(super) fn ending(&self) -> bool {
        // SAFETY: `self` is live by the invariant.
        unsafe { virgo_sock_ending(self.0.as_ptr()) != 0 }
    }

    /// Nanoseconds since the last segment of the peer's. Any context.
    pub(super) fn since_segment_ns(&self) -> u64 {
        // SAFETY: `self` is live by the invariant, and a TCP socket like all of these.
        unsafe { virgo_sock_since_segment_ns(self.0.as_ptr()) }
    }

    /// [`recv`](Self::recv) for softirq, and the `ENDING` flag.
    pub(super) fn recv_bh(&self, buf: &mut KVVec<u8>, want: usize) -> Result<(usize, u32)> {
        let room = buf.spare_capacity_mut();
        let len = room.len().min(want);
        let mut status = 0;
        // SAFETY: As in `recv`.
        let ret = unsafe {
            virgo_sock_recv_bh(self.0.as_ptr(), room.as_mut_ptr().cast(), len, &mut status)
        };
        let n = length(ret)?.min(len);
        // SAFETY: As in `recv`.
        unsafe { buf.inc_len(n) };
        Ok((n, status))
    }

    /// Sends pieces one after the other; answers how many bytes were taken.
    ///
    /// Process context. With `wait`, sleeps until all are taken or the send
    /// timeout; else takes what fits, and is `EAGAIN` where nothing does.
    pub(super) fn send(&self, pieces: &[&[u8]], wait: bool) -> Result<usize> {
        let (mut vec, n, len) = kvecs(pieces);
        let flags = if wait { 0 } else { DONTWAIT };
        // SAFETY: `self` is live by the invariant; the first `n` of `vec` name
        // `len` readable bytes which the pieces' borrow keeps.
        length(unsafe { virgo_sock_send(self.0.as_ptr(), vec.as_mut_ptr(), n, len, flags) })
    }

    /// Sends what a message has from its byte `from` on, without copying it; how many bytes were
    /// taken, `EAGAIN` where none fits. Process context.
    pub(super) fn send_message(&self, message: &Message, from: usize) -> Result<usize> {
        let len = message.bytes().len().saturating_sub(from);
        let (sock, page) = (self.0.as_ptr(), message.page());
        // SAFETY: `self` is live by the invariant; the page's bytes up to `from + len` are the
        // message's, and do not change while the socket has references on it.
        length(unsafe { virgo_sock_send_pages(sock, page, from, len, DONTWAIT) })
    }

    /// [`send`](Self::send) for softirq, never waiting.
    pub(super) fn send_bh(&self, pieces: &[&[u8]]) -> Result<usize> {
        let (mut vec, n, len) = kvecs(pieces);
        // SAFETY: As in `send`.
        length(unsafe { virgo_sock_send_bh(self.0.as_ptr(), vec.as_mut_ptr(), n, len) })
    }
}

fn kvecs(pieces: &[&[u8]]) -> ([bindings::kvec; MAX_PIECES], usize, usize) {
    let mut n = 0;
    let mut len = 0usize;
    let vec = core::array::from_fn(|i| match pieces.get(i) {
        Some(piece) => {
            n = i + 1;
            len = len.saturating_add(piece.len());
            bindings::kvec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            }
        }
        None => bindings::kvec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        },
    });
    (vec, n, len)
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: We own the live socket by the invariant, and it is not used again.
        unsafe { virgo_sock_free(self.0.as_ptr()) }
    }
}

/// A blocking TCP client connection.
///
/// Every method may be called from any thread, at the same time as others;
/// all need process context and may sleep. [`shutdown`](Self::shutdown) from
/// another thread is how a waiting one is got out.
///
/// ```ignore
/// let c = TcpStream::connect(&Addr::v4([10, 77, 0, 2], 60000), 2000, 5000)?;
/// c.send_all(b"request\n")?;
/// let n = c.recv(&mut buf, 4096)?; // 0: the peer has closed; EAGAIN: timed out
/// ```
pub struct TcpStream(Socket);

impl TcpStream {
    /// Connects within `connect_ms`; each later send or receive waits `io_ms`
    /// at most (0: for ever).
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED`, `EHOSTUNREACH`, ... as connect(2); `ETIMEDOUT` when the
    /// time is over.
    pub fn connect(addr: &Addr, connect_ms: u32, io_ms: u32) -> Result<Self> {
        Self::connect_as(addr, None, connect_ms, io_ms)
    }

    /// As [`connect`](Self::connect), from the address `from` of ours, whose port does not count:
    /// the other knows us by it.
    pub fn connect_from(from: &Addr, addr: &Addr, connect_ms: u32, io_ms: u32) -> Result<Self> {
        Self::connect_as(addr, Some(from), connect_ms, io_ms)
    }

    fn connect_as(addr: &Addr, from: Option<&Addr>, connect_ms: u32, io_ms: u32) -> Result<Self> {
        match Socket::connect(addr, from, connect_ms, io_ms) {
            Err(e) if e == errno(bindings::EINPROGRESS) => Err(ETIMEDOUT),
            r => r.map(Self),
        }
    }

    /// Sends of the pieces, one after the other, what the socket takes at once; how many bytes.
    /// At most sixteen pieces. Does not wait for the peer.
    pub fn send_now(&self, pieces: &[&[u8]]) -> Result<usize> {
        match self.0.send(pieces, false) {
            Err(e) if e == EAGAIN => Ok(0),
            r => r,
        }
    }

    /// Sends from the front of `data`, waiting for room; how many bytes went out. `ETIMEDOUT` when
    /// the peer takes nothing for the time given to [`connect`](Self::connect): none did, then.
    pub fn send_some(&self, data: &[u8]) -> Result<usize> {
        match self.0.send(&[data], true) {
            Err(e) if e == EAGAIN => Err(ETIMEDOUT),
            r => r,
        }
    }

    /// Sends all of `data`.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` when the peer takes nothing for the time given to
    /// [`connect`](Self::connect): how much went out is then unknown, so shut
    /// the connection down. `EPIPE`, `ECONNRESET` when it is gone.
    pub fn send_all(&self, data: &[u8]) -> Result {
        let mut rest = data;
        while !rest.is_empty() {
            match self.0.send(&[rest], true) {
                Ok(n) => rest = rest.get(n..).ok_or(EIO)?,
                Err(e) if e == EAGAIN => return Err(ETIMEDOUT),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Receives at most `want` bytes to the end of `buf`, growing it.
    ///
    /// `Ok(0)`: the peer has closed. `ETIMEDOUT`: nothing came in time.
    pub fn recv(&self, buf: &mut KVVec<u8>, want: usize) -> Result<usize> {
        buf.reserve(want, GFP_KERNEL)?;
        match self.0.recv(buf, want, true) {
            Err(e) if e == EAGAIN => Err(ETIMEDOUT),
            r => r.map(|(n, _)| n),
        }
    }

    /// Nanoseconds since the peer's machine last sent a segment, be it an acknowledgement alone; to
    /// the jiffy, and never more than it was. Any context.
    pub fn since_segment_ns(&self) -> u64 {
        self.0.since_segment_ns()
    }

    /// Ends the connection or the sending half; wakes whoever waits on it.
    pub fn shutdown(&self, half: Half) -> Result {
        self.0.shutdown(half)
    }
}
