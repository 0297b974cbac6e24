// SPDX-License-Identifier: GPL-2.0-only

//! Port 30000: memcached's text protocol, and the original's words for blocks.
//!
//! Which of the two a request is, its first word says. Named values are served in softirq where
//! that is possible; what may sleep is left for process context.

use kernel::{
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use crate::{
    blocks::{
        Block,
        Blocks,
        Maker, //
    },
    control::Pool,
    lib::{
        compat::{
            eremote,
            estale, //
        },
        listener::{
            answer_to,
            Addr,
            Config,
            Consumed,
            Listener,
            Refusal,
            Reply,
            Service,
            Stats,
            Turn, //
        },
        zeroed::zeroed, //
    },
    logic::kv::Mode,
    meta,
    proto::{
        mem,
        memcached::{
            self,
            Request,
            Step,
            Verb, //
        },
        uapi::Vuid, //
    },
    remote, stats,
    store::{
        Context,
        CountRequest,
        Failure,
        PutRequest,
        Store, //
    },
    text::Text,
};

/// Bytes of answers after which the rest of a request for many keys is left for later.
const ENOUGH: usize = 16 << 10;
/// More than what an answer with a value has beside the key and the value: words, three numbers, ends.
const HEAD_MAX: usize = 80;
/// Behind the values of a request's keys.
const END: &[u8] = b"END\r\n";
/// Bytes before the keys of a plain get.
const QUICK: usize = b"get ".len();
/// The most bytes of a block in one answer.
const ANSWER_MAX: u64 = 4 << 20;

/// What the port's settings are, for who asks.
#[derive(Clone, Copy, Default)]
pub(crate) struct PortSettings {
    pub(crate) port: u32,
    pub(crate) max_connections: u32,
    pub(crate) idle_ms: u32,
}

/// The port, which is opened last and closed first.
#[pin_data]
pub(crate) struct Port {
    settings: PortSettings,
    #[pin]
    listener: Mutex<Option<Listener<Door>>>,
}

impl Port {
    pub(crate) fn new(settings: PortSettings) -> impl PinInit<Self> {
        pin_init!(Self {
            settings,
            listener <- kernel::new_mutex!(None, "virgo_mempool_port"),
        })
    }

    pub(crate) fn settings(&self) -> PortSettings {
        self.settings
    }

    /// The listener's numbers. Process context.
    pub(crate) fn figures(&self) -> PortFigures {
        match &*self.listener.lock() {
            Some(listener) => PortFigures::new(&listener.stats()),
            None => PortFigures::default(),
        }
    }

    fn open(&self, listener: Listener<Door>) {
        *self.listener.lock() = Some(listener);
    }

    fn close(&self) {
        // Outside the lock: requests that ask for the numbers are waited for.
        let listener = self.listener.lock().take();
        drop(listener);
    }
}

/// The listener's numbers, as far as they are told.
#[derive(Clone, Copy, Default)]
pub(crate) struct PortFigures {
    pub(crate) active: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) idle_timeouts: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl PortFigures {
    fn new(stats: &Stats) -> Self {
        PortFigures {
            active: stats.active,
            accepted: stats.accepted,
            refused: stats.refused,
            idle_timeouts: stats.idle_timeouts,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
        }
    }
}

/// The open port. Drop closes it and all connections.
pub(crate) struct OpenPort {
    port: Option<Arc<Port>>,
}

impl OpenPort {
    /// Opens the port; port 0 means none.
    pub(crate) fn new(config: Config, pool: Arc<Pool>) -> Result<Self> {
        if pool.port.settings().port == 0 {
            return Ok(OpenPort { port: None });
        }
        let port = pool.port.clone();
        let door = Arc::new(Door { pool }, GFP_KERNEL)?;
        port.open(Listener::new(config, door)?);
        Ok(OpenPort { port: Some(port) })
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        if let Some(port) = &self.port {
            port.close();
        }
    }
}

/// The service.
pub(crate) struct Door {
    pool: Arc<Pool>,
}

/// What a connection is in the middle of.
enum Now {
    /// Nothing.
    Request,
    /// Bytes to pass over.
    Swallow(usize),
    /// The rest of a request for many keys.
    Keys { cas: bool, touch: Option<i64> },
    /// Bytes that go into a block.
    Fill {
        block: Arc<Block>,
        vuid: Vuid,
        at: usize,
        left: usize,
    },
    /// The end of those bytes.
    FillEnd { vuid: Vuid },
}

/// A connection.
pub(crate) struct Conn {
    now: Now,
}

/// What the words of the port are said to.
struct Words<'a>(&'a Pool);

