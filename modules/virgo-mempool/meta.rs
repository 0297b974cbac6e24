// SPDX-License-Identifier: GPL-2.0-only

//! memcached's meta commands.

use crate::{
    door::Conn,
    lib::listener::{
        Consumed,
        Reply, //
    },
    logic::kv::{
        is_large,
        Count,
        Mode,
        Put,
        Refused,
        Value,
        SHARED,
        STALE,
        WON, //
    },
    memory::Big,
    proto::memcached::{
        self,
        Meta,
        MetaVerb,
        KEY_MAX, //
    },
    store::{
        Context,
        Failure,
        PutRequest,
        Store, //
    },
    text::Text,
};

/// The longest answer line: a key, an opaque token, and a dozen numbers.
type Line = Text<896>;

/// What an operation under the lock came to.
enum Done {
    /// The answer is in the line; a value that is to follow it.
    Answer(Option<Big>),
    /// It takes so many bytes of room first.
    Room(usize),
}

/// Appends the flags of the request that an answer repeats.
fn echo(meta: &Meta<'_>, line: &mut Line) {
    for word in meta.flags {
        match word.first() {
            Some(b'O') => {
                line.push(b" ").push(word);
            }
            Some(b'k') => key(meta, line),
            _ => {}
        }
    }
}

fn key(meta: &Meta<'_>, line: &mut Line) {
    line.push(b" k").push(meta.key);
    if meta.base64 {
        line.push(b" b");
    }
}

/// Appends the seconds that are left.
fn left(exp: u32, now: u32, line: &mut Line) {
    line.push(b" t");
    if exp == 0 {
        line.push(b"-1");
    } else {
        line.number(exp.saturating_sub(now).into());
    }
}

