// SPDX-License-Identifier: GPL-2.0-only
/*
 * VIRGO: the sockets beneath modules/lib/listener.rs; see shim-listener.h.
 *
 * The pattern of the callbacks is nvmet-tcp's: sk_user_data is read and
 * written under sk_callback_lock only, so once virgo_sock_detach() has
 * returned no callback will look at the hook again.
 */
#include <linux/bvec.h>
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/net.h>
#include <linux/skbuff.h>
#include <linux/uio.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "../../include/virgo/shim-listener.h"

static int virgo_to_sockaddr(const struct virgo_addr *a,
			     struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof(*ss));
	if (a->family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)ss;

		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip, 4);
		return sizeof(*in);
	}
	if (a->family == 6) {
		struct sockaddr_in6 *in = (struct sockaddr_in6 *)ss;

		in->sin6_family = AF_INET6;
		in->sin6_port = htons(a->port);
		in->sin6_scope_id = a->scope;
		memcpy(&in->sin6_addr, a->ip, 16);
		return sizeof(*in);
	}
	return -EAFNOSUPPORT;
}

static void virgo_from_sockaddr(struct virgo_addr *a,
				const struct sockaddr_storage *ss)
{
	memset(a, 0, sizeof(*a));
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

		a->family = 4;
		a->port = ntohs(in->sin_port);
		memcpy(a->ip, &in->sin_addr, 4);
	} else if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)ss;

		a->family = 6;
		a->port = ntohs(in->sin6_port);
		a->scope = in->sin6_scope_id;
		memcpy(a->ip, &in->sin6_addr, 16);
	}
}

static int virgo_sock_create(const struct virgo_addr *addr,
			     struct sockaddr_storage *ss, struct socket **out)
{
	int len = virgo_to_sockaddr(addr, ss), ret;

	if (len < 0)
		return len;
	ret = sock_create_kern(&init_net, ss->ss_family, SOCK_STREAM,
			       IPPROTO_TCP, out);
	if (ret < 0)
		return ret;
	/*
	 * Not current's page fragment: virgo_sock_send_bh() sends in softirq,
	 * where current is whoever was interrupted. Accepted sockets inherit.
	 */
	(*out)->sk->sk_use_task_frag = false;
	return len;
}

/**
 * virgo_sock_listen() - a bound, listening socket of the initial netns.
 *
 * An IPv6 address takes IPv6 clients alone (except the unspecified one, ::,
 * which takes both). Process context, sleeps. Returns 0 or -errno.
 */
int virgo_sock_listen(const struct virgo_addr *addr, int backlog,
		      struct socket **out)
{
	struct sockaddr_storage ss;
	struct socket *sock;
	int len, ret;

	len = virgo_sock_create(addr, &ss, &sock);
	if (len < 0)
		return len;
	sock_set_reuseaddr(sock->sk);
	tcp_sock_set_nodelay(sock->sk);
	ret = kernel_bind(sock, (void *)&ss, len);
	if (!ret)
		ret = kernel_listen(sock, backlog);
	if (ret < 0) {
		sock_release(sock);
		return ret;
	}
	*out = sock;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_listen, "VIRGO");

/**
 * virgo_sock_accept() - the next connection, or -EAGAIN; never waits.
 * @send_buffer: bytes the connection's send queue may hold, or 0 for the
 *	system's own tuning.
 *
 * Process context, sleeps for memory.
 */
int virgo_sock_accept(struct socket *listener, unsigned int send_buffer,
		      struct virgo_addr *peer, struct socket **out)
{
	struct sockaddr_storage ss = {};
	struct socket *sock;
	struct sock *sk;
	int ret;

	ret = kernel_accept(listener, &sock, O_NONBLOCK);
	if (ret < 0)
		return ret;
	sk = sock->sk;
	lock_sock(sk);
	sk->sk_use_task_frag = false;
	if (send_buffer) {
		sk->sk_userlocks |= SOCK_SNDBUF_LOCK;
		WRITE_ONCE(sk->sk_sndbuf,
			   max_t(int, min_t(u32, send_buffer, S32_MAX),
				 SOCK_MIN_SNDBUF));
	}
	release_sock(sk);
	/* A connection that is gone already has no peer: all zero. */
	if (kernel_getpeername(sock, (struct sockaddr *)&ss) < 0)
		ss.ss_family = AF_UNSPEC;
	virgo_from_sockaddr(peer, &ss);
	*out = sock;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_accept, "VIRGO");