/// Serves `text` as the port would serve a connection that sent it and ended. What it is answered,
/// at most `limit` bytes (`EMSGSIZE`). `EINVAL` for less than a request, or what closes a
/// connection. Process context; may sleep.
pub(crate) fn serve_words(pool: &Pool, text: &[u8], limit: usize) -> Result<KVVec<u8>> {
    let mut conn = Conn { now: Now::Request };
    let words = Words(pool);
    answer_to(text, limit, |data, out| {
        words.input(&mut conn, data, out, Context::Network)
    })
}

impl Words<'_> {
    fn store(&self) -> &Store {
        &self.0.store
    }

    fn blocks(&self) -> &Blocks {
        &self.0.blocks
    }

    // ------------------------------------------------------------ values

    /// Answers with the value of a key, if it is there, and then with `end`.
    fn value(
        &self,
        key: &[u8],
        with_cas: bool,
        touch: Option<i64>,
        end: &'static [u8],
        out: &mut Reply,
    ) {
        let store = self.store();
        let hash = store.hash(key);
        let now = store.now();
        let exp = touch.map(|time| store.expiry(time));
        loop {
            let (mut large, mut need) = (None, 0);
            {
                let Some(mut bank) = store.lock(hash) else {
                    out.push(end);
                    return;
                };
                let bank = &mut *bank;
                let Some((at, item)) = bank.shard.get(hash, key, now) else {
                    let tally = &mut bank.tally;
                    tally.get_misses = tally.get_misses.wrapping_add(1);
                    if exp.is_some() {
                        tally.touch_misses = tally.touch_misses.wrapping_add(1);
                    }
                    out.push(end);
                    return;
                };
                let inline = match item.large {
                    Some(_) => 0,
                    None => item.value.len(),
                };
                let total = key.len().saturating_add(inline).saturating_add(HEAD_MAX);
                if let Some(mut pen) = out.pen(total) {
                    pen.push(b"VALUE ");
                    pen.push(key);
                    pen.push(b" ");
                    pen.number(item.flags.into());
                    pen.push(b" ");
                    // CAST: usize fits u64.
                    pen.number(item.value.len() as u64);
                    if with_cas {
                        pen.push(b" ");
                        pen.number(item.cas);
                    }
                    pen.push(b"\r\n");
                    match item.large {
                        Some(big) => large = Some(big.clone()),
                        None => {
                            pen.push(item.value);
                            pen.push(b"\r\n");
                            pen.push(end);
                        }
                    }
                    pen.down();
                    bank.shard.hit(at, now);
                    bank.tally.get_hits = bank.tally.get_hits.wrapping_add(1);
                    if let Some(exp) = exp {
                        bank.shard.set_exp(at, exp);
                        bank.tally.touch_hits = bank.tally.touch_hits.wrapping_add(1);
                        store.changed(bank, hash, key, now);
                    }
                } else {
                    need = total;
                }
            }
            if need > 0 {
                if out.reserve(need) {
                    continue;
                }
                return;
            }
            if let Some(big) = large {
                out.push_shared(big.0);
                out.push(b"\r\n");
                out.push(end);
            }
            return;
        }
    }

    /// Answers for keys until there is enough to send; the keys that are left.
    fn values<'a>(
        &self,
        mut keys: memcached::Words<'a>,
        with_cas: bool,
        touch: Option<i64>,
        out: &mut Reply,
    ) -> Option<memcached::Words<'a>> {
        let Some(mut key) = keys.next() else {
            out.push(END);
            return None;
        };
        // The first one in any case, so that there is progress.
        loop {
            let left = keys;
            let Some(next) = keys.next() else {
                self.value(key, with_cas, touch, END, out);
                return None;
            };
            self.value(key, with_cas, touch, b"", out);
            if out.len() >= ENOUGH {
                return Some(left);
            }
            key = next;
        }
    }

    /// What of a line is done with, where the keys `left` are not: all before them. `text` is the
    /// line without its end, `taken` its bytes with it.
    fn resume(
        &self,
        conn: &mut Conn,
        taken: usize,
        text: &[u8],
        left: Option<memcached::Words<'_>>,
        with_cas: bool,
        touch: Option<i64>,
    ) -> Consumed {
        let Some(left) = left else {
            conn.now = Now::Request;
            return Consumed::done(taken);
        };
        conn.now = Now::Keys {
            cas: with_cas,
            touch,
        };
        Consumed::done(text.len().saturating_sub(left.rest().len()))
    }

    /// A request that stores: set, add, and so on.
    #[allow(clippy::too_many_arguments, reason = "the parts of a request")]
    fn store_request(
        &self,
        conn: &mut Conn,
        data: &[u8],
        taken: usize,
        put: PutRequest<'_>,
        length: usize,
        quiet: bool,
        context: Context,
        out: &mut Reply,
    ) -> Consumed {
        let store = self.store();
        let answer = |out: &mut Reply, text: &[u8]| {
            if !quiet {
                out.push(text);
            }
        };
        if !store.fits(put.key.len(), length) {
            answer(out, memcached::TOO_LARGE);
            if put.mode == Mode::Set {
                // As memcached: what was there would be out of date.
                let _ = store.delete(put.key, None);
            }
            return conn.swallow(taken, length);
        }
        let end = taken.saturating_add(length);
        let whole = end.saturating_add(2);
        let value = match data.get(end..whole) {
            None => return Consumed::more(),
            Some(b"\r\n") => data.get(taken..end).unwrap_or(&[]),
            Some(_) => {
                answer(out, memcached::BAD_CHUNK);
                return Consumed::done(whole);
            }
        };
        let put = PutRequest { value, ..put };
        match store.put(&put, context) {
            Ok(_) => answer(out, b"STORED\r\n"),
            Err(Failure::Exists) => answer(out, b"EXISTS\r\n"),
            Err(Failure::NotFound) => answer(out, b"NOT_FOUND\r\n"),
            Err(Failure::NotStored) => answer(out, b"NOT_STORED\r\n"),
            Err(Failure::TooLarge) => answer(out, memcached::TOO_LARGE),
            Err(Failure::WouldSleep) => return Consumed::sleep(0),
            Err(Failure::NoMemory | Failure::NotNumber) => {
                answer(out, memcached::NO_MEMORY);
                if put.mode == Mode::Set {
                    // As above.
                    let _ = store.delete(put.key, None);
                }
            }
        }
        Consumed::done(whole)
    }

    /// One of memcached's requests.
    fn memcached(
        &self,
        conn: &mut Conn,
        data: &[u8],
        out: &mut Reply,
        context: Context,
    ) -> Consumed {
        let store = self.store();
        let (request, taken) = match memcached::step(data) {
            Step::Whole(request, taken) => (request, taken),
            Step::Wrong {
                answer,
                taken,
                swallow,
                quiet,
            } => {
                if !quiet {
                    out.push(answer);
                }
                if swallow > 0 {
                    return conn.swallow(taken, swallow.saturating_sub(2));
                }
                return Consumed::done(taken);
            }
            Step::Part => return Consumed::more(),
            Step::TooLong => {
                out.push(b"CLIENT_ERROR line too long\r\n");
                return Consumed::close(data.len());
            }
            Step::Binary => return Consumed::close(data.len()),
        };
        match request {
            Request::Get { keys, cas, touch } => {
                let left = self.values(keys, cas, touch, out);
                let line = data.get(..taken.saturating_sub(1)).unwrap_or(data);
                let text = line.strip_suffix(b"\r").unwrap_or(line);
                self.resume(conn, taken, text, left, cas, touch)
            }
            Request::Store {
                verb,
                key,
                flags,
                exptime,
                length,
                cas,
                quiet,
            } => {
                let put = PutRequest {
                    flags,
                    exp: store.expiry(exptime),
                    mode: match verb {
                        Verb::Set => Mode::Set,
                        Verb::Add => Mode::Add,
                        Verb::Replace => Mode::Replace,
                        Verb::Append => Mode::Append,
                        Verb::Prepend => Mode::Prepend,
                    },
                    cas,
                    ..PutRequest::new(key, &[])
                };
                self.store_request(conn, data, taken, put, length, quiet, context, out)
            }
            Request::Meta(verb, meta) => {
                meta::serve(store, conn, verb, &meta, data, taken, context, out)
            }
            Request::Delete { key, quiet } => {
                let answer: &[u8] = match store.delete(key, None) {
                    Ok(()) => b"DELETED\r\n",
                    Err(_) => b"NOT_FOUND\r\n",
                };
                if !quiet {
                    out.push(answer);
                }
                Consumed::done(taken)
            }
            Request::Count {
                key,
                delta,
                decrement,
                quiet,
            } => {
                let count = CountRequest {
                    key,
                    delta,
                    decrement,
                    initial: None,
                    cas: None,
                    new_cas: None,
                };
                let mut text = Text::<32>::new();
                let answer = match store.count(&count, context) {
                    Ok((number, _)) => text.number(number).push(b"\r\n").get(),
                    Err(Failure::NotFound) => b"NOT_FOUND\r\n",
                    Err(Failure::NotNumber) => memcached::NOT_NUMBER,
                    Err(Failure::WouldSleep) => return Consumed::sleep(0),
                    Err(_) => b"SERVER_ERROR out of memory\r\n",
                };
                if !quiet {
                    out.push(answer);
                }
                Consumed::done(taken)
            }
            Request::Touch {
                key,
                exptime,
                quiet,
            } => {
                let found = store.touch(key, store.expiry(exptime));
                if !quiet {
                    out.push(if found {
                        b"TOUCHED\r\n"
                    } else {
                        b"NOT_FOUND\r\n"
                    });
                }
                Consumed::done(taken)
            }
            Request::MetaNothing => {
                out.push(b"MN\r\n");
                Consumed::done(taken)
            }
            Request::Version => {
                out.push(b"VERSION ");
                out.push(stats::VERSION.as_bytes());
                out.push(b"\r\n");
                Consumed::done(taken)
            }
            Request::Verbosity { level, quiet } => {
                store.set_verbosity(level);
                if !quiet {
                    out.push(b"OK\r\n");
                }
                Consumed::done(taken)
            }
            Request::Quit => Consumed::close(taken),
            // The others may sleep.
            _ if context == Context::Softirq => Consumed::sleep(0),
            Request::Stats(what) => {
                stats::answer(self.0, what, out);
                Consumed::done(taken)
            }
            Request::FlushAll { delay, quiet } => {
                // A time that is far away is Unix time, as elsewhere.
                let exp = store.expiry(delay.max(0));
                let delay = exp.saturating_sub(store.now());
                self.0.flush_all(if exp == 0 { 0 } else { delay });
                if !quiet {
                    out.push(b"OK\r\n");
                }
                Consumed::done(taken)
            }
            Request::MemoryLimit { megabytes, quiet } => {
                let bytes = megabytes.saturating_mul(1 << 20);
                let answer: &[u8] = match store.set_memory_limit(bytes) {
                    Ok(()) => b"OK\r\n",
                    Err(_) => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
                };
                if !quiet {
                    out.push(answer);
                }
                Consumed::done(taken)
            }
        }
    }

    // ------------------------------------------------------------ blocks

    /// Finds a block of this node.
    fn find(&self, vuid: &Vuid) -> Result<Arc<Block>> {
        if remote::node_of(vuid).is_some() {
            return Err(eremote());
        }
        let block = self.blocks().find(vuid)?;
        if block.stripes().is_some() {
            return Err(eremote());
        }
        Ok(block)
    }

    fn tell(error: Error, out: &mut Reply) {
        use core::fmt::Write;
        let answer: &[u8] = if error == estale() {
            b"ERR vuid no such block, or it was freed\r\n"
        } else if error == eremote() {
            b"ERR node the block is on another node: by ioctl it is reached from here\r\n"
        } else if error == ERANGE {
            b"ERR range past the end of the block\r\n"
        } else if error == EFBIG {
            b"ERR length more than 67108864 bytes\r\n"
        } else if error == EINVAL {
            b"ERR length a block has at least 1 byte\r\n"
        } else if error == ENOSPC {
            b"ERR limit block_limit or max_blocks is reached\r\n"
        } else if error == ENOMEM {
            b"ERR memory the machine has none left for this\r\n"
        } else {
            // A reply out of room closes the connection: nothing else to do.
            let _ = write!(out, "ERR errno {}\r\n", error.to_errno());
            return;
        };
        out.push(answer);
    }

    fn tell_vuid(vuid: &Vuid, out: &mut Reply) {
        out.push(&mem::handle_text(vuid));
        out.push(b"\r\n");
    }

    /// Reads up to `length` bytes of a block.
    fn read(block: &Block, offset: u64, length: u64) -> Result<KVVec<u8>> {
        let offset = usize::try_from(offset).map_err(|_| ERANGE)?;
        let left = block.length().checked_sub(offset).ok_or(ERANGE)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(left);
        let mut bytes: KVVec<u8> = zeroed(length, GFP_KERNEL | __GFP_NOWARN)?;
        block.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// A text is written with a NUL behind it, if that fits.
    fn set_text(block: &Block, text: &[u8]) -> Result {
        block.write(0, text)?;
        if text.len() < block.length() {
            block.write(text.len(), &[0])?;
        }
        Ok(())
    }

    /// Answers with the bytes up to the first NUL.
    fn get_text(block: &Block, out: &mut Reply) -> Result {
        let mut part = [0; 512];
        let mut at = 0usize;
        // CAST: u64 fits usize.
        let most = block.length().min(ANSWER_MAX as usize);
        while at < most {
            let got = block.read(at, &mut part)?;
            let bytes = part.get(..got.min(most.saturating_sub(at))).unwrap_or(&[]);
            let end = bytes.iter().position(|byte| *byte == 0);
            out.push(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or(bytes));
            if end.is_some() {
                break;
            }
            at = at.saturating_add(bytes.len());
        }
        out.push(b"\r\n");
        Ok(())
    }

    /// A request on blocks, understood. `None`: nothing follows its line.
    fn block_request(&self, request: mem::Request<'_>, out: &mut Reply) -> Result<Option<Now>> {
        match request {
            mem::Request::Malloc(length) => {
                let node = self.0.node();
                let vuid = self
                    .blocks()
                    .malloc(node, length, Maker::NETWORK, GFP_KERNEL)?;
                Self::tell_vuid(&vuid, out);
            }
            mem::Request::Set(vuid, text) => {
                Self::set_text(&*self.find(&vuid)?, text)?;
                Self::tell_vuid(&vuid, out);
            }
            mem::Request::SetAt(vuid, offset, length) => {
                let block = self.find(&vuid)?;
                let at = usize::try_from(offset).map_err(|_| ERANGE)?;
                let left = usize::try_from(length).map_err(|_| ERANGE)?;
                block.check(at, left)?;
                return Ok(Some(Now::Fill {
                    block,
                    vuid,
                    at,
                    left,
                }));
            }
            mem::Request::Get(vuid) => Self::get_text(&*self.find(&vuid)?, out)?,
            mem::Request::GetAt(vuid, offset, length) => {
                let block = self.find(&vuid)?;
                // CAST: usize fits u64.
                let left = (block.length() as u64).saturating_sub(offset);
                if length.min(left) > ANSWER_MAX {
                    out.push(b"ERR length an answer has at most 4194304 bytes: ask for parts\r\n");
                    return Ok(None);
                }
                let bytes = Self::read(&block, offset, length)?;
                let mut head = Text::<48>::new();
                // CAST: usize fits u64.
                head.push(b"DATA ").number(bytes.len() as u64);
                out.push(head.push(b"\r\n").get());
                out.push_owned(bytes);
                out.push(b"\r\n");
            }
            mem::Request::Free(vuid) => {
                self.find(&vuid)?;
                self.blocks().free(&vuid)?;
                out.push(b"kernel memory freed\r\n");
            }
        }
        Ok(None)
    }

    /// One of the original's requests. Process context.
    fn blocks_input(&self, conn: &mut Conn, data: &[u8], out: &mut Reply) -> Consumed {
        let (request, taken) = match mem::step(data) {
            mem::Step::Whole(request, taken) => (request, taken),
            mem::Step::Part => return Consumed::more(),
            mem::Step::TooLong => {
                out.push(b"ERR line longer than 65536 bytes\r\n");
                return Consumed::close(data.len());
            }
        };
        let request = match request {
            Ok(request) => request,
            Err(wrong) => {
                out.push(wrong.answer());
                return Consumed::done(taken);
            }
        };
        match self.block_request(request, out) {
            Ok(None) => {}
            Ok(Some(now)) => conn.now = now,
            Err(error) => {
                Self::tell(error, out);
                // The bytes that follow are no request; more than a block can hold is not even
                // passed over.
                if let mem::Request::SetAt(_, _, length) = request {
                    return match usize::try_from(length) {
                        Ok(length) if length <= 64 << 20 => conn.swallow(taken, length),
                        _ => Consumed::close(taken),
                    };
                }
            }
        }
        Consumed::done(taken)
    }
}