fn get(
    store: &Store,
    meta: &Meta<'_>,
    name: &[u8],
    context: Context,
    out: &mut Reply,
) -> Result<(), Failure> {
    let ttl = meta.ttl.map(|ttl| store.expiry(ttl));
    let vivify = meta.vivify.map(|ttl| store.expiry(ttl));
    let recache = meta.recache.map(|ttl| store.expiry(ttl));
    loop {
        let mut line = Line::new();
        let done = store.with_item(name, context, |bank, at, hash, now| {
            line = Line::new();
            let mut created = false;
            let at = match (at, vivify) {
                (None, Some(exp)) => {
                    bank.shard.put(&Put {
                        hash,
                        key: name,
                        value: Value::Bytes(&[]),
                        flags: 0,
                        exp,
                        mode: Mode::Add,
                        cas: None,
                        new_cas: meta.new_cas,
                        invalidate: false,
                        vivify: None,
                        now,
                    })?;
                    created = true;
                    bank.shard.find(hash, name, now)
                }
                (at, _) => at,
            };
            let item = at.and_then(|at| bank.shard.item(at).map(|item| (at, item)));
            let Some((at, item)) = item else {
                bank.tally.get_misses = bank.tally.get_misses.wrapping_add(1);
                return Err(Refused::NotFound);
            };
            let value = meta.value && meta.cas != Some(item.cas);
            let inline = if value && item.large.is_none() {
                item.value.len()
            } else {
                0
            };
            if out.room() < inline.saturating_add(1024) {
                return Ok((Done::Room(inline.saturating_add(1024)), created));
            }
            let mut won = created;
            let exp = ttl.unwrap_or(item.exp);
            // CAST: usize fits u64.
            let length = item.value.len() as u64;
            if value {
                line.push(b"VA ").number(length);
            } else {
                line.push(b"HD");
            }
            // The end that the flags before T see is the old one.
            let mut end = item.exp;
            for word in meta.flags {
                match word.first() {
                    Some(b'T') => end = exp,
                    Some(b'R') => {
                        won |= item.marks & WON == 0
                            && !created
                            && end != 0
                            && recache.is_some_and(|recache| end < recache);
                    }
                    Some(b's') => {
                        line.push(b" s").number(length);
                    }
                    Some(b't') => left(end, now, &mut line),
                    Some(b'c') => {
                        line.push(b" c").number(item.cas);
                    }
                    Some(b'f') => {
                        line.push(b" f").number(item.flags.into());
                    }
                    Some(b'l') => {
                        let ago = now.saturating_sub(item.access);
                        line.push(b" l").number(ago.into());
                    }
                    Some(b'h') => {
                        line.push(if item.fetched { b" h1" } else { b" h0" });
                    }
                    Some(b'O') => {
                        line.push(b" ").push(word);
                    }
                    Some(b'k') => key(meta, &mut line),
                    _ => {}
                }
            }
            if item.marks & WON != 0 {
                line.push(b" Z");
            }
            if item.marks & STALE != 0 {
                line.push(b" X");
                won |= item.marks & WON == 0;
            }
            if won {
                line.push(b" W");
            }
            line.push(b"\r\n");
            out.push(line.get());
            let large = item.large.filter(|_| value).cloned();
            if value && large.is_none() {
                out.push(item.value);
                out.push(b"\r\n");
            }
            if ttl.is_some() {
                bank.shard.set_exp(at, exp);
                bank.tally.touch_hits = bank.tally.touch_hits.wrapping_add(1);
            }
            if won {
                bank.shard.set_marks(at, WON, 0);
            }
            if !meta.untouched {
                bank.shard.hit(at, now);
            }
            bank.tally.get_hits = bank.tally.get_hits.wrapping_add(1);
            Ok((Done::Answer(large), created || ttl.is_some()))
        });
        match done {
            Ok(Done::Room(bytes)) => {
                if !out.reserve(bytes) {
                    return Ok(());
                }
            }
            Ok(Done::Answer(large)) => {
                if let Some(big) = large {
                    out.push_shared(big.0);
                    out.push(b"\r\n");
                }
                return Ok(());
            }
            Err(Failure::NotFound) => {
                if !meta.quiet {
                    line.push(b"EN");
                    echo(meta, &mut line);
                    out.push(line.push(b"\r\n").get());
                }
                return Ok(());
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn set(
    store: &Store,
    meta: &Meta<'_>,
    name: &[u8],
    value: &[u8],
    mode: Mode,
    context: Context,
    out: &mut Reply,
) -> Result<(), Failure> {
    let joins = matches!(mode, Mode::Append | Mode::Prepend);
    let put = PutRequest {
        key: name,
        value,
        flags: meta.user_flags,
        exp: store.expiry(meta.ttl.unwrap_or(0)),
        mode,
        cas: meta.cas,
        new_cas: meta.new_cas,
        invalidate: meta.invalidate,
        vivify: meta.vivify.filter(|_| joins).map(|ttl| store.expiry(ttl)),
    };
    let (code, stored) = match store.put(&put, context) {
        Ok(stored) => (b"HD", Some(stored)),
        Err(Failure::Exists) => (b"EX", None),
        Err(Failure::NotFound) => (b"NF", None),
        Err(Failure::NotStored) => (b"NS", None),
        Err(failure) => return Err(failure),
    };
    if stored.is_some() && meta.quiet {
        return Ok(());
    }
    let mut line = Line::new();
    line.push(code);
    for word in meta.flags {
        match word.first() {
            Some(b'O') => {
                line.push(b" ").push(word);
            }
            Some(b'k') => key(meta, &mut line),
            Some(b'c') => {
                line.push(b" c")
                    .number(stored.map_or(0, |stored| stored.cas));
            }
            Some(b's') => {
                // CAST: usize fits u64.
                let length = stored.map_or(value.len() as u64, |stored| stored.len.into());
                line.push(b" s").number(length);
            }
            _ => {}
        }
    }
    out.push(line.push(b"\r\n").get());
    Ok(())
}

fn delete(
    store: &Store,
    meta: &Meta<'_>,
    name: &[u8],
    context: Context,
    out: &mut Reply,
) -> Result<(), Failure> {
    let ttl = meta.ttl.map(|ttl| store.expiry(ttl));
    let done = store.with_item(name, context, |bank, at, _, now| {
        let item = at.and_then(|at| bank.shard.item(at).map(|item| (at, item.cas)));
        let Some((mut at, cas)) = item else {
            bank.tally.delete_misses = bank.tally.delete_misses.wrapping_add(1);
            return Err(Refused::NotFound);
        };
        if meta.cas.is_some_and(|given| given != cas) {
            bank.tally.delete_misses = bank.tally.delete_misses.wrapping_add(1);
            return Err(Refused::Exists);
        }
        if meta.empty {
            (at, _) = bank.shard.empty(at, meta.new_cas, now)?;
            bank.shard.set_exp(at, ttl.unwrap_or(0));
        }
        if meta.invalidate {
            if let Some(exp) = ttl {
                bank.shard.set_exp(at, exp);
            }
            bank.shard.set_marks(at, STALE, WON);
            bank.shard.set_cas(at, meta.new_cas);
        } else {
            bank.tally.delete_hits = bank.tally.delete_hits.wrapping_add(1);
            if !meta.empty {
                bank.shard.remove(at);
                return Ok(((), false));
            }
        }
        Ok(((), true))
    });
    let code = match done {
        Ok(()) if meta.quiet => return Ok(()),
        Ok(()) => b"HD",
        Err(Failure::NotFound) => b"NF",
        Err(Failure::Exists) => b"EX",
        Err(failure) => return Err(failure),
    };
    let mut line = Line::new();
    line.push(code);
    echo(meta, &mut line);
    out.push(line.push(b"\r\n").get());
    Ok(())
}

fn count(
    store: &Store,
    meta: &Meta<'_>,
    name: &[u8],
    decrement: bool,
    context: Context,
    out: &mut Reply,
) -> Result<(), Failure> {
    let ttl = meta.ttl.map(|ttl| store.expiry(ttl));
    let vivify = meta.vivify.map(|ttl| store.expiry(ttl));
    let done = store.with_item(name, context, |bank, at, hash, now| {
        let (number, stored) = bank.shard.count(&Count {
            hash,
            key: name,
            delta: meta.delta,
            decrement,
            initial: vivify.map(|exp| (meta.initial, exp)),
            cas: meta.cas,
            new_cas: meta.new_cas,
            now,
        })?;
        let tally = &mut bank.tally;
        let hits = match (at.is_some(), decrement) {
            (true, true) => &mut tally.decr_hits,
            (true, false) => &mut tally.incr_hits,
            (false, true) => &mut tally.decr_misses,
            (false, false) => &mut tally.incr_misses,
        };
        *hits = hits.wrapping_add(1);
        let mut exp = 0;
        if let Some(at) = bank.shard.find(hash, name, now) {
            if let Some(ttl) = ttl {
                bank.shard.set_exp(at, ttl);
            }
            exp = bank.shard.item(at).map_or(0, |item| item.exp);
        }
        Ok(((number, stored, exp, now), true))
    });
    let mut line = Line::new();
    match done {
        Ok(_) if meta.quiet => return Ok(()),
        Ok((number, stored, exp, now)) => {
            let mut digits = Text::<20>::new();
            digits.number(number);
            if meta.value {
                // CAST: usize fits u64.
                line.push(b"VA ").number(digits.get().len() as u64);
            } else {
                line.push(b"HD");
            }
            for word in meta.flags {
                match word.first() {
                    Some(b'c') => {
                        line.push(b" c").number(stored.cas);
                    }
                    Some(b't') => left(exp, now, &mut line),
                    Some(b'O') => {
                        line.push(b" ").push(word);
                    }
                    Some(b'k') => key(meta, &mut line),
                    _ => {}
                }
            }
            if meta.value {
                line.push(b"\r\n").push(digits.get());
            }
        }
        Err(failure) => {
            let code = match failure {
                Failure::NotFound => b"NF",
                Failure::Exists => b"EX",
                failure => return Err(failure),
            };
            line.push(code);
            echo(meta, &mut line);
        }
    }
    out.push(line.push(b"\r\n").get());
    Ok(())
}

fn debug(store: &Store, meta: &Meta<'_>, name: &[u8], out: &mut Reply) {
    let now = store.now();
    let line = store.read(name, false, |item| {
        let item = item?;
        let mut line = Line::new();
        line.push(b"ME ").push(meta.key).push(b" exp=");
        if item.exp == 0 {
            line.push(b"-1");
        } else {
            line.number(item.exp.saturating_sub(now).into());
        }
        line.push(b" la=")
            .number(now.saturating_sub(item.access).into());
        line.push(b" cas=").number(item.cas).push(b" fetch=");
        line.push(if item.fetched { b"yes" } else { b"no" });
        line.push(if item.large.is_some() {
            b" cls=2"
        } else {
            b" cls=1"
        });
        line.push(b" size=").number(item.size);
        if item.marks & SHARED != 0 {
            line.push(b" shared=yes");
        }
        line.push(b"\r\n");
        Some(line)
    });
    match line.flatten() {
        Some(line) => out.push(line.get()),
        None => out.push(b"EN\r\n"),
    }
}

/// Serves a meta command, whose line is the first `taken` bytes of `data`.
#[allow(clippy::too_many_arguments, reason = "the parts of a request")]
pub(crate) fn serve(
    store: &Store,
    conn: &mut Conn,
    verb: MetaVerb,
    meta: &Meta<'_>,
    data: &[u8],
    taken: usize,
    context: Context,
    out: &mut Reply,
) -> Consumed {
    let mut room = [0; KEY_MAX];
    let name = meta.plain_key(&mut room);
    let mut whole = taken;
    let result = match verb {
        MetaVerb::Get => get(store, meta, name, context, out),
        MetaVerb::Delete => delete(store, meta, name, context, out),
        MetaVerb::Debug => {
            debug(store, meta, name, out);
            Ok(())
        }
        MetaVerb::Count => {
            let decrement = matches!(meta.mode, Some(b'D' | b'-'));
            count(store, meta, name, decrement, context, out)
        }
        MetaVerb::Set(length) => {
            let mode = match meta.mode {
                Some(b'E') => Mode::Add,
                Some(b'A') => Mode::Append,
                Some(b'P') => Mode::Prepend,
                Some(b'R') => Mode::Replace,
                // The parser knows which there are.
                _ => Mode::Set,
            };
            if !store.fits(name.len(), length) {
                out.push(memcached::TOO_LARGE);
                let _ = store.delete(name, None);
                return conn.swallow(taken, length);
            }
            let end = taken.saturating_add(length);
            whole = end.saturating_add(2);
            match data.get(end..whole) {
                None => return Consumed::more(),
                Some(b"\r\n") => {}
                Some(_) => {
                    out.push(memcached::BAD_CHUNK);
                    return Consumed::done(whole);
                }
            }
            if !is_large(name.len(), length) || context != Context::Softirq {
                let value = data.get(taken..end).unwrap_or(&[]);
                set(store, meta, name, value, mode, context, out)
            } else {
                Err(Failure::WouldSleep)
            }
        }
    };
    match result {
        Ok(()) => {}
        Err(Failure::WouldSleep) => return Consumed::sleep(0),
        Err(Failure::NotNumber) => out.push(memcached::NOT_NUMBER),
        Err(Failure::TooLarge) => out.push(memcached::TOO_LARGE),
        Err(_) => {
            out.push(memcached::NO_MEMORY);
            if matches!(verb, MetaVerb::Set(_)) {
                // As memcached: what was there would be out of date.
                let _ = store.delete(name, None);
            }
        }
    }
    Consumed::done(whole)
}
