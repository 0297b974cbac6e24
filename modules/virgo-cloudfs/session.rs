// SPDX-License-Identifier: GPL-2.0-only

//! One client of the 9P door: its fids, its lock owners, and its requests under way.

use kernel::{
    prelude::*,
    rbtree::RBTree,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use crate::{
    errno,
    export::{
        Export,
        HandleTicket,
        RoomTicket,
        User, //
    },
    lib::{
        listener::Responder,
        vfs::{
            LockOwner,
            OpenFile,
            Place, //
        }, //
    },
    ops::Answer,
    server::Door,
};

/// Most requests of one client under way; then no more is read from it.
const MAX_FLYING: usize = 128;

/// Most lock owners, which are processes, of one client.
const MAX_OWNERS: usize = 4096;

/// What a fid is used for.
pub(crate) enum Use {
    /// It names a place.
    Idle,
    /// It is an open file or folder.
    Open(Arc<OpenFile>),
    /// It is the value of an extended attribute, or the list of their names.
    Value(KVVec<u8>),
    /// It becomes the value of one when it is clunked.
    NewValue(Pin<KBox<NewValue>>),
}

/// An extended attribute on its way.
#[pin_data]
pub(crate) struct NewValue {
    pub(crate) name: CString,
    pub(crate) size: usize,
    pub(crate) flags: i32,
    #[pin]
    pub(crate) data: Mutex<KVVec<u8>>,
    _room: RoomTicket,
}

impl NewValue {
    /// An attribute that will have `size` bytes, for which there is `room`.
    pub(crate) fn new(
        name: CString,
        size: usize,
        flags: i32,
        room: RoomTicket,
    ) -> Result<Pin<KBox<Self>>> {
        let data = KVVec::with_capacity(size, GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(NewValue {
                name,
                size,
                flags,
                data <- kernel::new_mutex!(data),
                _room: room,
            }),
            GFP_KERNEL,
        )
    }
}

/// A place that a client holds. It does not change: what changes a fid puts another in its place.
pub(crate) struct Fid {
    pub(crate) place: Place,
    pub(crate) used: Use,
    /// Open for writing.
    pub(crate) writable: bool,
    _ticket: HandleTicket,
}

impl Fid {
    /// A fid of a place, with a ticket of its own.
    pub(crate) fn new(
        export: &Arc<Export>,
        place: Place,
        used: Use,
        writable: bool,
    ) -> Result<Arc<Self>> {
        let ticket = export.handle()?;
        Ok(Arc::new(
            Fid {
                place,
                used,
                writable,
                _ticket: ticket,
            },
            GFP_KERNEL,
        )?)
    }

    /// The open file. `EBADF` if it is none.
    pub(crate) fn file(&self) -> Result<&Arc<OpenFile>> {
        match &self.used {
            Use::Open(file) => Ok(file),
            _ => Err(EBADF),
        }
    }
}

/// A request under way.
struct Flight {
    tag: u16,
    number: u64,
    /// It is for a lock.
    locks: bool,
    /// The answer to a flush of it, given when it is done.
    flush: Option<(Responder<Door>, KVVec<u8>)>,
}

struct State {
    /// Agreed length of messages; 0 before there is a version.
    msize: u32,
    fids: RBTree<u32, Arc<Fid>>,
    count: u32,
    owners: RBTree<u32, Arc<LockOwner>>,
    owner_count: usize,
    flying: KVec<Flight>,
    next: u64,
    /// Who makes the connection go on, while there is too much under way.
    parked: Option<Responder<Door>>,
    over: bool,
}

impl State {
    /// Takes a request that is under way out of the list, whose order means nothing.
    fn take(&mut self, is: impl FnMut(&Flight) -> bool) -> Option<Flight> {
        let at = self.flying.iter().position(is)?;
        let last = self.flying.pop()?;
        match self.flying.get_mut(at) {
            Some(place) => Some(core::mem::replace(place, last)),
            None => Some(last),
        }
    }
}

/// What is left of a session when it is reset; its drop closes files, so it may take long.
pub(crate) struct Rest {
    _fids: RBTree<u32, Arc<Fid>>,
    _owners: RBTree<u32, Arc<LockOwner>>,
    _parked: Option<Responder<Door>>,
    _flying: KVec<Flight>,
}

/// One client.
#[pin_data]
pub(crate) struct Session {
    pub(crate) export: Arc<Export>,
    pub(crate) user: User,
    #[pin]
    state: Mutex<State>,
}

impl Session {
    /// A client that has said nothing yet.
    pub(crate) fn new(export: Arc<Export>, user: User) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Session {
                export,
                user,
                state <- kernel::new_mutex!(State {
                    msize: 0,
                    fids: RBTree::new(),
                    count: 0,
                    owners: RBTree::new(),
                    owner_count: 0,
                    flying: KVec::new(),
                    next: 0,
                    parked: None,
                    over: false,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether changing files is forbidden.
    pub(crate) fn read_only(&self) -> bool {
        self.user.read_only
    }

    /// Agreed length of messages; 0 before there is a version.
    pub(crate) fn msize(&self) -> u32 {
        self.state.lock().msize
    }

    /// Begins anew with this length of messages: no fids, nothing under way. With `over`, for ever.
    /// What is returned must be dropped where closing files is no trouble.
    pub(crate) fn reset(&self, msize: u32, over: bool) -> Rest {
        let mut state = self.state.lock();
        state.msize = msize;
        state.over |= over;
        state.count = 0;
        state.owner_count = 0;
        Rest {
            _flying: core::mem::replace(&mut state.flying, KVec::new()),
            _fids: core::mem::replace(&mut state.fids, RBTree::new()),
            _owners: core::mem::replace(&mut state.owners, RBTree::new()),
            _parked: state.parked.take(),
        }
    }

    /// Whether there is too much under way; then the connection is made to go on later.
    pub(crate) fn park(&self, responder: impl FnOnce() -> Responder<Door>) -> bool {
        let mut state = self.state.lock();
        if state.flying.len() < MAX_FLYING {
            return false;
        }
        let old = state.parked.replace(responder());
        drop(state);
        drop(old);
        true
    }

    /// Whether a request with this tag is under way.
    pub(crate) fn is_flying(&self, tag: u16) -> bool {
        let state = self.state.lock();
        state.flying.iter().any(|flight| flight.tag == tag)
    }

    /// A request begins; its number. `EBUSY` if one with this tag is under way.
    pub(crate) fn begin(&self, tag: u16, locks: bool) -> Result<u64> {
        let mut state = self.state.lock();
        if state.flying.iter().any(|flight| flight.tag == tag) {
            return Err(EBUSY);
        }
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        let flight = Flight {
            tag,
            number,
            locks,
            flush: None,
        };
        state.flying.push(flight, GFP_KERNEL)?;
        Ok(number)
    }

    /// Whether a request still wants its answer.
    pub(crate) fn is_wanted(&self, number: u64) -> bool {
        let state = self.state.lock();
        let mut flying = state.flying.iter();
        flying.any(|flight| flight.number == number && flight.flush.is_none())
    }

    /// A request is done: answers it, unless it has been flushed; then a lock that it was given is
    /// taken back, and the flush answered.
    pub(crate) fn finish(&self, number: u64, responder: Responder<Door>, answer: Answer) {
        let mut state = self.state.lock();
        let flight = state.take(|flight| flight.number == number);
        let is_wanted = flight.as_ref().is_some_and(|flight| flight.flush.is_none());
        let granted = match answer {
            Answer::Granted(_, granted) if !is_wanted => Some(granted),
            _ if !is_wanted => None,
            // Under the lock, so that a flush that does not find it comes after it. Without
            // memory the connection closes.
            Answer::Short(bytes) | Answer::Granted(bytes, _) => {
                let _ = responder.answer(bytes);
                None
            }
            Answer::Long(bytes) => {
                let _ = responder.answer_shared(bytes);
                None
            }
        };
        let parked = if flight.is_some() && state.flying.len() <= MAX_FLYING / 2 {
            state.parked.take()
        } else {
            None
        };
        drop(state);
        drop(parked);
        if let Some(granted) = granted {
            granted.take_back();
        }
        if let Some((responder, answer)) = flight.and_then(|flight| flight.flush) {
            let _ = responder.answer(answer);
        }
    }

    /// Gives a request up: it will not be answered. Then `answer` is, the flush's own: at once, but
    /// that of a lock only when the lock is not had: the client may ask for it anew after that.
    pub(crate) fn flush(&self, tag: u16, responder: Responder<Door>, answer: KVVec<u8>) {
        let mut state = self.state.lock();
        let mut flying = state.flying.iter_mut();
        let waits = flying.find(|flight| flight.tag == tag && flight.locks);
        let gone = match waits {
            Some(flight) if flight.flush.is_none() => {
                flight.flush = Some((responder, answer));
                return;
            }
            // Flushed twice.
            Some(_) => None,
            None => state.take(|flight| flight.tag == tag),
        };
        // As in `finish`.
        let _ = responder.answer(answer);
        drop(state);
        drop(gone);
    }

    /// The fid with this number. `EBADF` if there is none.
    pub(crate) fn fid(&self, number: u32) -> Result<Arc<Fid>> {
        self.state.lock().fids.get(&number).cloned().ok_or(EBADF)
    }

    /// Puts a fid in. `EBADF` if the number is in use, `EMFILE` if the client has too many.
    pub(crate) fn insert(&self, number: u32, fid: Arc<Fid>) -> Result {
        let mut state = self.state.lock();
        if state.over || state.fids.get(&number).is_some() {
            return Err(EBADF);
        }
        if state.count >= self.export.limits.client_handles {
            return Err(EMFILE);
        }
        state.fids.try_create_and_insert(number, fid, GFP_KERNEL)?;
        state.count = state.count.saturating_add(1);
        Ok(())
    }

    /// Puts `new` where `old` was. `EBADF` if it is not there any more.
    pub(crate) fn replace(&self, number: u32, old: &Arc<Fid>, new: Arc<Fid>) -> Result {
        let mut state = self.state.lock();
        let place = state.fids.get_mut(&number).ok_or(EBADF)?;
        if !Arc::ptr_eq(place, old) {
            return Err(EBADF);
        }
        let old = core::mem::replace(place, new);
        drop(state);
        drop(old);
        Ok(())
    }

    /// Takes a fid out. `EBADF` if there is none.
    pub(crate) fn remove(&self, number: u32) -> Result<Arc<Fid>> {
        let mut state = self.state.lock();
        let fid = state.fids.remove(&number).ok_or(EBADF)?;
        state.count = state.count.saturating_sub(1);
        Ok(fid)
    }

    /// Whose locks those of a process of the client are. `ENOLCK` for too many processes.
    pub(crate) fn owner(&self, process: u32) -> Result<Arc<LockOwner>> {
        let mut state = self.state.lock();
        if let Some(owner) = state.owners.get(&process) {
            return Ok(owner.clone());
        }
        if state.owner_count >= MAX_OWNERS {
            return Err(errno::enolck());
        }
        let owner = LockOwner::new()?;
        state
            .owners
            .try_create_and_insert(process, owner.clone(), GFP_KERNEL)?;
        state.owner_count = state.owner_count.saturating_add(1);
        Ok(owner)
    }
}