impl Conn {
    /// Passes over a data block of `length` bytes and its end, behind a line of `taken` bytes.
    pub(crate) fn swallow(&mut self, taken: usize, length: usize) -> Consumed {
        self.now = Now::Swallow(length.saturating_add(2));
        Consumed::done(taken)
    }
}

/// One request after the other.
impl Words<'_> {
    fn input(&self, conn: &mut Conn, data: &[u8], out: &mut Reply, context: Context) -> Consumed {
        if matches!(conn.now, Now::Request) {
            if let Some((keys, taken)) = memcached::quick_get(data) {
                let Some(left) = self.values(keys, false, None, out) else {
                    return Consumed::done(taken);
                };
                conn.now = Now::Keys {
                    cas: false,
                    touch: None,
                };
                let line = QUICK.saturating_add(keys.rest().len());
                return Consumed::done(line.saturating_sub(left.rest().len()));
            }
        }
        match &mut conn.now {
            Now::Request => {}
            Now::Swallow(left) => {
                let bytes = data.len().min(*left);
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    conn.now = Now::Request;
                }
                return Consumed::done(bytes);
            }
            Now::Keys { cas, touch } => {
                let (cas, touch) = (*cas, *touch);
                // The line was whole when it came.
                let Some(end) = crate::proto::lines::find_lf(data) else {
                    return Consumed::close(data.len());
                };
                let line = data.get(..end).unwrap_or(&[]);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let keys = memcached::Words::new(line);
                let left = self.values(keys, cas, touch, out);
                return self.resume(conn, end.saturating_add(1), line, left, cas, touch);
            }
            Now::Fill {
                block,
                vuid,
                at,
                left,
            } => {
                let bytes = data.len().min(*left);
                let part = data.get(..bytes).unwrap_or(&[]);
                // Where and how much was checked at the beginning.
                let _ = block.write(*at, part);
                *at = at.saturating_add(bytes);
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    let vuid = *vuid;
                    conn.now = Now::FillEnd { vuid };
                }
                if bytes == 0 {
                    return self.input(conn, data, out, context);
                }
                return Consumed::done(bytes);
            }
            Now::FillEnd { vuid } => {
                let end = match data {
                    [b'\r', b'\n', ..] => 2,
                    [b'\n', ..] => 1,
                    [b'\r'] => return Consumed::more(),
                    _ => {
                        out.push(b"ERR data no line end behind the bytes\r\n");
                        return Consumed::close(data.len());
                    }
                };
                Self::tell_vuid(vuid, out);
                conn.now = Now::Request;
                return Consumed::done(end);
            }
        }
        let first = data.first().copied().unwrap_or(0);
        if first == 0 {
            let nuls = data.iter().take_while(|byte| **byte == 0).count();
            return Consumed::done(nuls);
        }
        if first == b'v' {
            if data.starts_with(mem::PREFIX) {
                return if context == Context::Network {
                    self.blocks_input(conn, data, out)
                } else {
                    Consumed::sleep(0)
                };
            }
            if data.len() < mem::PREFIX.len() && mem::PREFIX.starts_with(data) {
                return Consumed::more();
            }
        }
        self.memcached(conn, data, out, context)
    }
}