/**
 * virgo_sock_connect() - a connected socket for blocking use.
 * @from: our address to connect from, whose port does not count; or NULL.
 * @connect_ms: longest wait for the connection; past it -EINPROGRESS.
 * @io_ms: longest wait of a send or a receive; past it -EAGAIN. 0: no bound.
 *
 * Process context, sleeps. Returns 0 or -errno.
 */
int virgo_sock_connect(const struct virgo_addr *addr,
		       const struct virgo_addr *from, unsigned int connect_ms,
		       unsigned int io_ms, struct socket **out)
{
	long io = io_ms ? msecs_to_jiffies(io_ms) : MAX_SCHEDULE_TIMEOUT;
	struct sockaddr_storage ss;
	struct socket *sock;
	int len, ret;

	len = virgo_sock_create(addr, &ss, &sock);
	if (len < 0)
		return len;
	tcp_sock_set_nodelay(sock->sk);
	/* connect() waits for as long as a send would. */
	lock_sock(sock->sk);
	WRITE_ONCE(sock->sk->sk_sndtimeo,
		   connect_ms ? msecs_to_jiffies(connect_ms) :
				MAX_SCHEDULE_TIMEOUT);
	WRITE_ONCE(sock->sk->sk_rcvtimeo, io);
	release_sock(sock->sk);
	if (from) {
		struct virgo_addr any_port = *from;
		struct sockaddr_storage own;
		int own_len;

		any_port.port = 0;
		own_len = virgo_to_sockaddr(&any_port, &own);
		ret = own_len < 0 ? own_len :
				    kernel_bind(sock, (void *)&own, own_len);
		if (ret < 0) {
			sock_release(sock);
			return ret;
		}
	}
	ret = kernel_connect(sock, (void *)&ss, len, 0);
	if (ret < 0) {
		sock_release(sock);
		return ret;
	}
	lock_sock(sock->sk);
	WRITE_ONCE(sock->sk->sk_sndtimeo, io);
	release_sock(sock->sk);
	*out = sock;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_connect, "VIRGO");

/** virgo_sock_free() - close; callbacks must have been restored. Sleeps. */
void virgo_sock_free(struct socket *sock)
{
	sock_release(sock);
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_free, "VIRGO");

/** virgo_sock_local() - the address the socket is bound to. */
int virgo_sock_local(struct socket *sock, struct virgo_addr *addr)
{
	struct sockaddr_storage ss = {};
	int ret = kernel_getsockname(sock, (struct sockaddr *)&ss);

	if (ret < 0)
		return ret;
	virgo_from_sockaddr(addr, &ss);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_local, "VIRGO");

/** virgo_sock_shutdown() - as shutdown(2); wakes whoever waits. Sleeps. */
int virgo_sock_shutdown(struct socket *sock, int how)
{
	return kernel_sock_shutdown(sock, how);
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_shutdown, "VIRGO");

/*
 * The hook, with sk_callback_lock held, which is what guards it: lockdep has
 * rcu_dereference_sk_user_data() complain outside an RCU section.
 */
static struct virgo_sock_hook *virgo_sock_hook_of(struct sock *sk)
{
	void *data = rcu_dereference_check(__sk_user_data(sk),
					   lockdep_is_held(&sk->sk_callback_lock));

	return (void *)((uintptr_t)data & SK_USER_DATA_PTRMASK);
}

static void virgo_sock_event(struct sock *sk)
{
	struct virgo_sock_hook *hook;

	read_lock_bh(&sk->sk_callback_lock);
	hook = virgo_sock_hook_of(sk);
	if (likely(hook))
		hook->event(hook);
	read_unlock_bh(&sk->sk_callback_lock);
}