impl Service for Door {
    type Conn = Conn;
    const ATOMIC: bool = true;

    fn connected(&self, _peer: &Addr, _out: &mut Reply) -> Result<Conn> {
        Ok(Conn { now: Now::Request })
    }

    fn input(
        &self,
        conn: &mut Conn,
        data: &[u8],
        out: &mut Reply,
        turn: &Turn<'_, Self>,
    ) -> Consumed {
        let context = if turn.may_sleep() {
            Context::Network
        } else {
            Context::Softirq
        };
        Words(&self.pool).input(conn, data, out, context)
    }

    fn ended(&self, conn: &mut Conn, rest: &[u8], out: &mut Reply) {
        // The original's clients end their one request with the connection's half.
        if matches!(conn.now, Now::Request) && rest.starts_with(mem::PREFIX) {
            match mem::parse(rest) {
                Ok(request) => {
                    if let Err(error) = Words(&self.pool).block_request(request, out) {
                        Words::tell(error, out);
                    }
                }
                Err(wrong) => out.push(wrong.answer()),
            }
        }
    }

    fn refused(&self, why: Refusal, out: &mut Reply) {
        use core::fmt::Write;
        // A reply out of room closes the connection: nothing else to do.
        let _ = match why {
            Refusal::Connections(n) => write!(
                out,
                "ERROR Too many open connections: limit of {n} reached\r\n"
            ),
            Refusal::Frame(n) => write!(out, "CLIENT_ERROR request longer than {n} bytes\r\n"),
            Refusal::Reply(n) => write!(out, "SERVER_ERROR answers longer than {n} bytes\r\n"),
            Refusal::Idle(ms) => write!(out, "ERROR idle for {ms} ms\r\n"),
        };
    }
}