static void virgo_sock_write_space(struct sock *sk)
{
	struct virgo_sock_hook *hook;

	read_lock_bh(&sk->sk_callback_lock);
	hook = virgo_sock_hook_of(sk);
	if (likely(hook) && sk_stream_is_writeable(sk)) {
		clear_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
		hook->event(hook);
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

/**
 * virgo_sock_attach_listener() - route a listening socket's arrivals.
 *
 * Children inherit the callback but not the hook (NOCOPY), so what reaches
 * one before it is accepted goes nowhere; the acceptor looks for itself.
 */
void virgo_sock_attach_listener(struct socket *sock,
				struct virgo_sock_hook *hook,
				struct virgo_sock_saved *saved)
{
	struct sock *sk = sock->sk;

	write_lock_bh(&sk->sk_callback_lock);
	saved->data_ready = sk->sk_data_ready;
	saved->write_space = sk->sk_write_space;
	saved->state_change = sk->sk_state_change;
	__rcu_assign_sk_user_data_with_flags(sk, hook, SK_USER_DATA_NOCOPY);
	sk->sk_data_ready = virgo_sock_event;
	write_unlock_bh(&sk->sk_callback_lock);
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_attach_listener, "VIRGO");

/**
 * virgo_sock_attach() - route an accepted connection's events to @hook.
 * @listener: what its listening socket had before it was attached: an
 *	accepted socket carries our callback by inheritance, and must not get
 *	that one back when it is detached.
 *
 * What happened before this call makes no event: look once afterwards.
 */
void virgo_sock_attach(struct socket *sock, struct virgo_sock_hook *hook,
		       const struct virgo_sock_saved *listener,
		       struct virgo_sock_saved *saved)
{
	struct sock *sk = sock->sk;

	write_lock_bh(&sk->sk_callback_lock);
	*saved = *listener;
	rcu_assign_sk_user_data(sk, hook);
	sk->sk_data_ready = virgo_sock_event;
	sk->sk_write_space = virgo_sock_write_space;
	sk->sk_state_change = virgo_sock_event;
	write_unlock_bh(&sk->sk_callback_lock);
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_attach, "VIRGO");

/** virgo_sock_detach() - after it, no callback touches the hook. */
void virgo_sock_detach(struct socket *sock,
		       const struct virgo_sock_saved *saved)
{
	struct sock *sk = sock->sk;

	write_lock_bh(&sk->sk_callback_lock);
	sk->sk_data_ready = saved->data_ready;
	sk->sk_write_space = saved->write_space;
	sk->sk_state_change = saved->state_change;
	rcu_assign_sk_user_data(sk, NULL);
	write_unlock_bh(&sk->sk_callback_lock);
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_detach, "VIRGO");

static u32 virgo_sock_status(const struct sock *sk)
{
	if (READ_ONCE(sk->sk_state) != TCP_ESTABLISHED ||
	    READ_ONCE(sk->sk_err) ||
	    (READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN))
		return VIRGO_SOCK_ENDING;
	return 0;
}

/** virgo_sock_ending() - the peer has said its last, or is gone. Any context. */
int virgo_sock_ending(struct socket *sock)
{
	return virgo_sock_status(sock->sk) != 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_ending, "VIRGO");

/**
 * virgo_sock_since_segment_ns() - since the peer's last acceptable segment.
 *
 * To the jiffy, and never more than it was. Any context.
 */
u64 virgo_sock_since_segment_ns(struct socket *sock)
{
	u32 jiffies32 = tcp_jiffies32 - READ_ONCE(tcp_sk(sock->sk)->rcv_tstamp);

	return jiffies32 ? jiffies_to_nsecs(jiffies32 - 1) : 0;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_since_segment_ns, "VIRGO");

/**
 * virgo_sock_recv() - kernel_recvmsg() into one buffer.
 * @status: VIRGO_SOCK_ENDING where the stream has more to tell than these
 *	bytes, even though there were fewer than asked for.
 *
 * Process context.
 */
long virgo_sock_recv(struct socket *sock, void *buf, size_t len, int flags,
		     u32 *status)
{
	struct kvec vec = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = { .msg_flags = flags | MSG_NOSIGNAL };
	long ret = kernel_recvmsg(sock, &msg, &vec, 1, len, msg.msg_flags);

	*status = virgo_sock_status(sock->sk);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_recv, "VIRGO");

/** virgo_sock_send() - kernel_sendmsg(), never a signal. Process context. */
long virgo_sock_send(struct socket *sock, struct kvec *vec, size_t n,
		     size_t len, int flags)
{
	struct msghdr msg = { .msg_flags = flags | MSG_NOSIGNAL };

	return kernel_sendmsg(sock, &msg, vec, n, len);
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_send, "VIRGO");


/**
 * virgo_sock_send_pages() - send bytes of pages that are not copied.
 * @page: of virgo_message_alloc(); the socket takes references of its own, and
 *	the bytes must not change while it has them.
 *
 * Process context.
 */
long virgo_sock_send_pages(struct socket *sock, struct page *page, size_t from,
			   size_t len, int flags)
{
	struct msghdr msg = { .msg_flags = flags | MSG_NOSIGNAL | MSG_SPLICE_PAGES };
	struct bio_vec vec;

	bvec_set_page(&vec, page, len, from);
	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, &vec, 1, len);
	return sock_sendmsg(sock, &msg);
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_send_pages, "VIRGO");

/**
 * virgo_message_alloc() - zeroed pages in one run, as struct page.
 * @data: set to their address.
 * @room: set to how many bytes they have, @size or more.
 *
 * NULL without memory, or for more than one allocation gives. May sleep.
 */
struct page *virgo_message_alloc(size_t size, u8 **data, size_t *room)
{
	unsigned int order = get_order(size);
	struct page *page;

	if (!size || order > PAGE_ALLOC_COSTLY_ORDER + 2)
		return NULL;
	page = alloc_pages(GFP_KERNEL | __GFP_COMP | __GFP_ZERO | __GFP_NOWARN |
			   __GFP_NORETRY, order);
	if (!page)
		return NULL;
	*data = page_address(page);
	*room = PAGE_SIZE << order;
	return page;
}
EXPORT_SYMBOL_NS_GPL(virgo_message_alloc, "VIRGO");

void virgo_message_free(struct page *page)
{
	put_page(page);
}
EXPORT_SYMBOL_NS_GPL(virgo_message_free, "VIRGO");

/** virgo_message_idle() - nobody else has references on the pages. */
bool virgo_message_idle(struct page *page)
{
	/* What others read of them is over before we write. */
	if (folio_ref_count(page_folio(page)) != 1)
		return false;
	smp_mb();
	return true;
}
EXPORT_SYMBOL_NS_GPL(virgo_message_idle, "VIRGO");

static int virgo_read_actor(read_descriptor_t *desc, struct sk_buff *skb,
			    unsigned int offset, size_t len)
{
	u8 *to = desc->arg.data;
	size_t n = min(len, desc->count);

	if (!n || skb_copy_bits(skb, offset, to, n))
		return 0;
	desc->arg.data = to + n;
	desc->count -= n;
	return n;
}

/**
 * virgo_sock_recv_bh() - what has arrived, in softirq.
 * @status: VIRGO_SOCK_ENDING where the stream has more to tell than bytes.
 *
 * Returns the bytes copied (0: none), or -EAGAIN where a process holds the
 * socket: ask again in process context.
 */
long virgo_sock_recv_bh(struct socket *sock, void *buf, size_t len,
			u32 *status)
{
	read_descriptor_t desc = { .arg.data = buf, .count = len };
	struct sock *sk = sock->sk;
	long ret = -EAGAIN;

	*status = 0;
	bh_lock_sock(sk);
	if (!sock_owned_by_user(sk)) {
		ret = tcp_read_sock(sk, &desc, virgo_read_actor);
		*status = virgo_sock_status(sk);
		/* An urgent byte stops tcp_read_sock(): recvmsg() skips it. */
		if (tcp_sk(sk)->urg_data)
			*status = VIRGO_SOCK_ENDING;
	}
	bh_unlock_sock(sk);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_recv_bh, "VIRGO");

/**
 * virgo_sock_send_bh() - send what fits, in softirq.
 *
 * As espintcp does: the socket's spinlock held, nobody its owner, and every
 * allocation atomic. Returns bytes, -EAGAIN (write_space will tell), or
 * another -errno.
 */
long virgo_sock_send_bh(struct socket *sock, struct kvec *vec, size_t n,
			size_t len)
{
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
	struct sock *sk = sock->sk;
	long ret = -EBUSY;

	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, vec, n, len);
	bh_lock_sock(sk);
	if (!sock_owned_by_user(sk)) {
		gfp_t gfp = sk->sk_allocation;

		sk->sk_allocation = GFP_ATOMIC;
		ret = tcp_sendmsg_locked(sk, &msg, len);
		sk->sk_allocation = gfp;
	}
	bh_unlock_sock(sk);
	return ret;
}
EXPORT_SYMBOL_NS_GPL(virgo_sock_send_bh, "VIRGO");
